"""Batch-norm statistics, re-estimated on training images with the weights untouched."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from resblock.core.backends import Inference
from resblock.core.backends.batches import small_batches
from resblock.core.model.network import Network
from resblock.core.seeds import derive, generator
from resblock.core.splits import Split


def reestimation_images(train: Split, count: int, seed: int) -> np.ndarray:
    """Pick `count` training images, or all if there are fewer, from which statistics are re-estimated."""
    chosen = generator(seed, "reestimation").permutation(len(train.labels))[:count]
    return train.images[np.sort(chosen)]


@contextmanager
def reestimated(network: Network, inference: Inference, images: np.ndarray, seed: int) -> Generator[None]:
    """Within the block, `network` normalises with statistics re-estimated on `images`; afterwards all is as before.

    One pass in training mode, augmentation included, so that the averaging is the one thing that differs from the
    statistics as trained: the mean over batches of batch means and variances, each batch weighted by its size, instead
    of an exponential average along training. Wu & Johnson 2021, "Rethinking 'Batch' in BatchNorm", section 3, propose
    this; they add the variance between the batches' means, which the moving averages leave out as well.
    """
    normalizations = network.normalizations
    if not normalizations:
        yield
        return
    momenta = [layer.momentum for layer in normalizations]
    with undisturbed(network.model):
        _seed_augmentation(network.model, seed)
        try:
            seen = 0
            for batch in small_batches(images):
                for layer in normalizations:
                    layer.momentum = seen / (seen + len(batch))  # turns the moving average into a plain mean
                inference.observe(batch)
                seen += len(batch)
        finally:
            for layer, momentum in zip(normalizations, momenta, strict=True):
                layer.momentum = momentum
        yield


@contextmanager
def undisturbed(model: keras.Model) -> Generator[None]:
    """Put back, after the block, what passes through `model` in training mode change: statistics, random states."""
    state = [(variable, keras.ops.convert_to_numpy(variable)) for variable in model.non_trainable_variables]
    try:
        yield
    finally:
        for variable, value in state:
            variable.assign(value)


def _seed_augmentation(model: keras.Model, seed: int) -> None:
    """Put the random layers into a state of their own, wherever training left them."""
    for layer in model.layers:
        for random_state in vars(layer).values():
            if isinstance(random_state, keras.random.SeedGenerator):
                start: Any = keras.random.SeedGenerator(derive(seed, "reestimation", layer.name))
                random_state.state.assign(start.state)
