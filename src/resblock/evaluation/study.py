"""Scores to statements: a mean with its interval for each network, a paired gap for each depth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import stats

from resblock.evaluation.score import Score
from resblock.spec import ModelSpec

CONFIDENCE = 0.95
HEADLINES = ("train_accuracy", "validation_accuracy", "test_accuracy")


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and Student's t-interval around it; NaN bounds where fewer than two seeds finished."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def half_width(self) -> float:
        """Half the interval's length."""
        return (self.high - self.low) / 2


def t_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Return the mean of `values` with its two-sided t-interval (normal errors, unknown variance)."""
    n = len(values)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    mean = float(np.mean(values))
    if n == 1:
        return Interval(mean, math.nan, math.nan, 1)
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1) * np.std(values, ddof=1) / math.sqrt(n))
    return Interval(mean, mean - half, mean + half, n)


@dataclass(frozen=True)
class Summary:
    """One network over its seeds."""

    spec: ModelSpec
    scores: tuple[Score, ...]

    @property
    def finished(self) -> list[Score]:
        """The scores that have figures."""
        return [score for score in self.scores if score.status == "finished"]

    def values(self, metric: str) -> list[float]:
        """Return `metric` of every finished seed."""
        return [score.metrics[metric] for score in self.finished]

    def interval(self, metric: str) -> Interval:
        """Return the mean of `metric` over seeds with its interval."""
        return t_interval(self.values(metric))

    @property
    def trouble(self) -> str:
        """What befell the seeds without figures, in words; empty where there are none."""
        counts = {status: sum(score.status == status for score in self.scores) for status in ("diverged", "missing")}
        return ", ".join(f"{count} {status}" for status, count in counts.items() if count)


@dataclass(frozen=True)
class Gap:
    """Residual minus plain at one depth, paired by seed: twins share initial weights and batches."""

    depth: int
    metric: str
    differences: dict[int, float]  # seed to difference

    @property
    def interval(self) -> Interval:
        """The mean difference with its paired t-interval."""
        return t_interval(list(self.differences.values()))


@dataclass(frozen=True)
class Study:
    """All scores of a data set, and what follows from them."""

    dataset: str
    scores: tuple[Score, ...]

    @cached_property
    def summaries(self) -> list[Summary]:
        """One summary per network, in the order of the scores."""
        names = list(dict.fromkeys(score.variant for score in self.scores))
        return [
            Summary(ModelSpec.parse(name), tuple(score for score in self.scores if score.variant == name))
            for name in names
        ]

    def gaps(self, metric: str) -> list[Gap]:
        """Return the residual-minus-plain gap at each depth that has both twins, over seeds that finished both."""
        by_spec = {summary.spec: summary for summary in self.summaries}
        gaps: list[Gap] = []
        for spec, residual in sorted(by_spec.items(), key=lambda item: item[0].depth):
            twin = spec.twin
            if spec.family != "residual" or twin not in by_spec:
                continue
            plain = {score.seed: score.metrics[metric] for score in by_spec[twin].finished}
            differences = {
                score.seed: score.metrics[metric] - plain[score.seed]
                for score in residual.finished
                if score.seed in plain
            }
            gaps.append(Gap(spec.depth, metric, differences))
        return gaps

    def metrics(self) -> dict[str, Any]:
        """Return the few figures that `dvc metrics diff` compares: means over seeds, and the paired gaps.

        Intervals, single seeds and further figures stand in the report's tables.
        """
        means = {
            metric: {summary.spec.name: summary.interval(metric).mean for summary in self.summaries}
            for metric in ("test_accuracy", "train_accuracy")
        }
        return {
            **means,
            "residual_minus_plain": {str(gap.depth): gap.interval.mean for gap in self.gaps("test_accuracy")},
        }
