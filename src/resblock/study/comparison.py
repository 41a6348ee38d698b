"""Twins against each other: paired gaps with everything a reviewer asks of them, and McNemar's test image by image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from resblock.evaluation.score import Statistics, with_statistics
from resblock.study.interval import (
    ALPHA,
    Interval,
    bootstrap_interval,
    holm,
    mcnemar_p_value,
    seeds_needed,
    smallest_detectable,
    spread_of,
    t_p_value,
)
from resblock.study.summary import Gap, Study

COMPARED = ("train_accuracy", "test_accuracy")

Decision = Literal["residual better", "plain better", "undecided"]


@dataclass(frozen=True)
class Comparison:
    """One gap between twins and how sure it is."""

    gap: Gap
    bootstrap: Interval
    p_value: float  # of the paired t-test
    adjusted_p_value: float  # Holm's, over the family
    detectable: float  # the smallest true gap that so many seeds would find with power 0.8, as a fraction
    seeds_needed: int | None  # to find a gap as large as the one seen, with power 0.8, at Holm's strictest step

    @property
    def decision(self) -> Decision:
        """What may be said, the whole family's errors held to alpha."""
        if math.isnan(self.adjusted_p_value) or self.adjusted_p_value >= ALPHA:
            return "undecided"
        return "residual better" if self.gap.interval.mean > 0 else "plain better"


def compare(study: Study, statistics: Statistics, *, modified: bool = False) -> list[Comparison]:
    """Compare twins on training and test accuracy, with one kind of batch-norm statistics.

    These comparisons are one family for Holm's adjustment: every pair of unmodified twins of the data set, on train and
    on test. Twins with modifiers make a family of their own. The two kinds of statistics are two looks at the same
    networks and make a family each.
    """
    metrics = [with_statistics(metric, statistics) for metric in COMPARED]
    gaps = [gap for metric in metrics for gap in study.gaps(metric, modified=modified)]
    p_values = [t_p_value(list(gap.differences.values()), rounding=gap.rounding) for gap in gaps]
    return [
        _comparison(gap, p_value, adjusted, family=len(gaps))
        for gap, p_value, adjusted in zip(gaps, p_values, holm(p_values), strict=True)
    ]


def _comparison(gap: Gap, p_value: float, adjusted: float, family: int) -> Comparison:
    values = list(gap.differences.values())
    spread = spread_of(values, gap.rounding)
    return Comparison(
        gap,
        bootstrap_interval(values),
        p_value,
        adjusted,
        smallest_detectable(spread, len(values)),
        seeds_needed(spread, gap.interval.mean, ALPHA / family) if gap.interval.mean else None,
    )


@dataclass(frozen=True)
class ImagePairs:
    """On how many test images two twins of one seed were right or wrong together."""

    residual: str
    plain: str
    seed: int
    statistics: Statistics
    both_right: int
    only_residual: int
    only_plain: int
    both_wrong: int

    @property
    def p_value(self) -> float:
        """McNemar's exact p-value: it speaks of these two trained networks, not of other seeds."""
        return mcnemar_p_value(self.only_residual, self.only_plain)


def pair_images(study: Study, right: Mapping[tuple[str, int], np.ndarray], statistics: Statistics) -> list[ImagePairs]:
    """Count for each pair of twins and seed; `right` says of each (variant, seed) which images, bool (n,), it got."""
    pairs: list[ImagePairs] = []
    for residual, plain in (*study.twins, *study.modified_twins):
        for name, seed in right:
            if name == residual.name and (plain.name, seed) in right:
                ours, theirs = right[name, seed], right[plain.name, seed]
                counts = [
                    int(np.sum(both)) for both in (ours & theirs, ours & ~theirs, ~ours & theirs, ~ours & ~theirs)
                ]
                pairs.append(ImagePairs(residual.name, plain.name, seed, statistics, *counts))
    return pairs


def adjusted_image_p_values(pairs: Sequence[ImagePairs]) -> list[float]:
    """Return Holm's adjusted McNemar p-values; the family is every pair of twins and seed among `pairs`."""
    return holm([pair.p_value for pair in pairs])
