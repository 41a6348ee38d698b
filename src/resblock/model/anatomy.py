"""Where in a network its convolutions and its blocks stand, read from the names that the house gives to layers."""

from __future__ import annotations

import re
from dataclasses import dataclass

import keras

_PLACE = re.compile(r"stem|stage\d+_(?:block|conv)\d+")  # how the names of a block's layers begin, or a convolution's


@dataclass(frozen=True)
class Anatomy:
    """A network's parts, from the image to the logits. Positions count convolutions on the main path, from 1."""

    convolutions: dict[str, int]  # name to position; those on shortcuts are none of them
    places: dict[str, int]  # the stem, each block, or each convolution of a CNN: the position of its last convolution
    ends: dict[str, keras.Layer]  # the last layer of each place

    @property
    def blocks(self) -> dict[str, int]:
        """The places that are blocks."""
        return {place: position for place, position in self.places.items() if "_block" in place}


def anatomy(model: keras.Model) -> Anatomy:
    """Return the parts of a network that `resblock.model.network.build_model` built."""
    found = Anatomy({}, {}, {})
    for layer in model.layers:
        place = _PLACE.match(layer.name)
        if isinstance(layer, keras.layers.Conv2D) and "shortcut" not in layer.name:
            found.convolutions[layer.name] = len(found.convolutions) + 1
            if place:
                found.places[place[0]] = found.convolutions[layer.name]
        if place:
            found.ends[place[0]] = layer
    return found
