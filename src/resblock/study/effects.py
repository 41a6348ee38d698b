"""What recipes that differ from a data set's own change: their trainings against the study's, paired by seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from resblock.core.recipe import Recipe
from resblock.core.spec import ModelSpec
from resblock.study.interval import Interval, t_interval
from resblock.study.measure import Measure
from resblock.study.rebound import rebound_measure
from resblock.study.verdicts import Trained

REBOUND = "rebound"


@dataclass(frozen=True)
class Effect:
    """What one recipe does to one figure of one network: it, minus the data set's own recipe, paired by seed."""

    recipe: str
    spec: ModelSpec
    metric: str
    differences: Mapping[int, float]  # seed to difference

    @property
    def interval(self) -> Interval:
        """The mean difference with its paired t-interval."""
        return t_interval(list(self.differences.values()))


def effects(base: Trained, ablations: Mapping[str, Trained], metric: str) -> Iterator[Effect]:
    """Yield the effect of each recipe on each network's `metric`, over seeds that finished by both recipes.

    A metric is one of a score's, or REBOUND: rises over falls of validation loss as trained.
    One seed gives both the same initial weights, and the same order of images where the batch size is the same.
    """
    ours = _measure(base, metric)
    for name, trained in ablations.items():
        theirs = _measure(trained, metric)
        for summary in trained.study.summaries:
            with_it, without = theirs.get(summary.spec, {}), ours.get(summary.spec, {})
            pairs = {seed: with_it[seed] - without[seed] for seed in with_it if seed in without}
            yield Effect(name, summary.spec, metric, pairs)


def _measure(trained: Trained, metric: str) -> Measure:
    return rebound_measure(trained.rebounds, "relative") if metric == REBOUND else trained.study.measure(metric)


def changes(base: Mapping[str, Any], recipe: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the keys in which `recipe` differs, each with the base's value and its own."""
    full, other = ({**Recipe.defaults(), **tree} for tree in (base, recipe))  # recipes leave out what is at its default
    return {key: (full.get(key), value) for key, value in other.items() if full.get(key) != value}
