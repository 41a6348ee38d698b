"""How the loss gradient flows back through a network: its norm at every convolution and behind every block."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise

import keras
import numpy as np

from resblock.core.backends import backend
from resblock.core.backends.batches import batches_of
from resblock.core.backends.normalization import keeping_branches
from resblock.core.model.network import Network
from resblock.core.seeds import sample
from resblock.core.splits import Split
from resblock.core.training.inference import softmax
from resblock.core.training.run import GradientRow
from resblock.core.training.statistics import undisturbed


class Backward:
    """A network cut behind its stem and its blocks, so that gradients can be looked at in between.

    It takes `network` for itself: what passes through it in training mode changes its statistics.
    """

    def __init__(self, network: Network) -> None:
        self.parts = network.parts
        model = network.model
        self._see = keras.Model(model.input, self.parts.pixels)
        cuts = [self.parts.pixels, *(part.output for part in self.parts.all), model.output]
        self._segments = [keras.Model(start, end) for start, end in pairwise(cuts)]

    def inputs(self, images: np.ndarray) -> np.ndarray:
        """Return raw images, uint8, as the first convolution sees them where nothing is augmented: float32."""
        return keras.ops.convert_to_numpy(self._see(images, training=False))

    def gradients(
        self, inputs: np.ndarray, outward: Callable[[np.ndarray], np.ndarray], *, training: bool
    ) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
        """Return the gradients of a function of the logits: at `inputs` and behind each part, and at each weight.

        `outward` maps logits, float32 (n, class), to that function's gradient there. Weights go by variable path.
        """
        return backend().backpropagate(self._segments, inputs, outward, training=training)


class GradientProbe:
    """Measures gradient norms on the same `count` images of `train` at any moment of a training with `seed`.

    The images go through in batches of `batch_size`, each normalised by itself, as in training. `network` is another
    copy of what is trained, which therefore never notices.
    """

    def __init__(self, network: Network, train: Split, count: int, batch_size: int, seed: int) -> None:
        self._images, self._batch_size = train.take(sample(len(train.labels), count, seed, "gradients")), batch_size
        self._network, self.backward = network, Backward(network)

    def measure(self, weights: Mapping[str, np.ndarray], epoch: int) -> list[GradientRow]:
        """Return the norms for `weights`, by variable path, after `epoch` epochs: by convolution, then by part."""
        self._network.load(weights)
        model = self._network.model
        with undisturbed(model), keeping_branches(model):  # of the whole network, not of what a draw leaves of it
            return measure_gradients(self.backward, self._images, self._batch_size, epoch)


def measure_gradients(backward: Backward, images: Split, batch_size: int, epoch: int) -> list[GradientRow]:
    """Return the norms of the gradient of the mean cross-entropy of `images`, in training mode: see `GradientRow`."""
    kernels: dict[str, np.ndarray] = {}
    squares = np.zeros(len(backward.parts.all))  # of the gradient at all activations behind each part
    for pixels, labels in zip(
        batches_of(images.images, batch_size), batches_of(images.labels, batch_size), strict=True
    ):
        outward = cross_entropy_gradient(labels, len(images.labels))
        activations, weights = backward.gradients(backward.inputs(pixels), outward, training=True)
        squares += [_square(gradient) for gradient in activations[1:]]
        for name in backward.parts.convolutions:
            kernels[name] = kernels.get(name, 0) + weights[f"{name}/kernel"].astype(np.float64)
    rows = [
        GradientRow(epoch, "weights", name, position, math.sqrt(_square(kernels[name])))
        for name, position in backward.parts.convolutions.items()
    ]
    return rows + [
        GradientRow(epoch, "activations", part.name, part.position, math.sqrt(square))
        for part, square in zip(backward.parts.all, squares, strict=True)
    ]


def cross_entropy_gradient(labels: np.ndarray, count: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return what maps logits (n, class) of images with `labels`, int (n,), to the gradient of the mean cross-entropy.

    The mean is over `count` images, of which these may be a part.
    """

    def gradient(logits: np.ndarray) -> np.ndarray:
        shares = softmax(logits)
        shares[np.arange(len(labels)), labels] -= 1
        return (shares / count).astype(np.float32)

    return gradient


def _square(gradient: np.ndarray) -> float:
    """Return the sum of squares of all numbers in `gradient`."""
    return float((gradient.astype(np.float64) ** 2).sum())
