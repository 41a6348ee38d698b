"""How the loss gradient flows back through a network: its norm at every convolution and behind every block."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

import keras
import numpy as np

from resblock.core.backends import backend
from resblock.core.model.network import Network
from resblock.core.seeds import generator
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

    `network` is another copy of what is trained, which therefore never notices.
    """

    def __init__(self, network: Network, train: Split, count: int, seed: int) -> None:
        chosen = np.sort(generator(seed, "gradients").permutation(len(train.labels))[:count])
        few = train.take(chosen)
        self._network, self.backward = network, Backward(network)
        self._inputs, self._outward = self.backward.inputs(few.images), cross_entropy_gradient(few.labels)

    def measure(self, weights: Mapping[str, np.ndarray], epoch: int) -> list[GradientRow]:
        """Return the norms for `weights`, by variable path, after `epoch` epochs: by convolution, then by part."""
        self._network.load(weights)
        with undisturbed(self._network.model):  # what is dropped at random is the same at every moment
            return measure_gradients(self.backward, self._inputs, self._outward, epoch)


def measure_gradients(
    backward: Backward, inputs: np.ndarray, outward: Callable[[np.ndarray], np.ndarray], epoch: int
) -> list[GradientRow]:
    """Return the norms of the gradients that flow back from `outward`, in training mode: see `GradientRow`."""
    activations, weights = backward.gradients(inputs, outward, training=True)
    rows = [
        GradientRow(epoch, "weights", name, position, _norm(weights[f"{name}/kernel"]))
        for name, position in backward.parts.convolutions.items()
    ]
    return rows + [
        GradientRow(epoch, "activations", part.name, part.position, _norm(gradient))
        for part, gradient in zip(backward.parts.all, activations[1:], strict=True)
    ]


def cross_entropy_gradient(labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return what maps logits (n, class) to the gradient of the mean cross-entropy for `labels`, int (n,)."""
    count = len(labels)

    def gradient(logits: np.ndarray) -> np.ndarray:
        shares = softmax(logits)
        shares[np.arange(count), labels] -= 1
        return (shares / count).astype(np.float32)

    return gradient


def _norm(gradient: np.ndarray) -> float:
    return float(np.linalg.norm(gradient.astype(np.float64)))
