"""What a network says of images, with its batch-norm statistics as trained or re-estimated."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from scipy.special import log_softmax

from resblock.data.splits import Split
from resblock.seeds import derive, generator

# Images a forward pass; decides the last bits, and memory: Keras keeps all layers' outputs to the end of a pass.
MOST_IMAGES, MOST_PIXELS = 500, 128_000


def predict(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Return logits, float32 (n, class), for raw images, uint8 (n, height, width, channel).

    On TensorFlow it runs eagerly: for the few passes an evaluation needs, tracing a graph would take longer than the
    work.
    """
    if keras.backend.backend() == "jax":
        from resblock.training.jax_engine import forward

        logits = forward(model)
        return np.concatenate([logits(batch) for batch in _batches(images)])
    parts = [keras.ops.convert_to_numpy(model(batch, training=False)) for batch in _batches(images)]
    return np.concatenate(parts)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean cross-entropy in nats of logits, float (n, class), for labels, int (n,)."""
    log_probabilities = log_softmax(logits.astype(np.float64), axis=-1)
    return float(-log_probabilities[np.arange(len(labels)), labels].mean())


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of images whose largest logit, float (n, class), stands at their label, int (n,)."""
    return float((logits.argmax(axis=-1) == labels).mean())


def reestimation_images(train: Split, count: int, seed: int) -> np.ndarray:
    """Pick `count` training images, or all if there are fewer, from which statistics are re-estimated."""
    chosen = generator(seed, "reestimation").permutation(len(train.labels))[:count]
    return train.images[np.sort(chosen)]


@contextmanager
def reestimated(model: keras.Model, images: np.ndarray, seed: int) -> Generator[None]:
    """Within the block, `model` normalises with statistics re-estimated on `images`; afterwards all is as before.

    One pass in training mode, augmentation included, so that the averaging is the one thing that differs from the
    statistics as trained: the mean over batches of batch means and variances, each batch weighted by its size, instead
    of an exponential average along training. Wu & Johnson 2021, "Rethinking 'Batch' in BatchNorm", section 3, propose
    this; they add the variance between the batches' means, which the moving averages leave out as well.
    """
    normalizations = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    if not normalizations:
        yield
        return
    momenta = [layer.momentum for layer in normalizations]
    with undisturbed(model):
        _seed_augmentation(model, seed)
        try:
            seen = 0
            for batch in _batches(images):
                for layer in normalizations:
                    layer.momentum = seen / (seen + len(batch))  # turns the moving average into a plain mean
                model(batch, training=True)
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


def _batches(images: np.ndarray) -> Iterator[np.ndarray]:
    _, height, width, _ = images.shape
    size = max(1, min(MOST_IMAGES, MOST_PIXELS // (height * width)))
    for start in range(0, len(images), size):
        yield images[start : start + size]
