"""CIFAR-10's official binary version (Krizhevsky 2009): records of one label byte and 3,072 pixel bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from resblock.core.splits import Split
from resblock.data.collection import Collection, Files, ReadError, Wishes, in_memory, named_classes

TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILE = "test_batch.bin"
SIDE, CHANNELS = 32, 3
RECORD = 1 + CHANNELS * SIDE * SIDE
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def collect(files: Files, wishes: Wishes) -> Collection:
    """Read the official training and test set as a collection."""
    return in_memory(*read(files.root), named_classes(CLASSES, wishes))


def read(folder: Path) -> tuple[Split, Split]:
    """Read the official training set, uint8 (50000, 32, 32, 3), and test set, uint8 (10000, 32, 32, 3)."""
    parts = [_read_batch(folder / name) for name in TRAIN_FILES]
    train = Split(np.concatenate([part.images for part in parts]), np.concatenate([part.labels for part in parts]))
    return train, _read_batch(folder / TEST_FILE)


def images_of(planes: np.ndarray) -> np.ndarray:
    """Return planes, uint8 (image, 3072), as images, uint8 (image, 32, 32, 3)."""
    return np.ascontiguousarray(planes.reshape(-1, CHANNELS, SIDE, SIDE).transpose(0, 2, 3, 1))


def _read_batch(path: Path) -> Split:
    try:
        content = np.fromfile(path, np.uint8)
    except FileNotFoundError:
        raise ReadError(f"{path}: is not there; unpack the official archive there") from None
    if not len(content) or len(content) % RECORD:
        raise ReadError(f"{path}: has {len(content):,} bytes, which is no whole number of records of {RECORD:,}")
    records = content.reshape(-1, RECORD)
    return Split(images_of(records[:, 1:]), records[:, 0].astype(np.int32))
