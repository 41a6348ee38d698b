"""Randomness by purpose: everything random follows from (seed, purpose, …), never from a global generator."""

from __future__ import annotations

import hashlib

import numpy as np


def derive(seed: int, *purpose: str | int) -> int:
    """Return a 32-bit seed for one purpose, for instance ``derive(0, "order", epoch)``."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return NumPy's generator for one purpose."""
    return np.random.default_rng(derive(seed, *purpose))


def sample(total: int, count: int, seed: int, *purpose: str | int) -> np.ndarray:
    """Return `count` of the numbers below `total`, or all if there are fewer, in ascending order: int (count,)."""
    return np.sort(generator(seed, *purpose).permutation(total)[:count])
