"""Batch-norm statistics, re-estimated on training images with the weights untouched."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from resblock.core.backends.normalization import normalizations
from resblock.core.backends.protocol import BatchStatistics, Inference
from resblock.core.seeds import derive, sample
from resblock.core.splits import Split


def reestimation_images(train: Split, count: int, seed: int) -> np.ndarray:
    """Pick `count` training images, or all if there are fewer, from which statistics are re-estimated."""
    return train.images[sample(len(train.labels), count, seed, "reestimation")]


@contextmanager
def reestimated(
    model: keras.Model, inference: Inference, images: np.ndarray, batch_size: int, seed: int
) -> Generator[None]:
    """Within the block, `model` normalises with statistics re-estimated on `images`; afterwards all is as before.

    One pass in batches of the training's size, augmented as in training, every layer normalising by its batch; with
    stochastic depth every branch is kept, as at inference.
    """
    layers = normalizations(model)
    if not layers:
        yield
        return
    sizes = [min(batch_size, len(images) - start) for start in range(0, len(images), batch_size)]
    with undisturbed(model):
        _seed_augmentation(model, seed)
        for layer, seen in zip(layers, inference.statistics(images, batch_size), strict=True):
            mean, variance = aggregate(seen, np.array(sizes))
            layer.moving_mean.assign(mean)
            layer.moving_variance.assign(variance)
        yield


def aggregate(seen: BatchStatistics, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance over all batches of `sizes` images, int (batch,), each float32 (channel,).

    Wu & Johnson 2021, "Rethinking 'Batch' in BatchNorm", section 3: the variance is that of all values together, so
    that what the batches' means differ by counts as well.
    """
    shares = (sizes / sizes.sum())[:, None]  # (batch, 1)
    means, variances = (values.astype(np.float64) for values in seen)
    mean = (shares * means).sum(axis=0)
    variance = (shares * (variances + (means - mean) ** 2)).sum(axis=0)
    return mean.astype(np.float32), variance.astype(np.float32)


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
