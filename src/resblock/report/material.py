"""What a report is made from, and what its sections are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from resblock import paths
from resblock.core.files import read_json
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.splits import DatasetDescription, read_description
from resblock.core.training.run import (
    MANIFEST,
    Cost,
    EpochRow,
    GradientRow,
    is_there,
    read_cost,
    read_curve,
    read_gradients,
)
from resblock.evaluation.flow import Gradients, Untrained, read_untrained
from resblock.study.effects import read_ablation
from resblock.study.efficiency import Costs, Curves
from resblock.study.gradients import probes
from resblock.study.provenance import mixtures
from resblock.study.rebound import Rebound, find_rebounds
from resblock.study.results import Results, read_results
from resblock.study.summary import Study
from resblock.study.verdicts import Evidence, Trained


@dataclass(frozen=True)
class Material:
    """All that a report is made from. Only the study's scores have rows for what is missing or diverged."""

    dataset: DatasetDescription
    results: Results
    curves: Curves
    costs: Costs
    recipes: Sequence[Mapping[str, Any]]  # of the runs that are there, each different one once
    keys: Mapping[str, str] = field(default_factory=dict[str, str])  # the training's name to its run key
    ablations: Mapping[str, Trained] = field(default_factory=dict[str, Trained])
    gradients: Gradients = field(
        default_factory=dict[ModelSpec, Mapping[int, Sequence[GradientRow]]]
    )  # of the trainings
    untrained: Untrained | None = None
    mixtures: Sequence[str] = ()  # in what the trainings, those of ablations too, were not made alike

    @cached_property
    def study(self) -> Study:
        """The scores, and what follows from them."""
        return self._told(Study(self.dataset.name, tuple(self.results.scores)))

    def _told(self, study: Study) -> Study:
        """Return `study` with what the data set says: its classes, and how many images are in each split."""
        return replace(study, classes=len(self.dataset.classes), sizes=self.dataset.sizes)

    @cached_property
    def rebounds(self) -> list[Rebound]:
        """The rebound of every training that is there."""
        return find_rebounds(self.curves)

    @cached_property
    def evidence(self) -> Evidence:
        """What the verdicts may rest on. Runs by several recipes make none of them the base of a comparison."""
        recipe = self.recipes[0] if len(self.recipes) == 1 else {}
        multiply_adds = {
            spec.name: cost.multiply_adds for spec, seeds in self.costs.items() for cost in list(seeds.values())[:1]
        }
        base = Trained(recipe, self.study, self.rebounds)
        ablations = {name: replace(other, study=self._told(other.study)) for name, other in self.ablations.items()}
        return Evidence(base, ablations, probes(self.untrained), multiply_adds)


def read_material(dataset_name: str, keys: Sequence[RunKey], recipes: Sequence[str] = ()) -> Material:
    """Gather what is there of trainings and of ablations by other `recipes`.

    A training that is missing leaves no gap but in the scores, which say so.
    """
    there = [key for key in keys if is_there(paths.run(key))]
    manifests = {key: read_json(paths.run(key) / MANIFEST) for key in there}
    seen = [manifest["recipe"] for manifest in manifests.values()]
    curves: dict[ModelSpec, dict[int, Sequence[EpochRow]]] = {}
    gradients: dict[ModelSpec, dict[int, Sequence[GradientRow]]] = {}
    costs: dict[ModelSpec, dict[int, Cost]] = {}
    for key in there:
        curves.setdefault(key.spec, {})[key.seed] = read_curve(paths.run(key))
        gradients.setdefault(key.spec, {})[key.seed] = read_gradients(paths.run(key))
        if paths.cost(key).is_file():
            costs.setdefault(key.spec, {})[key.seed] = read_cost(paths.cost(key))
    others = [key for name in recipes for key in paths.trained(dataset_name, name)]
    made = [*manifests.values(), *(read_json(paths.run(key) / MANIFEST) for key in others)]
    dataset = read_description(paths.splits(dataset_name))
    untrained = paths.untrained(dataset_name)
    return Material(
        dataset=dataset,
        results=read_results(paths.scores(dataset_name), dataset.classes),
        curves=curves,
        costs=costs,
        recipes=[recipe for index, recipe in enumerate(seen) if recipe not in seen[:index]],
        keys={paths.stage(key): str(manifest["key"]) for key, manifest in manifests.items()},
        ablations={
            name: read_ablation(folder, dataset_name)
            for name in recipes
            for folder in [paths.scores(dataset_name, name)]
            if folder.is_dir()
        },
        gradients=gradients,
        untrained=read_untrained(untrained) if (untrained / MANIFEST).is_file() else None,
        mixtures=mixtures(made),
    )


@dataclass(frozen=True)
class Picture:
    """A figure with its words and the numbers it shows."""

    name: str
    caption: str
    figure: Figure
    data: pd.DataFrame
    timed: bool = False  # shows what a clock measured, so that a repeat draws another one


@dataclass(frozen=True)
class Table:
    """A table as a reader sees it, and the numbers behind it."""

    name: str
    caption: str
    frame: pd.DataFrame  # text
    data: pd.DataFrame | None = None  # numbers; None where a picture's data holds them
    timed: bool = False


@dataclass(frozen=True)
class Section:
    """One question and what answers it."""

    name: str
    title: str
    words: str
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
