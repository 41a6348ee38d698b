"""Keras brought up for a command."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from resblock.core.backends import PINNED

START = """
import os, sys
from resblock.startup import start_keras
assert start_keras(1) == 1
import keras
looked_for = ("tensorflow", "jax", "sklearn", "matplotlib", "pandas")
print(keras.backend.backend(), *(name for name in looked_for if name in sys.modules))
import jax.numpy, matplotlib.pyplot, pandas, sklearn.datasets
print(os.environ.get("TF_ENABLE_ONEDNN_OPTS"))
digits = pandas.DataFrame(sklearn.datasets.load_digits().data)
print(jax.numpy.zeros(1) + 1, len(digits), len(matplotlib.pyplot.hist(digits[20])))
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_keras_starts_without_what_it_only_looks_for_and_that_is_there_later(backend: str) -> None:
    kept = {name: value for name, value in os.environ.items() if name not in PINNED["tensorflow"]}
    environment = {**kept, "KERAS_BACKEND": backend}
    ended = subprocess.run([sys.executable, "-c", START], env=environment, capture_output=True, text=True, check=True)
    pinned = PINNED.get(backend, {}).get("TF_ENABLE_ONEDNN_OPTS")
    # Each is there by its own name, and no other.
    assert ended.stdout.splitlines() == [f"{backend} {backend}", str(pinned), "[1.] 1797 3"]
