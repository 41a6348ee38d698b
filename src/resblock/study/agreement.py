"""Whether seeds of one network see the same images alike, also where they err; and its surest mistakes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy.special import softmax

from resblock.core.files import read_arrays, write_arrays
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


def write_mistakes(path: Path, mistakes: Sequence[Mistake]) -> None:
    """Write `mistakes` with their images, one array per field."""
    columns = {
        "variant": np.array([mistake.variant for mistake in mistakes], dtype=np.str_),
        "seed": np.array([mistake.seed for mistake in mistakes], dtype=np.int64),
        "index": np.array([mistake.index for mistake in mistakes], dtype=np.int64),
        "true": np.array([mistake.true for mistake in mistakes], dtype=np.int64),
        "predicted": np.array([mistake.predicted for mistake in mistakes], dtype=np.int64),
        "confidence": np.array([mistake.confidence for mistake in mistakes], dtype=np.float64),
        "image": np.array([mistake.image for mistake in mistakes], dtype=np.uint8),
    }
    write_arrays(path, columns)


def read_mistakes(path: Path) -> list[Mistake]:
    """Read what `write_mistakes` wrote."""
    columns = read_arrays(path)
    names = ("variant", "seed", "index", "true", "predicted", "confidence")
    rows = zip(*(columns[name].tolist() for name in names), columns["image"], strict=True)
    return [Mistake(*row) for row in rows]
