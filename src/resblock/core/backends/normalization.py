"""Batch normalisations that tell of one batch: the same on every backend."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import keras


def normalizations(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """Return the batch normalisations of `model`, from the image to the logits."""
    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


@contextmanager
def observing(model: keras.Model) -> Generator[list[Any]]:
    """Within the block, a pass in training mode leaves the batch's own statistics as moving ones, in these layers.

    A moving average that keeps nothing of the past is its last value. Every branch is kept. What is compiled within the
    block stays so.
    """
    layers = normalizations(model)
    momenta = [layer.momentum for layer in layers]
    with keeping_branches(model):
        try:
            for layer in layers:
                layer.momentum = 0.0
            yield layers
        finally:
            for layer, momentum in zip(layers, momenta, strict=True):
                layer.momentum = momentum


@contextmanager
def keeping_branches(model: keras.Model) -> Generator[None]:
    """Within the block, stochastic depth drops no branch in training mode: each is damped as at inference."""
    droppers = [layer for layer in model.layers if hasattr(layer, "drops")]
    try:
        for layer in droppers:
            layer.drops = False
        yield
    finally:
        for layer in droppers:
            layer.drops = True
