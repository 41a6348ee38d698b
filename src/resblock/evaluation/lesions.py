"""Looks at single blocks of a trained network: what they put out, and what is lost without them.

A lesion is an edit of weights, undone afterwards: a residual branch whose last layer gives zero is no branch, and a
plain block of convolutions that copy and normalisations that do nothing is none either. So the network stays as it was
built, on any backend.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from resblock.data.splits import Split
from resblock.evaluation.blocks import Lesion, Response
from resblock.model.anatomy import anatomy
from resblock.seeds import generator
from resblock.spec import ModelSpec
from resblock.training.inference import accuracy, predict

SEED = 0  # the same blocks in every network of one depth


def respond(model: keras.Model, images: np.ndarray, spec: ModelSpec, seed: int) -> list[Response]:
    """Return how strongly each block responds to `images`, uint8 (n, height, width, channel); CNNs have no blocks."""
    blocks = anatomy(model).blocks
    if not blocks:
        return []
    spoken = keras.Model(model.input, [_what_it_says(model, block) for block in blocks])(images, training=False)
    return [
        Response(spec.name, seed, block, position, float(np.std(keras.ops.convert_to_numpy(values), dtype=np.float64)))
        for (block, position), values in zip(blocks.items(), spoken, strict=True)
    ]


def lesion(model: keras.Model, test: Split, spec: ModelSpec, seed: int, draws: int) -> list[Lesion]:
    """Return accuracy on `test` without each block in turn, and without 2, 4, 8, … at random, `draws` times each.

    `model` is as before afterwards. CNNs have no blocks to lose.
    """
    blocks = list(anatomy(model).blocks)
    if not blocks:
        return []
    rows: list[Lesion] = []
    for draw, gone in choices(blocks, draws):
        with removed(model, gone):
            share = accuracy(predict(model, test.images), test.labels)
        rows.append(Lesion(spec.name, seed, len(gone), draw, "+".join(gone), len(test.labels), share))
    return rows


def choices(blocks: list[str], draws: int) -> Iterator[tuple[int, list[str]]]:
    """Yield which blocks go: none, each alone, and random ones, numbered within their count."""
    yield 0, []
    for number, block in enumerate(blocks):
        yield number, [block]
    count = 2
    while count < len(blocks):
        for draw in range(draws):
            picked = generator(SEED, "lesions", count, draw).permutation(len(blocks))[:count]
            yield draw, [blocks[number] for number in sorted(picked.tolist())]
        count *= 2


@contextmanager
def removed(model: keras.Model, blocks: Iterable[str]) -> Generator[None]:
    """Take `blocks` out of `model` for the block."""
    edits = [edit for block in blocks for edit in _without(model, block)]
    before = [(variable, keras.ops.convert_to_numpy(variable)) for variable, _ in edits]
    try:
        for variable, value in edits:
            variable.assign(value)
        yield
    finally:
        for variable, value in before:
            variable.assign(value)


def _without(model: keras.Model, block: str) -> Iterator[tuple[Any, np.ndarray]]:
    """Yield the weights, with their new values, by which `block` only passes on its input."""
    layers = [layer for layer in _layers(model, block) if layer.trainable_weights and "shortcut" not in layer.name]
    if _addition(model, block):
        yield from ((variable, np.zeros(variable.shape)) for variable in layers[-1].trainable_weights)
        return
    for layer in layers:
        if isinstance(layer, keras.layers.Conv2D):
            yield layer.kernel, _copying(layer)
            if layer.bias is not None:
                yield layer.bias, np.zeros(layer.bias.shape)
        elif isinstance(layer, keras.layers.BatchNormalization):
            mean, variance = (keras.ops.convert_to_numpy(v) for v in (layer.moving_mean, layer.moving_variance))
            yield layer.gamma, np.sqrt(variance + layer.epsilon)
            yield layer.beta, mean


def _copying(layer: keras.layers.Conv2D) -> np.ndarray:
    """Return the kernel that copies every stride-th pixel and leaves further channels zero, as option A does."""
    kernel = np.zeros(tuple(layer.kernel.shape))
    # Padding "same" centres a window of three on its pixel, but at a stride of two over an even size starts it there.
    row, column = (
        0 if layer.strides[axis] > 1 and size % 2 == 0 else 1 for axis, size in enumerate(layer.input.shape[1:3])
    )
    channels = np.arange(layer.input.shape[-1])
    kernel[row, column, channels, channels] = 1
    return kernel


def _what_it_says(model: keras.Model, block: str) -> Any:
    addition = _addition(model, block)
    return addition.input[0] if addition else _layers(model, block)[-1].input


def _addition(model: keras.Model, block: str) -> Any:
    """Return the layer that adds the shortcut, None in a plain block."""
    return next((layer for layer in _layers(model, block) if layer.name == f"{block}_add"), None)


def _layers(model: keras.Model, block: str) -> list[Any]:
    return [layer for layer in model.layers if layer.name.startswith(f"{block}_")]
