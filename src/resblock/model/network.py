"""The networks of the study.

A plain net is its residual twin without the addition: the layers, their names and so their initial weights are the
same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from resblock.model.blocks import PREACTIVATED, Place, block
from resblock.model.makers import Layers
from resblock.spec import STAGES, ModelSpec

if TYPE_CHECKING:
    from resblock.params import Recipe

WIDTHS = (16, 32, 64)  # He et al. 2015, section 4.2
STEM_WIDTH = 16  # a wider network's stem is none the wider (Zagoruyko & Komodakis 2016, table 1)
CNN_WIDTHS = (32, 64, 128)
LAST_SURVIVAL = 0.5  # of the last block (Huang et al. 2016, section 4)


def build_model(
    spec: ModelSpec, image_shape: tuple[int, int, int], classes: int, recipe: Recipe, seed: int
) -> keras.Model:
    """Return the network of `spec` with the initial weights of `seed`.

    It takes raw images, uint8 (batch, height, width, channel), and gives float32 logits (batch, class).
    """
    layers = Layers(spec, recipe, seed)
    images = keras.Input(image_shape, dtype="uint8", name="images")
    x = layers.augment(images)
    body = _convolutional_body if spec.family == "cnn" else _staged_body
    return keras.Model(images, layers.classify(body(x, spec, layers), classes), name=spec.name.replace("-", "_"))


def load_weights(model: keras.Model, weights: Mapping[str, np.ndarray]) -> None:
    """Put a run's weights into a network of the same spec. Raises ValueError where one is missing."""
    if missing := [variable.path for variable in model.weights if variable.path not in weights]:
        raise ValueError(f"the weights lack {missing[0]}; other code than this has made them")
    for variable in model.weights:
        variable.assign(weights[variable.path])


def _convolutional_body(x: Any, spec: ModelSpec, layers: Layers) -> Any:
    """Apply the paper's baseline: stages of 3x3 convolutions, each closed by 2x2 max pooling."""
    for stage in range(STAGES):
        for convolution in range(spec.blocks):
            name = f"stage{stage + 1}_conv{convolution + 1}"
            x = layers.relu(layers.convolve(x, CNN_WIDTHS[stage] * spec.width, name=name), name=f"{name}_relu")
        x = layers.pool(x, name=f"stage{stage + 1}_pool")
    return keras.layers.Flatten(dtype=layers.recipe.precision, name="flatten")(x)


def _staged_body(x: Any, spec: ModelSpec, layers: Layers) -> Any:
    """Apply He et al. 2015, section 4.2: a stem, three stages of blocks, global average pooling.

    Pre-activation networks normalise before their convolutions: nothing after the stem, but after the last block.
    """
    x = layers.convolve(x, STEM_WIDTH, name="stem_conv")
    if spec.family not in PREACTIVATED:
        x = layers.relu(layers.normalize(x, name="stem_norm"), name="stem_relu")
    for place in _places(spec):
        if place.pooled:
            x = layers.pool(x, name=f"{place.name}_pool")
        x = block(x, place, spec, layers)
    if spec.family in PREACTIVATED:
        x = layers.relu(layers.normalize(x, name="last_norm"), name="last_relu")
    return keras.layers.GlobalAveragePooling2D(dtype=layers.recipe.precision, name="average")(x)


def _places(spec: ModelSpec) -> Iterator[Place]:
    """Yield the places of all blocks, from the image to the logits."""
    total = STAGES * spec.blocks
    for number in range(total):
        stage, index = divmod(number, spec.blocks)
        halves = stage > 0 and index == 0
        yield Place(
            name=f"stage{stage + 1}_block{index + 1}",
            filters=WIDTHS[stage] * spec.width,
            stride=2 if halves and "maxpool" not in spec.modifiers else 1,
            pooled=halves and "maxpool" in spec.modifiers,
            opens_stage=index == 0,
            survival=1 - (number + 1) / total * (1 - LAST_SURVIVAL),  # Huang et al. 2016, equation 4
        )
