"""One recipe that differs from a data set's own: its trainings, scored, and how they differ from the study's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from resblock.core.files import read_json, write_json
from resblock.core.recipe import Recipe
from resblock.core.spec import ModelSpec
from resblock.core.training.run import EpochRow
from resblock.evaluation.rows import narrowed, read_rows, write_rows
from resblock.evaluation.score import Score, read_scores, write_scores
from resblock.study.efficiency import Curves
from resblock.study.interval import Interval, t_interval
from resblock.study.measure import Measure
from resblock.study.rebound import find_rebounds, rebound_measure
from resblock.study.summary import Study
from resblock.study.verdicts import Trained

CURVES, RECIPE = "curves.csv", "recipe.json"
REBOUND = "rebound"


@dataclass(frozen=True)
class CurveRow(EpochRow):
    """An epoch, and the training it belongs to."""

    variant: str = ""
    seed: int = 0


def write_ablation(folder: Path, recipe: Mapping[str, Any], scores: Sequence[Score], curves: Curves) -> None:
    """Write all that a report needs of the trainings by one recipe."""
    write_scores(folder, scores)
    rows = [
        CurveRow(**asdict(row), variant=spec.name, seed=seed)
        for spec, seeds in curves.items()
        for seed, curve in seeds.items()
        for row in curve
    ]
    write_rows(folder / CURVES, CurveRow, rows)
    write_json(folder / RECIPE, recipe)


def read_ablation(folder: Path, dataset: str) -> Trained:
    """Read what `write_ablation` wrote of trainings on `dataset`."""
    curves: dict[ModelSpec, dict[int, list[EpochRow]]] = {}
    for row in read_rows(folder / CURVES, CurveRow):
        curves.setdefault(ModelSpec.parse(row.variant), {}).setdefault(row.seed, []).append(narrowed(row, EpochRow))
    study = Study(dataset, tuple(read_scores(folder)))
    return Trained(read_json(folder / RECIPE), study, find_rebounds(curves))


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
