"""Keras brought up for a command, without what it only looks for."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from resblock.core.backends import load, start
from resblock.signals import uninterrupted


def import_keras() -> None:
    """Import Keras and its backend as `start_keras` does, without starting the runtime."""
    with uninterrupted(), _hidden(_needless()):
        load()


def start_keras(threads: int) -> int:
    """Bring Keras up as `resblock.core.backends.start` does, and sooner; return the number of threads.

    Where they are installed, Keras imports scikit-learn for its wrappers, and TensorFlow JAX for a converter, which
    nothing here uses: together a good part of what a start takes. Both can be imported afterwards. A signal waits until
    Keras is there: an exception in the middle of TensorFlow's import aborts the process without a word.
    """
    with uninterrupted(), _hidden(_needless()):
        return start(threads)


def _needless() -> list[str]:
    return ["sklearn"] if os.environ.get("KERAS_BACKEND") == "jax" else ["sklearn", "jax"]


@contextmanager
def _hidden(packages: Sequence[str]) -> Generator[None]:
    """Within the block, importing one of `packages` fails as if it were not installed, unless it has been imported."""
    absent = [package for package in packages if package not in sys.modules]
    for package in absent:
        sys.modules[package] = None  # pyright: ignore[reportArgumentType]  (Python's own way to say so)
    try:
        yield
    finally:
        for package in absent:
            del sys.modules[package]
