"""Optimiser steps, compiled: the place where a backend's speed-ups live.

An engine keeps the images where the computation runs, and takes which of them to use in each step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import keras
import numpy as np

from resblock.data.splits import Split
from resblock.errors import UserError


class Engine(Protocol):
    """What the training loop asks of a backend."""

    def train(self, batches: Sequence[np.ndarray], moved: Callable[[int], None]) -> np.ndarray:
        """Take one optimiser step on the images at each of `batches`, int32 (batch,), and wait for the last.

        `moved` is told how many steps have been handed over. Returns float64 (step, 2): the batch's summed
        cross-entropy and correct predictions, before the step.
        """
        ...


def make_engine(model: keras.Model, optimizer: keras.optimizers.Optimizer, split: Split) -> Engine:
    """Return the engine of the backend that Keras runs on. Raises UserError where there is none."""
    match keras.backend.backend():
        case "tensorflow":
            from resblock.training.tensorflow_engine import TensorFlowEngine

            return TensorFlowEngine(model, optimizer, split)
        case "jax":
            from resblock.training.jax_engine import JaxEngine

            return JaxEngine(model, optimizer, split)
        case other:
            raise UserError(f"KERAS_BACKEND: got {other}, must be tensorflow or jax")
