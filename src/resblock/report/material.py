"""What a report is made from, and what its sections are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from resblock import paths
from resblock.core.recipe import BASE
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.splits import DatasetDescription, read_description, read_verified
from resblock.core.training.run import MANIFEST, Cost, EpochRow, GradientRow, read_curve, read_gradients
from resblock.costs import Taken, own_first, published_first
from resblock.data.review import Review, read_review
from resblock.evaluation.assessment import Assessment, read_assessment
from resblock.evaluation.flow import Gradients, Untrained, read_untrained
from resblock.evaluation.identity import Wanted
from resblock.study.efficiency import Costs, Curves
from resblock.study.found import Found, find, left_out
from resblock.study.gradients import probes
from resblock.study.provenance import examined_unlike, mixtures
from resblock.study.rebound import Rebound, find_rebounds
from resblock.study.results import Results, gather
from resblock.study.summary import Study
from resblock.study.verdicts import Evidence, Trained


@dataclass(frozen=True)
class Material:
    """All that a report is made from. Only the study's scores have rows for what is missing or diverged."""

    dataset: DatasetDescription
    results: Results
    curves: Curves
    costs: Costs  # of the trainings that are here, as published where they are
    recipes: Sequence[Mapping[str, Any]]  # of the runs that are there, each different one once
    keys: Mapping[str, str] = field(default_factory=dict[str, str])  # the training's name to its run key
    ablations: Mapping[str, Trained] = field(default_factory=dict[str, Trained])
    other_curves: Mapping[str, Curves] = field(default_factory=dict[str, Curves])  # of ablations, by recipe
    gradients: Gradients = field(
        default_factory=dict[ModelSpec, Mapping[int, Sequence[GradientRow]]]
    )  # of the trainings
    untrained: Untrained | None = None
    review: Review | None = None  # of the data, where they were cut by code that made one
    mixtures: Sequence[str] = ()  # in what trainings and evaluations, those of ablations too, were not made alike
    unpublished: int = 0  # of how many of `costs` nothing is published, so that they are of this folder's own trainings
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])  # see `size`
    left_out: Sequence[str] = ()  # which trainings have no figures though they are here, and why

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
        sizes = {summary.spec.name: self.size(summary.spec) for summary in self.study.summaries}
        multiply_adds = {name: size[1] for name, size in sizes.items() if size}
        base = Trained(recipe, self.study, self.rebounds)
        ablations = {name: replace(other, study=self._told(other.study)) for name, other in self.ablations.items()}
        return Evidence(base, ablations, probes(self.untrained), multiply_adds)

    def size(self, spec: ModelSpec) -> tuple[int, int] | None:
        """Return a network's parameters and multiply-adds, which any training of it tells; None where none is known."""
        known = [(cost.parameters, cost.multiply_adds) for cost in self.costs.get(spec, {}).values()]
        return known[0] if known else self.sizes.get(spec.name)


def read_material(dataset_name: str, asked: Sequence[Wanted]) -> Material:
    """Gather what is here of the trainings that are `asked` for, by the data set's own recipe and by others.

    One that is missing leaves no gap but in the scores, which say so; a foreign one leaves its reason besides.
    """
    found, place = _find(asked), paths.splits(dataset_name)
    dataset = read_description(place)
    assessments = [_assessment(one, dataset.classes) for one in found if one.key.recipe == BASE]
    return _gathered(dataset, asked, found, gather(dataset_name, assessments, read_verified(place, dataset, "test")))


def read_numbers(dataset: DatasetDescription, asked: Sequence[Wanted]) -> Material:
    """Gather the same from files that git holds: of the results the scores alone, since all others want images."""
    found = _find(asked)
    return _gathered(dataset, asked, found, Results([one.score for one in found if one.key.recipe == BASE]))


def recorded(dataset_name: str, manifest: Mapping[str, Any]) -> DatasetDescription:
    """Return what the splits were, by the `manifest` that git holds of them; what it does not say is empty."""
    return DatasetDescription(
        name=dataset_name,
        classes=tuple(manifest.get("classes", ())),
        image_shape=tuple(manifest.get("image_shape", (0, 0, 0))),
        sizes=manifest.get("sizes", {}),
        digests=manifest.get("digests", {}),
        source=manifest.get("source", ""),
    )


def _find(asked: Sequence[Wanted]) -> list[Found]:
    return [find(wanted, paths.run(wanted.key), paths.scores(wanted.key)) for wanted in asked]


def _gathered(
    dataset: DatasetDescription, asked: Sequence[Wanted], found: Sequence[Found], results: Results
) -> Material:
    """Put `results` beside all that needs no images."""
    base = [one for one in found if one.key.recipe == BASE]
    recipes = {wanted.key.recipe: wanted.recipe.tree() for wanted in asked}
    others = {name: [one for one in found if one.key.recipe == name] for name in recipes if name != BASE}
    curves = {name: _curves(trained) for name, trained in others.items()}
    there = [one for one in found if one.training]
    untrained = paths.untrained(dataset.name)
    taken = [(one.key, published_first(one.key, one.training)) for one in base if one.training]
    sizes = {key.spec.name: any_.cost for key in (one.key for one in base) if (any_ := own_first(key))}
    return Material(
        dataset=dataset,
        results=results,
        curves=_curves(base),
        costs=_costs(taken),
        unpublished=sum(each.whose == "here" for _, each in taken if each),
        sizes={name: (cost.parameters, cost.multiply_adds) for name, cost in sizes.items()},
        recipes=[recipes[BASE]] if any(one.training for one in base) else [],
        keys={paths.stage(one.key): str(one.training["key"]) for one in there if one.training},
        ablations={
            name: Trained(
                recipes[name],
                Study(dataset.name, tuple(one.score for one in trained)),
                find_rebounds(curves[name]),
            )
            for name, trained in others.items()
            if any(one.score.status != "missing" for one in trained)
        },
        other_curves=curves,
        gradients=_gradients(base),
        untrained=read_untrained(untrained) if (untrained / MANIFEST).is_file() else None,
        review=read_review(paths.review(dataset.name)) if paths.review(dataset.name).is_file() else None,
        mixtures=[
            *mixtures(one.training for one in there if one.training),
            *examined_unlike(one.evaluation for one in there if one.evaluation),
        ],
        left_out=left_out((paths.stage(one.key), one) for one in found),
    )


def _assessment(found: Found, classes: Sequence[str]) -> Assessment:
    return read_assessment(paths.scores(found.key), classes) if found.evaluation else Assessment(found.score)


def _curves(found: Sequence[Found]) -> Curves:
    curves: dict[ModelSpec, dict[int, Sequence[EpochRow]]] = {}
    for one in found:
        if one.training:
            curves.setdefault(one.key.spec, {})[one.key.seed] = read_curve(paths.run(one.key))
    return curves


def _gradients(found: Sequence[Found]) -> Gradients:
    gradients: dict[ModelSpec, dict[int, Sequence[GradientRow]]] = {}
    for one in found:
        if one.training:
            gradients.setdefault(one.key.spec, {})[one.key.seed] = read_gradients(paths.run(one.key))
    return gradients


def _costs(found: Sequence[tuple[RunKey, Taken | None]]) -> Costs:
    costs: dict[ModelSpec, dict[int, Cost]] = {}
    for key, taken in found:
        if taken:
            costs.setdefault(key.spec, {})[key.seed] = taken.cost
    return costs


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
