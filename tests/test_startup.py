"""Keras brought up for a command."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

START = """
import sys
from resblock.startup import start_keras
assert start_keras(1) == 1
import keras
print(keras.backend.backend(), *(name for name in ("tensorflow", "jax", "sklearn") if name in sys.modules))
import jax.numpy, sklearn.datasets
print(jax.numpy.zeros(1) + 1, len(sklearn.datasets.load_digits().target))
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_keras_starts_without_what_it_only_looks_for_and_that_is_there_later(backend: str) -> None:
    environment = {**os.environ, "KERAS_BACKEND": backend}
    ended = subprocess.run([sys.executable, "-c", START], env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines() == [f"{backend} {backend}", "[1.] 1797"]  # each by its own name, and no other
