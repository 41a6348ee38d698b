"""Whether seeds of one network see the same images alike, also where they err; and its surest mistakes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.special import softmax

from resblock.core.splits import Split

SHOWN = 8  # mistakes per network


@dataclass(frozen=True)
class Agreement:
    """Two seeds of one network on the test images, statistics as trained."""

    variant: str
    seed: int
    other_seed: int
    images: int
    agree: float  # share of all images that both take for the same class
    both_wrong: int  # images
    agree_when_wrong: float  # share of those that both take for the same, wrong, class; NaN where there are none


def agreements(predicted: Mapping[tuple[str, int], np.ndarray], labels: np.ndarray) -> list[Agreement]:
    """Compare every two seeds of each network; `predicted` holds classes, int (n,), by (variant, seed)."""
    rows: list[Agreement] = []
    for variant in dict.fromkeys(name for name, _ in predicted):
        seeds = sorted(seed for name, seed in predicted if name == variant)
        for seed, other in combinations(seeds, 2):
            ours, theirs = predicted[variant, seed], predicted[variant, other]
            wrong = (ours != labels) & (theirs != labels)
            alike = ours == theirs
            share = float(alike[wrong].mean()) if wrong.any() else math.nan
            rows.append(Agreement(variant, seed, other, len(labels), float(alike.mean()), int(wrong.sum()), share))
    return rows


@dataclass(frozen=True)
class Mistake:
    """A test image that one training took for another class, and how sure it was."""

    variant: str
    seed: int
    index: int  # within the test split
    true: int
    predicted: int
    confidence: float  # the largest probability
    image: np.ndarray  # uint8 (height, width, channel)


def surest_mistakes(variant: str, logits: Mapping[int, np.ndarray], test: Split, count: int = SHOWN) -> list[Mistake]:
    """Return the `count` mistakes that seeds of one network were surest of, each image once.

    `logits`, float (n, class), stand by seed. Equally sure ones come in the order of the test split.
    """
    seeds = sorted(logits)
    confidences = np.stack([softmax(logits[seed].astype(np.float64), axis=-1).max(axis=-1) for seed in seeds])
    predicted = np.stack([logits[seed].argmax(axis=-1) for seed in seeds])  # (seed, image), as confidences
    confidences[predicted == test.labels] = -1
    surest = confidences.argmax(axis=0)  # of each image, the seed most sure of something wrong
    best = confidences.max(axis=0)
    order = [int(index) for index in np.argsort(-best, kind="stable")[:count] if best[index] >= 0]
    return [
        Mistake(
            variant,
            seeds[surest[index]],
            index,
            int(test.labels[index]),
            int(predicted[surest[index], index]),
            float(best[index]),
            test.images[index],
        )
        for index in order
    ]
