"""Whether a network is right as often as it says: expected calibration error, reliability, temperature scaling.

After Guo et al. 2017, "On Calibration of Modern Neural Networks", sections 2 and 4.2. On few images a network that is
right exactly as often as it says still shows an error, by chance: its floor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import optimize
from scipy.special import log_softmax, softmax

from resblock.core.splits import Split
from resblock.evaluation.score import Statistics

BINS = 15  # of equal width, as in Guo et al.
DRAWS = 1_000  # of the answers of a perfectly calibrated network: the floor's own error is a thirtieth of their spread
# Where every validation image is right, cross-entropy falls for ever as the temperature goes to zero: hence bounds.
COLDEST, HOTTEST = 0.05, 20.0

Scaling = Literal["raw", "scaled"]  # logits as they are, or divided by the fitted temperature


@dataclass(frozen=True)
class Calibration:
    """One network's calibration on the test images, before and after temperature scaling."""

    variant: str
    seed: int
    statistics: Statistics
    temperature: float  # fitted on validation logits; above 1 the network was too sure
    ece: float
    ece_floor: float  # what a perfectly calibrated network of these confidences would show on average
    ece_scaled: float
    ece_floor_scaled: float
    loss: float  # mean cross-entropy in nats
    loss_scaled: float


@dataclass(frozen=True)
class ReliabilityBin:
    """The test images whose confidence falls in one bin, ((bin - 1) / BINS, bin / BINS]."""

    variant: str
    seed: int
    statistics: Statistics
    scaling: Scaling
    bin: int  # from 1
    images: int
    confidence: float  # mean of the largest probability; NaN in an empty bin
    accuracy: float  # share of the bin's images that are right


def calibrate(
    variant: str, seed: int, statistics: Statistics, *, validation: Split, test: Split, logits: tuple[np.ndarray, ...]
) -> tuple[Calibration, list[ReliabilityBin]]:
    """Fit a temperature on validation and look at calibration on test; `logits` are those of the two, float (n, class).

    The temperature moves no argmax: accuracy is the same before and after.
    """
    on_validation, on_test = logits
    temperature = fit_temperature(on_validation, validation.labels)
    figures: dict[str, float] = {}
    bins: list[ReliabilityBin] = []
    scalings: tuple[tuple[Scaling, np.ndarray], ...] = (("raw", on_test), ("scaled", on_test / temperature))
    for scaling, values in scalings:
        suffix = "" if scaling == "raw" else "_scaled"
        images, confidences, accuracies = reliability(values, test.labels)
        figures["ece" + suffix] = expected_calibration_error(images, confidences, accuracies)
        figures["ece_floor" + suffix] = calibration_floor(values)
        figures["loss" + suffix] = _cross_entropy(values, test.labels)
        bins += [
            ReliabilityBin(variant, seed, statistics, scaling, number, int(count), float(confidence), float(accuracy))
            for number, (count, confidence, accuracy) in enumerate(
                zip(images, confidences, accuracies, strict=True), start=1
            )
        ]
    return Calibration(variant, seed, statistics, temperature, **figures), bins


def reliability(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return images, mean confidence and accuracy in each of BINS bins, float (bin,), of logits, float (n, class)."""
    confidence, place = _confidences(logits)
    right = logits.argmax(axis=-1) == labels
    images = np.bincount(place, minlength=BINS)
    sums = [np.bincount(place, weights=values, minlength=BINS) for values in (confidence, right)]
    with np.errstate(invalid="ignore"):  # an empty bin has no mean
        return images, sums[0] / images, sums[1] / images


def _confidences(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest probability of each image, float (n,), and its bin from 0, int (n,)."""
    confidence = softmax(logits.astype(np.float64), axis=-1).max(axis=-1)
    return confidence, np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)


def calibration_floor(logits: np.ndarray) -> float:
    """Return the mean calibration error of a network that is right about each image with its confidence.

    Its answers are drawn DRAWS times, with a fixed seed; `logits` are float (n, class).
    """
    confidence, place = _confidences(logits)
    rng = np.random.default_rng(0)
    apart = np.zeros(DRAWS)
    for number in range(BINS):
        mine = confidence[place == number]
        right = rng.random((DRAWS, len(mine)), dtype=np.float32) < mine
        apart += np.abs(right.sum(axis=1) - mine.sum())
    return float(apart.mean() / len(confidence))


def expected_calibration_error(images: np.ndarray, confidence: np.ndarray, accuracy: np.ndarray) -> float:
    """Return the mean distance of confidence and accuracy over bins, weighted by their images (Guo et al., eq. 3)."""
    there = images > 0
    return float(np.sum(images[there] * np.abs(confidence[there] - accuracy[there])) / images.sum())


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature in [COLDEST, HOTTEST] that minimises cross-entropy of logits, float (n, class).

    Cross-entropy is convex in 1 / temperature, so the one minimum is found.
    """

    def loss(log_temperature: float) -> float:
        return _cross_entropy(logits / math.exp(log_temperature), labels)

    found = optimize.minimize_scalar(
        loss, bounds=(math.log(COLDEST), math.log(HOTTEST)), method="bounded", options={"xatol": 1e-6}
    )
    return math.exp(float(found.x))


def _cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    # As training.inference has it, without the Keras that comes with that: a report reads these rows and needs none.
    return float(-log_softmax(logits.astype(np.float64), axis=-1)[np.arange(len(labels)), labels].mean())
