"""How many images go through at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile

import numpy as np

# Images a forward pass; decides the last bits, and memory.
MOST_IMAGES, MOST_PIXELS = 500, 128_000


def leading_batches(batches: Sequence[np.ndarray], most: int) -> np.ndarray:
    """Return the first `most` of `batches` as one array (step, batch); fewer where one of another size follows.

    What is handed over in one call: an epoch's last batch may be smaller than the others.
    """
    size = len(batches[0])
    equal: list[np.ndarray] = list(takewhile(lambda batch: len(batch) == size, batches[:most]))
    return np.stack(equal)


def small_batches(images: np.ndarray) -> Iterator[np.ndarray]:
    """Yield `images`, (n, height, width, channel), in parts that bound the memory of a forward pass."""
    _, height, width, _ = images.shape
    size = max(1, min(MOST_IMAGES, MOST_PIXELS // (height * width)))
    for start in range(0, len(images), size):
        yield images[start : start + size]
