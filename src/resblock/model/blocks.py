"""The blocks under study: what each family repeats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from resblock.model.makers import Layers
from resblock.spec import Family, ModelSpec

PREACTIVATED: tuple[Family, ...] = ("preact", "bottleneck")
EXPANSION = 4  # a bottleneck puts out four times the channels it computes in (He et al. 2015, figure 5)


@dataclass(frozen=True)
class Place:
    """Where in a network a block stands."""

    name: str
    filters: int
    stride: int
    pooled: bool  # max pooling before it halves the resolution, in a stride's stead
    opens_stage: bool
    survival: float  # probability that stochastic depth keeps its residual branch


def block(x: Any, place: Place, spec: ModelSpec, layers: Layers) -> Any:
    """Apply the block of the spec's family to `x`, float (batch, height, width, channel)."""
    match spec.family:
        case "preact":
            return _preact_block(x, place, layers)
        case "bottleneck":
            return _bottleneck_block(x, place, layers)
        case _:
            return _basic_block(x, place, layers, residual=spec.family == "residual")


def _basic_block(x: Any, place: Place, layers: Layers, *, residual: bool) -> Any:
    """Apply two convolutions, with the shortcut around them or without: the thing under study."""
    name, filters, stride = place.name, place.filters, place.stride
    y = layers.convolve(x, filters, stride=stride, name=f"{name}_conv1")
    y = layers.relu(layers.normalize(y, name=f"{name}_norm1"), name=f"{name}_relu1")
    y = layers.normalize(layers.convolve(y, filters, name=f"{name}_conv2"), name=f"{name}_norm2")
    if residual:
        y = layers.branch(y, survival=place.survival, name=f"{name}_branch")
        y = layers.add(y, layers.shortcut(x, filters, stride=stride, name=f"{name}_shortcut"), name=f"{name}_add")
    return layers.relu(y, name=f"{name}_relu2")


def _preact_block(x: Any, place: Place, layers: Layers) -> Any:
    """Apply He et al. 2016, figure 4 (e): normalise and activate before each convolution, nothing after the sum."""
    name, filters, stride = place.name, place.filters, place.stride
    active = layers.relu(layers.normalize(x, name=f"{name}_norm1"), name=f"{name}_relu1")
    y = layers.convolve(active, filters, stride=stride, name=f"{name}_conv1")
    y = layers.relu(layers.normalize(y, name=f"{name}_norm2"), name=f"{name}_relu2")
    y = layers.convolve(y, filters, name=f"{name}_conv2")
    y = layers.branch(y, survival=place.survival, name=f"{name}_branch")
    x = _shortcut_start(x, active, place, layers)
    return layers.add(y, layers.shortcut(x, filters, stride=stride, name=f"{name}_shortcut"), name=f"{name}_add")


def _bottleneck_block(x: Any, place: Place, layers: Layers) -> Any:
    """Apply He et al. 2016's bottleneck: 1x1, 3x3 and 1x1 convolutions, each after normalisation and activation.

    The stride stands on the first convolution, as in He et al.'s own code (resnet-1k-layers); others have moved it to
    the second.
    """
    name, filters, stride = place.name, place.filters, place.stride
    active = layers.relu(layers.normalize(x, name=f"{name}_norm1"), name=f"{name}_relu1")
    y = layers.convolve(active, filters, kernel_size=1, stride=stride, name=f"{name}_conv1")
    y = layers.relu(layers.normalize(y, name=f"{name}_norm2"), name=f"{name}_relu2")
    y = layers.convolve(y, filters, name=f"{name}_conv2")
    y = layers.relu(layers.normalize(y, name=f"{name}_norm3"), name=f"{name}_relu3")
    y = layers.convolve(y, EXPANSION * filters, kernel_size=1, name=f"{name}_conv3")
    y = layers.branch(y, survival=place.survival, name=f"{name}_branch")
    x = _shortcut_start(x, active, place, layers)
    shortcut = layers.shortcut(x, EXPANSION * filters, stride=stride, name=f"{name}_shortcut")
    return layers.add(y, shortcut, name=f"{name}_add")


def _shortcut_start(x: Any, active: Any, place: Place, layers: Layers) -> Any:
    """Return what a pre-activation block's shortcut starts from: its input, or the activated input.

    He et al. 2016, appendix, and their code: the first block, and those that change the shape, activate before the
    paths part. A convolution as shortcut is best fed so as well.
    """
    return active if place.opens_stage or "allprojection" in layers.spec.modifiers else x
