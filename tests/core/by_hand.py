"""Networks of a few layers, made by hand, whose every figure a test can compute."""

from __future__ import annotations

import keras

from resblock.core.model.architecture import design
from resblock.core.model.builder import Part, Parts
from resblock.core.model.network import Network
from resblock.core.spec import ModelSpec


def by_hand(model: keras.Model, *layers: keras.Layer) -> Network:
    """Return `model` as a network of parts, one for each of `layers`; it begins behind the layer ``rescale``."""
    parts = [
        Part(layer.name, is_block=False, position=position, layers=[layer], output=layer.output)
        for position, layer in enumerate(layers, start=1)
    ]
    return Network(model, design(ModelSpec("cnn", 4), (1, 1, 1)), Parts(model.get_layer("rescale").output, parts))
