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

from resblock.core.backends.batches import small_batches
from resblock.core.backends.protocol import Inference
from resblock.core.model.builder import Part
from resblock.core.model.network import Network
from resblock.core.seeds import generator
from resblock.core.spec import ModelSpec
from resblock.core.splits import Split
from resblock.core.training.inference import accuracy
from resblock.evaluation.blocks import Lesion, Response

SEED = 0  # the same blocks in every network of one depth


def respond(network: Network, images: np.ndarray, spec: ModelSpec, seed: int) -> list[Response]:
    """Return how strongly each block responds to `images`, uint8 (n, height, width, channel); CNNs have no blocks."""
    blocks = network.parts.blocks
    if not blocks:
        return []
    spoken = keras.Model(network.model.input, [block.branch for block in blocks])
    count, sums, squares = np.zeros(len(blocks)), np.zeros(len(blocks)), np.zeros(len(blocks))
    for batch in small_batches(images):
        for index, said in enumerate(spoken(batch, training=False)):
            values = keras.ops.convert_to_numpy(said).astype(np.float64)
            count[index] += values.size
            sums[index] += values.sum()
            squares[index] += (values**2).sum()
    deviations = np.sqrt(np.maximum(squares / count - (sums / count) ** 2, 0))
    return [
        Response(spec.name, seed, block.name, block.position, float(deviation))
        for block, deviation in zip(blocks, deviations, strict=True)
    ]


def lesion(network: Network, inference: Inference, test: Split, spec: ModelSpec, seed: int, draws: int) -> list[Lesion]:
    """Return accuracy on `test` without each block in turn, and without 2, 4, 8, … at random, `draws` times each.

    `network` is as before afterwards. CNNs have no blocks to lose.
    """
    blocks = [block.name for block in network.parts.blocks]
    if not blocks:
        return []
    rows: list[Lesion] = []
    for draw, gone in choices(blocks, draws):
        with removed(network, gone):
            share = accuracy(inference.logits(test.images), test.labels)
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
def removed(network: Network, blocks: Iterable[str]) -> Generator[None]:
    """Take the blocks called `blocks` out of `network` for the block."""
    gone = set(blocks)
    there = [part for part in network.parts.blocks if part.name in gone]
    edits = [edit for part in there for edit in _without(part, adds=network.architecture.adds)]
    before = [(variable, keras.ops.convert_to_numpy(variable)) for variable, _ in edits]
    try:
        for variable, value in edits:
            variable.assign(value)
        yield
    finally:
        for variable, value in before:
            variable.assign(value)


def _without(block: Part, *, adds: bool) -> Iterator[tuple[Any, np.ndarray]]:
    """Yield the weights, with their new values, by which `block` only passes on its input."""
    if adds:
        yield from ((variable, np.zeros(variable.shape)) for variable in block.layers[-1].trainable_weights)
        return
    for layer in block.layers:
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
    row = column = kernel.shape[0] // 2  # every window is centred on its pixel
    channels = np.arange(layer.input.shape[-1])
    kernel[row, column, channels, channels] = 1
    return kernel
