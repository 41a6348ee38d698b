"""How the loss gradient flows back through a network: its norm at every convolution and behind every block."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

import keras
import numpy as np
from scipy.special import softmax

from resblock.data.splits import Split
from resblock.model.anatomy import anatomy
from resblock.model.network import load_weights
from resblock.seeds import generator
from resblock.training.engine import backpropagate
from resblock.training.inference import undisturbed
from resblock.training.run import GradientRow


class Backward:
    """A network cut behind its stem and its blocks, so that gradients can be looked at in between.

    It takes `model` for itself: what passes through it in training mode changes its statistics.
    """

    def __init__(self, model: keras.Model) -> None:
        self.parts = anatomy(model)
        self._rescale = model.get_layer("rescale")
        first = model.get_layer(next(iter(self.parts.convolutions)))
        cuts = [first.input, *(layer.output for layer in self.parts.ends.values()), model.output]
        self._segments = [keras.Model(start, end) for start, end in pairwise(cuts)]

    def inputs(self, images: np.ndarray) -> np.ndarray:
        """Return raw images, uint8, as the first convolution sees them where nothing is augmented: float32."""
        return keras.ops.convert_to_numpy(self._rescale(images))

    def gradients(
        self, inputs: np.ndarray, outward: Callable[[np.ndarray], np.ndarray], *, training: bool
    ) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
        """Return the gradients of a function of the logits: at `inputs` and behind each place, and at each weight.

        `outward` maps logits, float32 (n, class), to that function's gradient there. Weights go by variable path.
        """
        return backpropagate(self._segments, inputs, outward, training=training)


class GradientProbe:
    """Measures gradient norms on the same `count` images of `train` at any moment of a training with `seed`.

    `model` is another copy of the network that is trained, which therefore never notices.
    """

    def __init__(self, model: keras.Model, train: Split, count: int, seed: int) -> None:
        chosen = np.sort(generator(seed, "gradients").permutation(len(train.labels))[:count])
        few = train.take(chosen)
        self._model, self.backward = model, Backward(model)
        self._inputs, self._outward = self.backward.inputs(few.images), cross_entropy_gradient(few.labels)

    def measure(self, weights: Mapping[str, np.ndarray], epoch: int) -> list[GradientRow]:
        """Return the norms for `weights`, by variable path, after `epoch` epochs: by convolution, then by block."""
        load_weights(self._model, weights)
        with undisturbed(self._model):  # what is dropped at random is the same at every moment
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
        GradientRow(epoch, "activations", place, position, _norm(gradient))
        for (place, position), gradient in zip(backward.parts.places.items(), activations[1:], strict=True)
    ]


def cross_entropy_gradient(labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return what maps logits (n, class) to the gradient of the mean cross-entropy for `labels`, int (n,)."""
    count = len(labels)

    def gradient(logits: np.ndarray) -> np.ndarray:
        shares = softmax(logits.astype(np.float64), axis=-1)
        shares[np.arange(count), labels] -= 1
        return (shares / count).astype(np.float32)

    return gradient


def _norm(gradient: np.ndarray) -> float:
    return float(np.linalg.norm(gradient.astype(np.float64)))
