"""What is asked of a backend, and what it answers with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np

from resblock.core.splits import Split

if TYPE_CHECKING:
    import keras


class BatchStatistics(NamedTuple):
    """Means and biased variances of one layer's inputs, over each batch's images and pixels."""

    means: np.ndarray  # float32 (batch, channel)
    variances: np.ndarray  # float32 (batch, channel)


class Steps(Protocol):
    """Optimiser steps of one network on one training set, compiled once."""

    def train(self, batches: Sequence[np.ndarray], moved: Callable[[int], None]) -> np.ndarray:
        """Take one optimiser step on the images at each of `batches`, int32 (batch,), and wait for the last.

        `moved` is told now and then how many steps have been handed over. Returns float64 (step, 2): the batch's
        summed cross-entropy and correct predictions, before the step.
        """
        ...


class Inference(Protocol):
    """Passes through one network that train nothing."""

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Return logits, float32 (n, class), for raw images, uint8 (n, height, width, channel), at inference."""
        ...

    def statistics(self, images: np.ndarray, batch_size: int) -> list[BatchStatistics]:
        """Return what each batch normalisation of the model sees of `images`, raw, in batches as in training.

        In the order of the model's layers, every layer normalising by its batch; augmentation draws, and stochastic
        depth keeps all branches. Moving statistics and random states are other ones afterwards.
        """
        ...


class Backend(Protocol):
    """What is asked of a backend."""

    name: Literal["tensorflow", "jax"]

    def set_up(self, threads: int) -> None:
        """Start the runtime with so many threads on the processor, before the first tensor."""
        ...

    def accelerator(self) -> str | None:
        """Return the kind of the device that computes, or None where that is the processor."""
        ...

    def float32_arithmetic(self) -> str:
        """Return how float32 is multiplied: ``float32``, or ``tf32`` on cards that shorten it."""
        ...

    def batch_normalization(self, *, momentum: float, epsilon: float, name: str, dtype: Any) -> Any:
        """Return a batch-normalisation layer over the last axis for inputs (batch, height, width, channel)."""
        ...

    def relu(self, *, name: str, dtype: Any) -> Any:
        """Return a layer of max(x, 0)."""
        ...

    def random_flip(self, mode: str, *, seed: int, name: str) -> Any:
        """Return a layer that mirrors each float32 image (batch, height, width, channel) by a coin, in training."""
        ...

    def adam(self, learning_rate: Any) -> Any:
        """Return Keras' Adam of default options; `learning_rate` is a number or a Keras schedule."""
        ...

    def sgd(self, learning_rate: Any, *, momentum: float, nesterov: bool) -> Any:
        """Return Keras' SGD with momentum; `learning_rate` is a number or a Keras schedule."""
        ...

    def steps(self, model: keras.Model, optimizer: keras.optimizers.Optimizer, train: Split) -> Steps:
        """Compile the optimiser steps of `model` on `train`."""
        ...

    def inference(self, model: keras.Model, *, compiled: bool = True) -> Inference:
        """Return the passes through `model` that train nothing, each kind compiled when it is first asked for.

        Not `compiled`, a single pass is over before it would have been compiled.
        """
        ...

    def backpropagate(
        self,
        segments: Sequence[keras.Model],
        inputs: np.ndarray,
        outward: Callable[[np.ndarray], np.ndarray],
        *,
        training: bool,
    ) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
        """Pass `inputs` through `segments`, one after the other, and the gradient of a function of the outputs back.

        `outward` maps the last outputs to that function's gradient there. Returns the gradients at the inputs of each
        segment, and at each trainable weight by its path. Slow: made for a look, not for training.
        """
        ...
