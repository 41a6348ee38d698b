"""The blocks under study: what each family repeats, each one function of what it is given.

`net` applies layers, names them after the place, and keeps what belongs to the block for whoever looks into it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from resblock.core.model.architecture import Place
from resblock.core.model.builder import Builder

Block = Callable[[Any, Place, Builder], Any]  # float (batch, height, width, channel) to the same

EXPANSION = 4  # a bottleneck puts out four times the channels it computes in (He et al. 2015, figure 5)


def convolution(x: Any, place: Place, net: Builder) -> Any:
    """Apply one 3x3 convolution and ReLU; the first one takes in the image."""
    if place.entry is None:
        return net.relu(net.convolve(x, place.filters), "relu")
    return net.reduce(net.relu(net.take_in(x, place.filters, place.entry), "relu"), place.entry)


def basic(x: Any, place: Place, net: Builder) -> Any:
    """Apply two convolutions, with the shortcut around them or without: the thing under study."""
    y = net.relu(net.normalize(net.convolve(x, place.filters, "conv1", stride=place.stride), "norm1"), "relu1")
    y = net.branch(net.normalize(net.convolve(y, place.filters, "conv2"), "norm2"))
    return net.relu(net.add(y, net.shortcut(x, place.filters)) if net.adds else y, "relu2")


def preactivated(x: Any, place: Place, net: Builder) -> Any:
    """Apply He et al. 2016, figure 4 (e): normalise and activate before each convolution, nothing after the sum."""
    active = net.relu(net.normalize(x, "norm1"), "relu1")
    y = net.convolve(active, place.filters, "conv1", stride=place.stride)
    y = net.convolve(net.relu(net.normalize(y, "norm2"), "relu2"), place.filters, "conv2")
    return net.add(net.branch(y), net.shortcut(_shortcut_start(x, active, place, net), place.filters))


def bottleneck(x: Any, place: Place, net: Builder) -> Any:
    """Apply He et al. 2016's bottleneck: 1x1, 3x3 and 1x1 convolutions, each after normalisation and activation.

    The stride stands on the first convolution, as in He et al.'s own code (resnet-1k-layers); others have moved it to
    the second.
    """
    active = net.relu(net.normalize(x, "norm1"), "relu1")
    y = net.convolve(active, place.filters, "conv1", kernel_size=1, stride=place.stride)
    y = net.convolve(net.relu(net.normalize(y, "norm2"), "relu2"), place.filters, "conv2")
    y = net.convolve(net.relu(net.normalize(y, "norm3"), "relu3"), EXPANSION * place.filters, "conv3", kernel_size=1)
    return net.add(net.branch(y), net.shortcut(_shortcut_start(x, active, place, net), EXPANSION * place.filters))


BLOCKS: dict[str, Block] = {
    "convolution": convolution,
    "basic": basic,
    "preactivated": preactivated,
    "bottleneck": bottleneck,
}


def _shortcut_start(x: Any, active: Any, place: Place, net: Builder) -> Any:
    """Return what a pre-activation block's shortcut starts from: its input, or the activated input.

    He et al. 2016, appendix, and their code: the first block, and those that change the shape, activate before the
    paths part. A convolution as shortcut is best fed so as well.
    """
    return active if place.opens_stage or net.architecture.shortcut == "all-projected" else x
