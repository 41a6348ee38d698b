"""Splits: how they are cut and written. `resblock.core.splits` reads them."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from resblock.core.files import PARTIAL, write_bytes, write_json
from resblock.core.splits import DESCRIPTION, SPLIT_NAMES, DatasetDescription, Split, SplitName, array_path

BUFFER = 2**20  # bytes


def stratified(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut indices 0 … n-1 of `labels`, int (n,), in two, each class in proportion.

    Returns the larger rest and the part of `fraction`, both sorted. Raises ValueError where a class is too small.
    """
    from sklearn.model_selection import train_test_split  # takes a second to import

    rest, part = train_test_split(np.arange(len(labels)), test_size=fraction, random_state=seed, stratify=labels)
    return np.sort(rest), np.sort(part)


def write_splits(
    folder: Path, splits: Mapping[SplitName, Split], *, name: str, classes: tuple[str, ...], source: str
) -> DatasetDescription:
    """Write each split as two .npy files and, last, their description."""
    height, width, channels = splits["train"].images.shape[1:]
    labels: dict[SplitName, np.ndarray] = {split_name: split.labels for split_name, split in splits.items()}
    with SplitWriter(folder, labels, (height, width, channels)) as writer:
        for split_name, split in splits.items():
            for image in split.images:
                writer.add(split_name, image)
        return writer.finish(name=name, classes=classes, source=source)


class SplitWriter:
    """Writes images as they come, each split in its order; nothing stands under its name before all of them do.

    `labels` holds int (n,) for each split, `image_shape` height, width and channel.
    """

    def __init__(self, folder: Path, labels: Mapping[SplitName, np.ndarray], image_shape: tuple[int, int, int]) -> None:
        self._folder, self._labels, self._image_shape = folder, labels, image_shape
        self._files: dict[SplitName, tuple[BinaryIO, Path]] = {}
        self._totals = {name: hashlib.sha256() for name in labels}
        self._open = ExitStack()

    def __enter__(self) -> SplitWriter:
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            for name, labels in self._labels.items():
                self._files[name] = self._open.enter_context(_partial(array_path(self._folder, name, "images")))
                self._write(name, _header((len(labels), *self._image_shape)))
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def add(self, name: SplitName, image: np.ndarray) -> None:
        """Write the next image of a split, uint8 (height, width, channel)."""
        self._write(name, np.ascontiguousarray(image, np.uint8).tobytes())

    def finish(self, *, name: str, classes: tuple[str, ...], source: str) -> DatasetDescription:
        """Put every file under its name, the description last, and return that."""
        digests: dict[SplitName, str] = {}
        for split_name in SPLIT_NAMES:
            if split_name not in self._labels:
                continue
            labels = _npy(self._labels[split_name].astype(np.int32))
            self._totals[split_name].update(labels)
            digests[split_name] = self._totals[split_name].hexdigest()
            file, partial = self._files[split_name]
            with _naming(array_path(self._folder, split_name, "images")):
                file.flush()
                os.fsync(file.fileno())
            partial.replace(array_path(self._folder, split_name, "images"))
            write_bytes(array_path(self._folder, split_name, "labels"), labels)
        sizes: dict[SplitName, int] = {split_name: len(self._labels[split_name]) for split_name in digests}
        description = DatasetDescription(name, classes, self._image_shape, sizes, digests, source)
        write_json(self._folder / DESCRIPTION, asdict(description))
        return description

    def _write(self, name: SplitName, content: bytes) -> None:
        self._totals[name].update(content)
        with _naming(array_path(self._folder, name, "images")):
            self._files[name][0].write(content)


@contextmanager
def _partial(path: Path) -> Generator[tuple[BinaryIO, Path]]:
    """Open a file beside `path` that is removed after the block unless it was renamed."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL)
    os.fchmod(handle, 0o644)
    try:
        with _naming(path), os.fdopen(handle, "wb", buffering=BUFFER) as file:  # closing it writes, too
            yield file, Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


@contextmanager
def _naming(path: Path) -> Generator[None]:
    """Let an OSError say which file it was about: those of writing do not."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def _header(shape: tuple[int, ...]) -> bytes:
    """Return what stands before the values of a uint8 array in a .npy file."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def _npy(array: np.ndarray) -> bytes:
    buffer: Any = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
