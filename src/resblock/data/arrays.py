"""Arrays in one ``.npz``, as Keras (``x_train``, ``y_train``, …) and MedMNIST (``train_images``, …) ship them.

Arrays are streamed out of the archive, so that neither a large one nor one that only unpacks to a large one fills the
memory.
"""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from resblock.core.splits import SPLIT_NAMES, SplitName
from resblock.data.collection import (
    SPLIT_WORDS,
    Collection,
    Files,
    Numbered,
    ReadError,
    Seen,
    Unreadable,
    Wishes,
    named_classes,
)
from resblock.data.pictures import resized

AT_ONCE = 2**22  # bytes read at once
PLAUSIBLE = 100  # times that pictures shrink at most when they are packed
SAFE = 2**28  # bytes that may shrink as they like
MOST_LABELS = 2**27  # bytes of one array of labels
IMAGES, LABELS = ("x_{}", "{}_images"), ("y_{}", "{}_labels")  # Keras', MedMNIST's
DAMAGED = (  # what NumPy, zipfile and zlib raise on damage is no closed list
    *(OSError, ValueError, TypeError, KeyError, EOFError, RuntimeError, NotImplementedError, OverflowError),
    *(SyntaxError, MemoryError, tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)


@dataclass(frozen=True)
class _Array:
    """One array of the archive, not read yet."""

    archive: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def rows(self) -> Iterator[np.ndarray]:
        """Yield parts of the array along its first axis. Raises ReadError where it is damaged."""
        row = self.dtype.itemsize * int(np.prod(self.shape[1:]))
        count = max(1, AT_ONCE // max(1, row))
        with _reading(self.archive), zipfile.ZipFile(self.archive) as archive, archive.open(self.name) as file:
            _header(file)
            for start in range(0, self.shape[0], count):
                shape = (min(count, self.shape[0] - start), *self.shape[1:])
                content = _exactly(file, row * shape[0])
                yield np.frombuffer(content, self.dtype).reshape(shape)

    def whole(self) -> np.ndarray:
        """Return the array in memory. Raises ReadError where it is damaged."""
        parts = list(self.rows())
        return np.concatenate(parts) if parts else np.empty(self.shape, self.dtype)


def read(files: Files, wishes: Wishes) -> Collection:
    """Read the arrays of one archive; splits keep the order train, validation, test. Raises ReadError."""
    names = files.ending(".npz")
    if len(names) != 1:
        raise ReadError(f"{files.root}: expected one .npz, found {len(names)}; keep one of them there")
    path = files.path(names[0])
    arrays = _arrays(path)
    found = {split: pair for split in SPLIT_NAMES if (pair := _pair(arrays, split, path))}
    if "train" not in found:
        raise ReadError(
            f"{path}: holds {', '.join(arrays) or 'nothing'}; expected x_train and y_train, or train_images and "
            "train_labels, and the same for test and val"
        )
    shape = _shape([images for images, _ in found.values()], wishes)
    values, labels = _labels([array for _, array in found.values()])
    counts = [images.shape[0] for images, _ in found.values()]
    return Collection(
        classes=named_classes([_word(value) for value in values], wishes),
        labels=labels,
        parts=np.repeat(np.array([SPLIT_NAMES.index(split) for split in found], np.int8), counts),
        image_shape=shape,
        pictures=lambda: _pictures([images for images, _ in found.values()], shape),
        names=Numbered([(count, split + " image ") for split, count in zip(found, counts, strict=True)]),
    )


def _pictures(arrays: Sequence[_Array], shape: tuple[int, int, int]) -> Iterator[Seen | Unreadable]:
    for array in arrays:
        height, width = array.shape[1:3]
        for part in array.rows():
            yield from (Seen(resized(image.reshape(height, width, -1), shape), (width, height)) for image in part)


def _arrays(path: Path) -> Mapping[str, _Array]:
    """Return the arrays in the archive by name, from their headers alone. Raises ReadError."""
    found: dict[str, _Array] = {}
    with _reading(path), zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if not entry.filename.endswith(".npy"):
                continue
            if entry.file_size > SAFE and entry.file_size > PLAUSIBLE * max(1, entry.compress_size):
                raise ReadError(
                    f"{path}: {entry.filename} unpacks from {entry.compress_size:,} bytes to {entry.file_size:,}; no "
                    "pictures do that, so it is refused"
                )
            with archive.open(entry) as file:
                shape, dtype = _header(file)
                length = int(np.prod(shape, dtype=object)) * dtype.itemsize if not dtype.hasobject else -1
                if length != entry.file_size - file.tell():
                    raise ValueError(f"{entry.filename} does not hold what its header says, or holds Python objects")
            name = entry.filename.removesuffix(".npy")
            found[name] = _Array(path, entry.filename, shape, dtype)
    return found


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    readers: Mapping[tuple[int, int], Callable[..., Any]] = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    version = np.lib.format.read_magic(file)
    if version not in readers:
        raise ValueError(f"an array of the unknown format {version}")
    shape, by_column, dtype = readers[version](file)
    if by_column and len(shape) > 1:
        raise ValueError("an array in the order of Fortran; save it with numpy.ascontiguousarray")
    return shape, dtype


def _pair(arrays: Mapping[str, _Array], split: SplitName, path: Path) -> tuple[_Array, _Array] | None:
    """Return images and labels of a split, if there are any. Raises ReadError where they do not fit together."""
    words = [word for word, name in SPLIT_WORDS.items() if name == split]
    images = [array for form in IMAGES for word in words if (array := arrays.get(form.format(word)))]
    labels = [array for form in LABELS for word in words if (array := arrays.get(form.format(word)))]
    if not images and not labels:
        return None
    if len(images) != 1 or len(labels) != 1:
        raise ReadError(f"{path}: expected one array of {split} images and one of labels, found {', '.join(arrays)}")
    (pictures,), (classes,) = images, labels
    of_pictures = pictures.dtype == np.uint8 and len(pictures.shape) in (3, 4)
    if not of_pictures or pictures.shape[3:] not in ((), (1,), (3,)) or 0 in pictures.shape[1:]:
        raise ReadError(
            f"{path}: {pictures.name} is {pictures.dtype} {pictures.shape}; expected uint8 (n, height, width) or "
            "(n, height, width, 1 or 3)"
        )
    count = pictures.shape[0]
    if classes.shape not in ((count,), (count, 1)) or classes.dtype.kind not in "iuUS":
        raise ReadError(
            f"{path}: {classes.name} is {classes.dtype} {classes.shape}; expected a whole number or a word for each of "
            f"{count:,} images"
        )
    if classes.dtype.itemsize * count > MOST_LABELS:
        raise ReadError(f"{path}: {classes.name} is larger than labels are; refused")
    return pictures, classes


def _shape(arrays: Sequence[_Array], wishes: Wishes) -> tuple[int, int, int]:
    sides = {array.shape[1:3] for array in arrays}
    if wishes.size is None and len(sides) > 1:
        raise ReadError(f"{wishes.key}.size: must be given, since the splits' images are of several sizes: {sides}")
    height, width = (wishes.size,) * 2 if wishes.size else next(iter(sides))
    channels = wishes.channels or max((*array.shape[3:], 1)[0] for array in arrays)
    return (height, width, channels)


def _labels(arrays: Sequence[_Array]) -> tuple[list[Any], np.ndarray]:
    """Return the classes' values, sorted, and each image's place among them."""
    found = [array.whole().ravel() for array in arrays]
    if {labels.dtype.kind for labels in found} == {"i", "u"}:  # of which NumPy makes floating-point numbers
        found = [labels.astype(object) for labels in found]
    values, places = np.unique(np.concatenate(found), return_inverse=True)
    return values.tolist(), places.astype(np.int32)


def _word(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _exactly(file: IO[bytes], length: int) -> bytes:
    content = file.read(length)
    if len(content) != length:
        raise EOFError("it ends too soon")
    return content


@contextmanager
def _reading(path: Path) -> Generator[None]:
    """Let damage within the block be told as such."""
    try:
        yield
    except ReadError:
        raise
    except DAMAGED as error:
        raise ReadError(f"{path}: cannot be read ({error}); is it a whole .npz of plain arrays?") from None
