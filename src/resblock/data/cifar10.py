"""CIFAR-10's official binary version (Krizhevsky 2009): records of one label byte and 3,072 pixel bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from resblock.core.splits import Split

TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILE = "test_batch.bin"
SIDE, CHANNELS = 32, 3


def read(folder: Path) -> tuple[Split, Split]:
    """Read the official training set, uint8 (50000, 32, 32, 3), and test set, uint8 (10000, 32, 32, 3)."""
    parts = [_read_batch(folder / name) for name in TRAIN_FILES]
    train = Split(np.concatenate([part.images for part in parts]), np.concatenate([part.labels for part in parts]))
    return train, _read_batch(folder / TEST_FILE)


def _read_batch(path: Path) -> Split:
    records = np.fromfile(path, np.uint8).reshape(-1, 1 + CHANNELS * SIDE * SIDE)
    planes = records[:, 1:].reshape(-1, CHANNELS, SIDE, SIDE)  # (image, channel, height, width)
    return Split(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), records[:, 0].astype(np.int32))
