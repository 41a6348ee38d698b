"""How many images go through at once, and how they are picked from files that may be larger than memory."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import takewhile

import numpy as np

from resblock.core.splits import Split

# Images a forward pass; decides the last bits, and memory.
MOST_IMAGES, MOST_PIXELS = 500, 128_000
CALL_BYTES = 2**26  # of images that are handed over with one call of several steps


def leading_batches(batches: Sequence[np.ndarray], most: int) -> np.ndarray:
    """Return the first `most` of `batches` as one array (step, batch); fewer where one of another size follows.

    What is handed over in one call: an epoch's last batch may be smaller than the others.
    """
    size = len(batches[0])
    equal: list[np.ndarray] = list(takewhile(lambda batch: len(batch) == size, batches[:most]))
    return np.stack(equal)


def most_steps(split: Split, batch_size: int) -> int:
    """Return how many steps' images of `split` may be handed over in one call, so that memory stays small."""
    return max(1, CALL_BYTES // (batch_size * split.images[:1].nbytes))


def gather(split: Split, indices: np.ndarray) -> Split:
    """Return the images and labels at `indices`, int (step, batch), as (step, batch, …).

    Images that are mapped from a file leave memory again: read in random order, all of it would end there.
    """
    picked = split.take(indices)
    mapped = getattr(split.images, "_mmap", None)
    if mapped is not None:
        with suppress(AttributeError, OSError, ValueError):  # no such advice on this system
            mapped.madvise(mmap.MADV_DONTNEED)
    return picked


def most_images(shape: tuple[int, ...]) -> int:
    """Return how many images of `shape`, (n, height, width, channel), make a forward pass."""
    _, height, width, _ = shape
    return max(1, min(MOST_IMAGES, MOST_PIXELS // (height * width)))


def small_batches(images: np.ndarray) -> Iterator[np.ndarray]:
    """Yield `images`, (n, height, width, channel), in parts that bound the memory of a forward pass."""
    return batches_of(images, most_images(images.shape))


def batches_of(images: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Yield `images` in parts of `size`, the last one perhaps smaller."""
    for start in range(0, len(images), size):
        yield images[start : start + size]
