"""Train, validation and test: how they are cut, written and read."""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from resblock.files import digest_bytes, digest_tree, read_json, write_bytes, write_json

SplitName = Literal["train", "validation", "test"]
SPLIT_NAMES: tuple[SplitName, ...] = ("train", "validation", "test")
DESCRIPTION = "dataset.json"


class Split(NamedTuple):
    """Images and their classes."""

    images: np.ndarray  # uint8 (n, height, width, channel)
    labels: np.ndarray  # int32 (n,)

    def take(self, indices: np.ndarray) -> Split:
        """Return the images at `indices`, int (m,), in that order."""
        return Split(self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class DatasetDescription:
    """What dataset.json says of the arrays next to it."""

    name: str
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]  # height, width, channel
    sizes: dict[SplitName, int]
    digests: dict[SplitName, str]  # SHA-256 over images and labels
    source: str

    @property
    def digest(self) -> str:
        """One SHA-256 for the three splits."""
        return digest_tree({str(name): digest for name, digest in self.digests.items()})


def stratified(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut indices 0 … n-1 of `labels`, int (n,), in two, each class in proportion.

    Returns the larger rest and the part of `fraction`, both sorted. Raises ValueError where a class is too small.
    """
    from sklearn.model_selection import train_test_split  # a GPU's machine trains without

    rest, part = train_test_split(np.arange(len(labels)), test_size=fraction, random_state=seed, stratify=labels)
    return np.sort(rest), np.sort(part)


def write_splits(
    folder: Path, splits: dict[SplitName, Split], *, name: str, classes: tuple[str, ...], source: str
) -> DatasetDescription:
    """Write each split as two .npy files and, last, their description."""
    digests: dict[SplitName, str] = {}
    for split_name, split in splits.items():
        contents = [_npy(np.ascontiguousarray(split.images, np.uint8)), _npy(split.labels.astype(np.int32))]
        for kind, content in zip(("images", "labels"), contents, strict=True):
            write_bytes(_array_path(folder, split_name, kind), content)
        digests[split_name] = digest_bytes(b"".join(contents))
    height, width, channels = splits["train"].images.shape[1:]
    description = DatasetDescription(
        name=name,
        classes=classes,
        image_shape=(height, width, channels),
        sizes={split_name: len(split.labels) for split_name, split in splits.items()},
        digests=digests,
        source=source,
    )
    write_json(folder / DESCRIPTION, asdict(description))
    return description


def read_split(folder: Path, name: SplitName) -> Split:
    """Read one split; the others stay untouched on disk."""
    return Split(*(np.load(_array_path(folder, name, kind), allow_pickle=False) for kind in ("images", "labels")))


def read_description(folder: Path) -> DatasetDescription:
    """Read what the splits in `folder` are."""
    tree = read_json(folder / DESCRIPTION)
    tree["classes"], tree["image_shape"] = tuple(tree["classes"]), tuple(tree["image_shape"])
    return DatasetDescription(**tree)


def _array_path(folder: Path, split: SplitName, kind: str) -> Path:
    return folder / f"{split}_{kind}.npy"


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
