"""The images that every peer trains on, and the order in which they come."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.peers.protocol import Task


def read_images(task: Task, split: str = "train") -> tuple[np.ndarray, np.ndarray]:
    """Return the images of train or validation, uint8 (n, height, width, channel), and their labels, int32 (n,).

    Where the task's turns are epochs, as many as an epoch takes.
    """
    folder = Path(task.data)
    images, labels = np.load(folder / f"{split}_images.npy"), np.load(folder / f"{split}_labels.npy")
    if task.epoch:
        count = task.epoch.training if split == "train" else task.epoch.validation
        return images[:count], labels[:count]
    return images, labels


def batch_indices(task: Task, images: int) -> Iterator[np.ndarray]:
    """Yield the indices of batch after batch, int32 (batch,), without end: the same for every peer of one seed."""
    draws = np.random.default_rng(task.seed)
    while True:
        order = draws.permutation(images).astype(np.int32)
        for start in range(0, images - task.batch_size + 1, task.batch_size):
            yield order[start : start + task.batch_size]


def epoch_batches(task: Task, images: int, number: int) -> list[np.ndarray]:
    """Return the indices of each batch of epoch `number`, int32 (batch,): every image once, the rest last."""
    order = np.random.default_rng((task.seed, number)).permutation(images).astype(np.int32)
    return [order[start : start + task.batch_size] for start in range(0, images, task.batch_size)]
