"""Keras brought up for a command, without what it only looks for."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from resblock.core.backends import load, start
from resblock.signals import uninterrupted


def import_keras() -> None:
    """Import Keras and its backend as `start_keras` does, without starting the runtime."""
    with uninterrupted(), _hidden(_needless()), _uncollected():
        load()


def start_keras(threads: int, *, to_stay: bool = True) -> int:
    """Bring Keras up as `resblock.core.backends.start` does, and sooner; return the number of threads.

    Where they are installed, Keras imports scikit-learn for its wrappers, Matplotlib for its galleries and pandas to
    take tables apart, and TensorFlow JAX for a converter and SciPy to know sparse matrices. Nothing here uses these,
    and all can be imported afterwards. What is there by then, hundreds of thousands of objects, is there `to_stay`, so
    that Python does not look for garbage among it; in a notebook, which may have made some, it is not.

    A signal waits until Keras is there: an exception in the middle of TensorFlow's import aborts the process without a
    word.
    """
    with uninterrupted(), _hidden(_needless()), _uncollected(to_stay=to_stay):
        return start(threads)


def _needless() -> list[str]:
    looked_for = ["sklearn", "matplotlib", "pandas"]
    return looked_for if os.environ.get("KERAS_BACKEND") == "jax" else [*looked_for, "jax", "scipy"]  # which JAX needs


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


@contextmanager
def uncollected() -> Generator[None]:
    """Let Python's garbage collector not run within the block, which makes many objects and throws few away."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@contextmanager
def _uncollected(*, to_stay: bool = True) -> Generator[None]:
    """Let the garbage collector not run while Keras is imported, nor look later at what is there `to_stay`."""
    if "keras" in sys.modules:  # whatever was made since may become garbage
        yield
        return
    with uncollected():
        try:
            yield
        finally:
            if to_stay:
                gc.freeze()
