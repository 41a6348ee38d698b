"""The networks of the study.

A plain net is its residual twin without the addition: the layers, their names and so their initial weights are the
same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import keras
import numpy as np

from resblock.core.model.architecture import Architecture, design
from resblock.core.model.blocks import BLOCKS
from resblock.core.model.builder import Builder, Parts
from resblock.core.recipe import Recipe
from resblock.core.spec import ModelSpec


@dataclass(frozen=True)
class Network:
    """A Keras model, and where in it everything stands that is looked at.

    The model takes raw images, uint8 (batch, height, width, channel), and gives float32 logits (batch, class).
    """

    model: keras.Model
    architecture: Architecture
    parts: Parts

    @property
    def parameters(self) -> int:
        """Trainable parameters: kernels, biases, batch-norm scales and offsets."""
        return sum(math.prod(variable.shape) for variable in self.model.trainable_variables)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one image's forward pass through convolutions and dense layers.

        He et al. 2015 count so (their "FLOPs"); batch normalisation, additions and pooling are left out.
        """
        total = 0
        for layer in self.model.layers:
            if isinstance(layer, keras.layers.Conv2D):
                _, height, width, _ = layer.output.shape
                total += height * width * math.prod(layer.kernel.shape)
            elif isinstance(layer, keras.layers.Dense):
                total += math.prod(layer.kernel.shape)
        return total

    def weights(self) -> dict[str, np.ndarray]:
        """Return all weights, moving statistics included, by variable path."""
        return {variable.path: keras.ops.convert_to_numpy(variable) for variable in self.model.weights}

    def load(self, weights: Mapping[str, np.ndarray]) -> None:
        """Put in what `weights` returned of a network of the same spec. Raises ValueError where one is missing."""
        if missing := [variable.path for variable in self.model.weights if variable.path not in weights]:
            raise ValueError(f"the weights lack {missing[0]}; other code than this has made them")
        for variable in self.model.weights:
            variable.assign(weights[variable.path])


def build_network(
    spec: ModelSpec,
    image_shape: tuple[int, int, int],
    classes: int,
    recipe: Recipe,
    seed: int,
    *,
    mean: np.ndarray | None = None,
    augmented: bool = True,
) -> Network:
    """Return the network of `spec` for images of `image_shape`, with the initial weights of `seed`.

    A recipe that centres subtracts `mean`, float (height, width, channel), in units of raw pixels: zeros, where it is
    None and weights will be loaded. Without `augmented` the network never flips nor crops.
    """
    architecture = design(spec, image_shape)
    net = Builder(architecture, recipe, seed, augmented=augmented)
    images = keras.Input(image_shape, dtype="uint8", name="images")
    pixels = x = net.augment(images)
    if architecture.stem:
        x = net.stem(x, architecture.stem)
    for place in architecture.places:
        x = net.block(x, place, BLOCKS[architecture.block])
    model = keras.Model(images, net.head(x, classes), name=spec.name.replace("-", "_"))
    if recipe.center == "pixel-mean" and mean is not None:
        model.get_layer("center").mean.assign(model.get_layer("rescale")(mean[None])[0])
    return Network(model, architecture, Parts(pixels, net.parts))
