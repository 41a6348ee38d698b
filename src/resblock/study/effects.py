"""What recipes that differ from a data set's own change: their trainings against the study's, paired by seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from resblock.core.recipe import Recipe
from resblock.core.spec import ModelSpec
from resblock.study.rebound import RELATIVE, lessened
from resblock.study.summary import Paired
from resblock.study.verdicts import Trained

REBOUND = "rebound"


@dataclass(frozen=True)
class Effect(Paired):
    """What one recipe does to one figure of one network: it, minus the data set's own recipe, paired by seed."""

    recipe: str
    spec: ModelSpec
    metric: str
    differences: dict[int, float]
    rounding: float = 0.0


def effects(base: Trained, ablations: Mapping[str, Trained], metric: str) -> Iterator[Effect]:
    """Yield the effect of each recipe on each network's `metric`, over seeds that both recipes have.

    A metric is one of a score's accuracies, where a diverged training counts at chance, or REBOUND: rises over falls of
    validation loss as trained, heights summed over the seeds that trained to the end by both.
    One seed gives both the same initial weights, and the same order of images where the batch size is the same.
    """
    for name, trained in ablations.items():
        for summary in trained.study.summaries:
            differences = _differences(base, trained, summary.spec, metric)
            yield Effect(name, summary.spec, metric, differences, 2 * base.study.rounding(metric))


def _differences(base: Trained, trained: Trained, spec: ModelSpec, metric: str) -> dict[int, float]:
    if metric == REBOUND:
        ours, theirs = ([each for each in side.rebounds if each.spec == spec] for side in (base, trained))
        return {seed: -less for seed, less in lessened(ours, theirs, *RELATIVE).items()}
    without, with_it = (side.study.accuracies(metric).get(spec, {}) for side in (base, trained))
    return {seed: with_it[seed] - without[seed] for seed in with_it if seed in without}


def changes(base: Mapping[str, Any], recipe: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the keys in which `recipe` differs, each with the base's value and its own."""
    full, other = ({**Recipe.defaults(), **tree} for tree in (base, recipe))  # recipes leave out what is at its default
    return {key: (full.get(key), value) for key, value in other.items() if full.get(key) != value}
