"""Optimiser steps, compiled: the place where a backend's speed-ups live.

An engine keeps the images where the computation runs, and takes which of them to use in each step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Literal, Protocol

import keras
import numpy as np

from resblock.data.splits import Split
from resblock.errors import UserError


class Engine(Protocol):
    """What the training loop asks of a backend."""

    def train(self, batches: Sequence[np.ndarray], moved: Callable[[int], None]) -> np.ndarray:
        """Take one optimiser step on the images at each of `batches`, int32 (batch,), and wait for the last.

        `moved` is told now and then how many steps have been handed over. Returns float64 (step, 2): the batch's
        summed cross-entropy and correct predictions, before the step.
        """
        ...


def leading_batches(batches: Sequence[np.ndarray], most: int) -> np.ndarray:
    """Return the first `most` of `batches` as one array (step, batch); fewer where one of another size follows.

    What an engine hands over in one call: an epoch's last batch may be smaller than the others.
    """
    size = len(batches[0])
    equal: list[np.ndarray] = list(takewhile(lambda batch: len(batch) == size, batches[:most]))
    return np.stack(equal)


def backpropagate(
    segments: Sequence[keras.Model], inputs: np.ndarray, outward: Callable[[np.ndarray], np.ndarray], *, training: bool
) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """Pass `inputs` through `segments`, one after the other, and the gradient of a function of the last outputs back.

    `outward` maps the last outputs to that function's gradient there. Returns the gradients at the inputs of each
    segment, and at each trainable weight by its path. Slow: made for a look, not for training.
    """
    match _backend():
        case "tensorflow":
            from resblock.training import tensorflow_engine as engine
        case "jax":
            from resblock.training import jax_engine as engine
    return engine.backpropagate(segments, inputs, outward, training=training)


def make_engine(model: keras.Model, optimizer: keras.optimizers.Optimizer, split: Split) -> Engine:
    """Return the engine of the backend that Keras runs on. Raises UserError where there is none."""
    match _backend():
        case "tensorflow":
            from resblock.training.tensorflow_engine import TensorFlowEngine

            return TensorFlowEngine(model, optimizer, split)
        case "jax":
            from resblock.training.jax_engine import JaxEngine

            return JaxEngine(model, optimizer, split)


def _backend() -> Literal["tensorflow", "jax"]:
    match keras.backend.backend():
        case "tensorflow":
            return "tensorflow"
        case "jax":
            return "jax"
        case other:
            raise UserError(f"KERAS_BACKEND: got {other}, must be tensorflow or jax")
