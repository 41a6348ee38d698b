"""Batch normalisation, ReLU and flips: the one place where the model knows its backend.

On TensorFlow these layers compute what Keras' own do in fewer passes over memory (docs/performance.md says what each
gave); elsewhere they are Keras' own.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import keras


def batch_normalization(*, momentum: float, epsilon: float, name: str, dtype: Any) -> keras.layers.BatchNormalization:
    """Return a batch-normalisation layer over the last axis for inputs (batch, height, width, channel)."""
    options: dict[str, Any] = {"momentum": momentum, "epsilon": epsilon, "name": name}
    if on_tensorflow():
        # float32 statistics and scales whatever the inputs' precision: the fused op wants them so.
        return _own("BatchNormalization")(**options, dtype="float32", autocast=False)
    return keras.layers.BatchNormalization(**options, dtype=dtype)


def relu(*, name: str, dtype: Any) -> keras.layers.ReLU:
    """Return a layer of max(x, 0)."""
    kind = _own("ReLU") if on_tensorflow() else keras.layers.ReLU
    return kind(name=name, dtype=dtype)


def random_flip(mode: str, *, seed: int, name: str) -> keras.layers.RandomFlip:
    """Return a layer that mirrors each float32 image (batch, height, width, channel) by a coin, in training."""
    kind = _own("RandomFlip") if on_tensorflow() else keras.layers.RandomFlip
    return kind(mode, seed=seed, dtype="float32", name=name)


def on_tensorflow() -> bool:
    """Say whether TensorFlow's own kernels are there to be used."""
    return keras.backend.backend() == "tensorflow"


def _own(name: str) -> Any:
    """Return a layer's class of ours; importing this module needs no TensorFlow."""
    return getattr(import_module("resblock.model.tensorflow_layers"), name)
