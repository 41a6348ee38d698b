"""Scores to statements: a mean with its interval for each network, a paired gap for each pair of twins.

A training that diverged has learnt nothing. Where accuracies are compared it counts at chance, one in the number of
classes: a network that diverges must not come off better than one that ends there. One that is missing says nothing
and is left out. Means of one network are of the trainings that finished, and its remarks name the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from resblock.core.spec import ModelSpec
from resblock.core.splits import SplitName
from resblock.evaluation.score import HEADLINE, Score, with_statistics
from resblock.study.interval import Interval, spread_of, t_interval
from resblock.study.measure import Measure

SHOWN = ("train_accuracy", "validation_accuracy", "test_accuracy")

Sizes = Mapping[SplitName, int]  # images in each split


def unmodified(spec: ModelSpec) -> bool:
    """Return whether a network is its family's own. Claims speak of these alone; others are named where they stand."""
    return not spec.modifiers and spec.width == 1


def rounding(metric: str, sizes: Sizes) -> float:
    """Return what counting whole images adds to the variance of an accuracy; 0 for losses and splits not in `sizes`."""
    split, _, rest = metric.partition("_")
    images = {str(name): size for name, size in sizes.items()}.get(split)
    return rounding_among(images) if images and rest.startswith("accuracy") else 0.0


def rounding_among(images: int) -> float:
    """Return what counting whole images adds to the variance of an accuracy on so many of them.

    The error is uniform over one image, whose variance is 1/12 of its square.
    """
    return 1 / (12 * images**2)


@dataclass(frozen=True)
class Summary:
    """One network over its seeds."""

    spec: ModelSpec
    scores: tuple[Score, ...]
    sizes: Sizes = field(default_factory=dict[SplitName, int])

    @property
    def finished(self) -> list[Score]:
        """The scores that have figures."""
        return [score for score in self.scores if score.status == "finished"]

    def values(self, metric: str) -> list[float]:
        """Return `metric` of every finished seed."""
        return [score.metrics[metric] for score in self.finished]

    def interval(self, metric: str) -> Interval:
        """Return the mean of `metric` over seeds with its interval."""
        return t_interval(self.values(metric), rounding=rounding(metric, self.sizes))

    @property
    def trouble(self) -> str:
        """What befell the seeds without figures, in words; empty where there are none."""
        found = [score.status for score in self.scores if score.status != "finished"]
        return ", ".join(f"{found.count(status)} {status}" for status in sorted(set(found)))


class Paired:
    """Differences between two networks, paired by seed."""

    differences: dict[int, float]  # seed to difference; a diverged training counts at chance
    rounding: float  # what counting whole images adds to the variance of one difference

    @property
    def interval(self) -> Interval:
        """The mean difference with its paired t-interval."""
        return t_interval(list(self.differences.values()), rounding=self.rounding)

    @property
    def spread(self) -> float:
        """The standard deviation of one seed's difference; NaN below two seeds."""
        return spread_of(list(self.differences.values()), self.rounding)


@dataclass(frozen=True)
class Gap(Paired):
    """Residual minus plain for one pair of twins, paired by seed: twins share initial weights and batches."""

    residual: ModelSpec
    metric: str
    differences: dict[int, float]
    rounding: float = 0.0

    @property
    def depth(self) -> int:
        """The depth that the twins share."""
        return self.residual.depth

    @property
    def label(self) -> str:
        """What tells this pair from the others: the name without the family, for instance ``20``."""
        return self.residual.name.partition("-")[2]


@dataclass(frozen=True)
class Deepening(Paired):
    """The deepest network of a family minus its shallowest, paired by seed."""

    shallow: ModelSpec
    deep: ModelSpec
    differences: dict[int, float]
    rounding: float = 0.0


@dataclass(frozen=True)
class Lead(Paired):
    """How far one network is ahead of another in a metric, over the seeds that both have finished."""

    differences: dict[int, float]
    rounding: float = 0.0

    @property
    def clear(self) -> bool:
        """Whether the interval lies above zero."""
        return self.interval.high > self.interval.low > 0


def lead(first: Summary, second: Summary, metric: str) -> Lead:
    """Return how far `first` is ahead of `second` in `metric`, paired by seed."""
    ours, theirs = ({score.seed: score.metrics[metric] for score in one.finished} for one in (first, second))
    differences = {seed: value - theirs[seed] for seed, value in ours.items() if seed in theirs}
    return Lead(differences, 2 * rounding(metric, first.sizes))


@dataclass(frozen=True)
class Study:
    """All scores of a data set, and what follows from them."""

    dataset: str
    scores: tuple[Score, ...]
    classes: int | None = None  # None: not known, and then nothing can be said where a training diverged
    sizes: Sizes = field(default_factory=dict[SplitName, int])  # without a split, its accuracies pass for exact

    @cached_property
    def summaries(self) -> list[Summary]:
        """One summary per network, in the order of the scores."""
        names = list(dict.fromkeys(score.variant for score in self.scores))
        return [
            Summary(ModelSpec.parse(name), tuple(score for score in self.scores if score.variant == name), self.sizes)
            for name in names
        ]

    def measure(self, metric: str) -> Measure:
        """Return `metric` of every network and seed that finished."""
        return {
            summary.spec: {score.seed: score.metrics[metric] for score in summary.finished}
            for summary in self.summaries
            if summary.finished
        }

    def accuracies(self, metric: str) -> Measure:
        """Return an accuracy of every network and seed that finished or diverged, the latter at chance."""
        found: dict[ModelSpec, dict[int, float]] = {}
        for summary in self.summaries:
            for score in summary.scores:
                if score.status in ("finished", "diverged"):
                    value = score.metrics[metric] if score.status == "finished" else self.chance
                    found.setdefault(summary.spec, {})[score.seed] = value
        return found

    @property
    def chance(self) -> float:
        """The accuracy of a guess. Raises ValueError where the number of classes is not known."""
        if not self.classes:
            raise ValueError(f"{self.dataset}: a diverged training counts at chance; give Study the number of classes")
        return 1 / self.classes

    def rounding(self, metric: str) -> float:
        """Return what counting whole images adds to the variance of one training's `metric`."""
        return rounding(metric, self.sizes)

    def remarks(self, specs: Iterable[ModelSpec], *, missing: bool = True) -> list[str]:
        """Say of which of these networks trainings diverged, and count at chance, or are left out as `missing`."""
        wanted = set(specs)
        found: list[str] = []
        for summary in self.summaries:
            seeds: dict[str, list[int]] = {}
            for score in summary.scores if summary.spec in wanted else ():
                seeds.setdefault(score.status, []).append(score.seed)
            for status, which in seeds.items():
                if status == "diverged":
                    share = f"{len(which)} of {len(summary.scores)} seeds"
                    found.append(f"{summary.spec} diverged in {share}, counted at chance ({100 * self.chance:.3g} %)")
                elif status != "finished" and missing:
                    found.append(f"{summary.spec} left out, {status}: {_seeds(which)}")
        return found

    @cached_property
    def twins(self) -> list[tuple[ModelSpec, ModelSpec]]:
        """Every residual network and its plain twin, both unmodified and in the study, the shallowest first."""
        return [pair for pair in self._pairs if unmodified(pair[0])]

    @cached_property
    def modified_twins(self) -> list[tuple[ModelSpec, ModelSpec]]:
        """The same of networks with modifiers, which both share."""
        return [pair for pair in self._pairs if not unmodified(pair[0])]

    @property
    def _pairs(self) -> list[tuple[ModelSpec, ModelSpec]]:
        specs = {summary.spec for summary in self.summaries}
        pairs = [(spec, spec.twin) for spec in specs if spec.family != "plain"]
        there = [(spec, twin) for spec, twin in pairs if twin in specs and twin and twin.family == "plain"]
        return sorted(there, key=lambda pair: (pair[0].depth, pair[0].name))

    def gaps(self, metric: str, *, modified: bool = False) -> list[Gap]:
        """Return the residual-minus-plain gap in an accuracy of each pair of twins, over seeds that both have.

        Unmodified twins, or those with modifiers. A training that diverged counts at chance.
        """
        values = self.accuracies(metric)
        gaps: list[Gap] = []
        for residual, plain in self.modified_twins if modified else self.twins:
            ours, theirs = values.get(residual, {}), values.get(plain, {})
            differences = {seed: ours[seed] - theirs[seed] for seed in ours if seed in theirs}
            gaps.append(Gap(residual, metric, differences, 2 * self.rounding(metric)))
        return gaps

    def deepening(self, metric: str, family: str = "residual") -> Deepening | None:
        """Return what an accuracy gains from the shallowest unmodified network of `family` to the deepest.

        None where there are no two depths. A training that diverged counts at chance.
        """
        values = {
            spec: seeds for spec, seeds in self.accuracies(metric).items() if spec.family == family and unmodified(spec)
        }
        if len(values) < 2:
            return None
        shallow, *_, deep = sorted(values, key=lambda spec: spec.depth)
        differences = {
            seed: value - values[shallow][seed] for seed, value in values[deep].items() if seed in values[shallow]
        }
        return Deepening(shallow, deep, differences, 2 * self.rounding(metric)) if differences else None

    def metrics(self) -> dict[str, dict[str, float | None]]:
        """Return the few figures that `dvc metrics diff` and `dvc exp show` compare: means over seeds, two a network.

        And the paired gaps in test accuracy, all by the headline's batch-norm statistics. Intervals, single seeds and
        further figures stand in the report's tables.
        """
        means: dict[str, dict[str, float | None]] = {
            metric: {
                summary.spec.name: summary.interval(with_statistics(metric, HEADLINE)).mean
                for summary in self.summaries
            }
            for metric in ("validation_accuracy", "test_accuracy")
        }
        test = with_statistics("test_accuracy", HEADLINE)
        gaps = [*self.gaps(test), *self.gaps(test, modified=True)]
        return {**means, "residual_minus_plain": {gap.label: gap.interval.mean for gap in gaps}}


def _seeds(seeds: Iterable[int]) -> str:
    shown = [str(seed) for seed in seeds]
    return f"seed{'s' if len(shown) > 1 else ''} {', '.join(shown)}"
