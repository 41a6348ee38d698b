"""One optimiser step, compiled: the place where a backend's speed-ups live.

An engine keeps the images where the computation runs, and takes which of them to use in each step.
"""

from __future__ import annotations

from typing import Any, Protocol

import keras
import numpy as np

from resblock.data.splits import Split
from resblock.errors import UserError


class Engine(Protocol):
    """What the training loop asks of a backend."""

    def step(self, indices: np.ndarray) -> Any:
        """Take one optimiser step on the images at `indices`, int32 (batch,).

        Returns a handle on (summed cross-entropy, correct predictions); the work may still be going on.
        """
        ...

    def collect(self, handles: list[Any]) -> np.ndarray:
        """Wait for the steps behind `handles`.

        Returns float64 (step, 2): summed cross-entropy and correct predictions.
        """
        ...


def make_engine(model: keras.Model, optimizer: keras.optimizers.Optimizer, split: Split) -> Engine:
    """Return the engine of the backend that Keras runs on. Raises UserError where there is none."""
    if keras.backend.backend() == "tensorflow":
        from resblock.training.tensorflow_engine import TensorFlowEngine

        return TensorFlowEngine(model, optimizer, split)
    raise UserError(f"KERAS_BACKEND: got {keras.backend.backend()}; trainings run on tensorflow only")
