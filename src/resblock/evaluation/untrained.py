"""Networks before training: how gradients flow, and how shattered they are."""

from __future__ import annotations

import keras
import numpy as np

from resblock.core.backends import backend
from resblock.core.backends.batches import small_batches
from resblock.core.model.network import build_network
from resblock.core.recipe import Recipe
from resblock.core.seeds import generator
from resblock.core.spec import ModelSpec
from resblock.core.splits import DatasetDescription, Split, mean_image
from resblock.core.training.gradients import Backward, GradientProbe
from resblock.core.training.run import GradientRow
from resblock.core.training.statistics import reestimated
from resblock.evaluation.flow import Shattering
from resblock.params import Probing


def probe(
    spec: ModelSpec, seed: int, train: Split, dataset: DatasetDescription, recipe: Recipe, probing: Probing
) -> tuple[list[GradientRow], list[Shattering]]:
    """Return what a network's initial weights of `seed` do to gradients on images of `train`."""
    mean = mean_image(train.images) if recipe.center == "pixel-mean" else None
    classes = len(dataset.classes)
    network = build_network(spec, dataset.image_shape, classes, recipe, seed, mean=mean, augmented=False)
    gradients = GradientProbe(network, train, probing.images, recipe.batch_size, seed)
    rows = gradients.measure(network.weights(), epoch=0)
    chosen = generator(seed, "lines").permutation(len(train.labels))
    images = train.images[chosen[: probing.images]]
    inference = backend().inference(network.model, compiled=False)
    with reestimated(network.model, inference, images, recipe.batch_size, seed):
        ends = train.take(chosen[: 2 * probing.lines])
        cosines = shattering(gradients.backward, ends, probing.line_points)
    keras.backend.clear_session()  # each network would stay in memory otherwise
    return rows, [Shattering(spec.name, seed, lag, cosine) for lag, cosine in cosines]


def shattering(backward: Backward, ends: Split, points: int) -> list[tuple[float, float]]:
    """Return for each lag the mean cosine between the input gradients of two points so far apart.

    Lines run between the first and second image of `ends`, the third and fourth, and so on, with `points` on each, in
    equal steps; lags are 1, 2, 4, … steps, given as shares of the line. The gradient is that of the logit of the first
    image's class.
    """
    inputs = backward.inputs(ends.images)
    steps = np.linspace(0, 1, points, dtype=np.float32).reshape(-1, *[1] * (inputs.ndim - 1))
    directions: list[np.ndarray] = []
    for first, second, label in zip(inputs[::2], inputs[1::2], ends.labels[::2], strict=False):

        def outward(logits: np.ndarray, label: int = int(label)) -> np.ndarray:
            chosen = np.zeros_like(logits)
            chosen[:, label] = 1
            return chosen

        gradients: list[np.ndarray] = []
        for part in small_batches(first + steps * (second - first)):
            (at_pixels, *_), _ = backward.gradients(part, outward, training=False)
            gradients.append(at_pixels)
        flat = np.concatenate(gradients).reshape(points, -1).astype(np.float64)
        norms = np.linalg.norm(flat, axis=1, keepdims=True)
        directions.append(flat / np.where(norms > 0, norms, 1))
    found: list[tuple[float, float]] = []
    lag = 1
    while lag < points:
        cosines = [(each[lag:] * each[:-lag]).sum(axis=1).mean() for each in directions]
        found.append((lag / (points - 1), float(np.mean(cosines))))
        lag *= 2
    return found
