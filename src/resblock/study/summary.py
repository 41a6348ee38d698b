"""Scores to statements: a mean with its interval for each network, a paired gap for each pair of twins."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from resblock.core.spec import ModelSpec
from resblock.evaluation.score import Score
from resblock.study.interval import Interval, t_interval
from resblock.study.measure import Measure

HEADLINES = ("train_accuracy", "validation_accuracy", "test_accuracy")


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
    """Residual minus plain for one pair of twins, paired by seed: twins share initial weights and batches."""

    residual: ModelSpec
    metric: str
    differences: dict[int, float]  # seed to difference

    @property
    def depth(self) -> int:
        """The depth that the twins share."""
        return self.residual.depth

    @property
    def label(self) -> str:
        """What tells this pair from the others: the name without the family, for instance ``20``."""
        return self.residual.name.partition("-")[2]

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

    def measure(self, metric: str) -> Measure:
        """Return `metric` of every network and seed that finished."""
        return {
            summary.spec: {score.seed: score.metrics[metric] for score in summary.finished}
            for summary in self.summaries
            if summary.finished
        }

    @property
    def twins(self) -> list[tuple[ModelSpec, ModelSpec]]:
        """Every residual network whose plain twin is in the study too, with that twin, the shallowest first."""
        specs = {summary.spec for summary in self.summaries}
        twins = {spec.name: spec.twin for spec in specs if spec.family != "plain"}
        pairs = [(spec, twin) for spec in specs for twin in [twins.get(spec.name)] if twin in specs]
        there = [(spec, twin) for spec, twin in pairs if twin and twin.family == "plain"]
        return sorted(there, key=lambda pair: (pair[0].depth, pair[0].name))

    def gaps(self, metric: str) -> list[Gap]:
        """Return the residual-minus-plain gap of each pair of twins, over seeds that finished both."""
        values = self.measure(metric)
        gaps: list[Gap] = []
        for residual, plain in self.twins:
            ours, theirs = values.get(residual, {}), values.get(plain, {})
            gaps.append(Gap(residual, metric, {seed: ours[seed] - theirs[seed] for seed in ours if seed in theirs}))
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
            "residual_minus_plain": {gap.label: gap.interval.mean for gap in self.gaps("test_accuracy")},
        }
