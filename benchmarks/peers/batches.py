"""The images that every peer trains on, and the order in which they come."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.peers.protocol import Task


def read_images(task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Return the training images, uint8 (n, height, width, channel), and their labels, int32 (n,)."""
    folder = Path(task.data)
    return np.load(folder / "train_images.npy"), np.load(folder / "train_labels.npy")


def batch_indices(task: Task, images: int) -> Iterator[np.ndarray]:
    """Yield the indices of batch after batch, int32 (batch,), without end: the same for every peer of one seed."""
    draws = np.random.default_rng(task.seed)
    while True:
        order = draws.permutation(images).astype(np.int32)
        for start in range(0, images - task.batch_size + 1, task.batch_size):
            yield order[start : start + task.batch_size]
