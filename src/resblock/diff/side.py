"""A study at one revision: what it was made by, its scores and curves, and the verdicts that today's code draws."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

from resblock import paths
from resblock.core.files import digest_file, read_json
from resblock.core.recipe import BASE
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.splits import DatasetDescription
from resblock.core.training.run import MANIFEST, Cost, EpochRow, GradientRow, Status, read_curve, read_gradients
from resblock.costs import published_first
from resblock.damage import conflict, fault
from resblock.diff.asked import objection, read_parameters
from resblock.diff.tree import Tree
from resblock.evaluation.flow import read_untrained
from resblock.evaluation.identity import keys_of
from resblock.evaluation.score import METRICS, Score, empty_score
from resblock.report.material import Material, recorded
from resblock.report.words.verdicts import verdicts_on
from resblock.stages.manifests import training_key
from resblock.stages.results import DAMAGED
from resblock.study.efficiency import Curves
from resblock.study.rebound import find_rebounds
from resblock.study.results import Results
from resblock.study.summary import Study
from resblock.study.verdicts import Trained, Verdict
from resblock.tracking.result import flatten

DECIDING = ("core", "evaluation")  # rooms of code: what trainings and scores follow from


@dataclass(frozen=True)
class Side:
    """One data set's study at one revision."""

    name: str
    params: Mapping[str, Any]  # of params.yaml, as one level of dotted names
    code: Mapping[str, str]  # file of the deciding rooms to its digest
    manifests: Mapping[RunKey, Mapping[str, Any]]  # of every training that is there and asked for
    scores: Mapping[RunKey, Score]  # likewise
    curves: Mapping[RunKey, Sequence[EpochRow]]  # likewise
    studies: Mapping[str, Study]  # by recipe
    verdicts: Sequence[Verdict]
    set_aside: Mapping[RunKey, str] = field(default_factory=dict[RunKey, str])  # why params.yaml does not ask for it
    left_out: Sequence[str] = ()  # what is there and cannot be read or is not asked for, in sentences


def datasets_at(tree: Tree) -> list[str]:
    """Return the data sets that have trainings at a revision, by name."""
    with chdir(tree.folder):
        return [name for name in paths.datasets() if any(_training(path) for path in paths.manifests(name))]


def read_side(tree: Tree, dataset: str) -> Side:
    """Read those of a data set's trainings at a revision that its params.yaml asks for; the others are named."""
    with chdir(tree.folder):
        return _Reader(dataset).read(tree.name)


def _training(path: Path) -> bool:
    """Return whether a manifest is that of a training, or may be that of one."""
    try:
        return read_json(path).get("stage") == "train"
    except DAMAGED:
        return True


class _Reader:
    """Reads the current folder; what cannot be read is told of, and costs no more than itself."""

    def __init__(self, dataset: str) -> None:
        self._dataset = dataset
        self._params = read_parameters()
        self._set_aside: dict[RunKey, str] = {}
        self._left_out: dict[str, None] = {}  # sentences, each once

    def read(self, name: str) -> Side:
        manifests = self._manifests()
        curves = {key: curve for key in manifests if (curve := self._try(paths.run(key), read_curve))}
        scores = self._scores(manifests)
        by_recipe = {
            recipe: Study(self._dataset, tuple(score for key, score in scores.items() if key.recipe == recipe))
            for recipe in dict.fromkeys((BASE, *(key.recipe for key in scores)))
        }
        material = self._material(manifests, curves, by_recipe)
        return Side(
            name=name,
            params=flatten(self._params),
            code=_code(),
            manifests=manifests,
            scores=scores,
            curves=curves,
            studies={BASE: material.study, **{name: each.study for name, each in material.evidence.ablations.items()}},
            verdicts=verdicts_on(material),
            set_aside=self._set_aside,
            left_out=[*self._left_out, *_not_asked_for(self._set_aside)],
        )

    def _manifests(self) -> dict[RunKey, Mapping[str, Any]]:
        found: dict[RunKey, Mapping[str, Any]] = {}
        for path in paths.manifests(self._dataset):
            judged = self._try(path, self._judged)
            if judged is None:
                continue
            key, manifest, reason = judged
            if reason:
                self._set_aside[key] = reason
            else:
                found[key] = manifest
        return dict(sorted(found.items(), key=lambda item: _place(item[0])))

    def _judged(self, path: Path) -> tuple[RunKey, Mapping[str, Any], str | None] | None:
        """Read the manifest of a training; say, too, why it is not asked for. None where it is no training's there."""
        manifest = read_json(path)
        if manifest.get("stage") != "train" or path.parent != paths.run(key := training_key(manifest)):
            return None
        if manifest["status"] not in get_args(Status):
            raise ValueError(f"status {manifest['status']!r}")
        return key, manifest, objection(self._params, key, manifest)

    def _scores(self, manifests: Mapping[RunKey, Mapping[str, Any]]) -> dict[RunKey, Score]:
        """Return a score for each training, without figures where its own are not there."""
        found: dict[RunKey, Score] = {}
        for recipe, path in paths.score_tables(self._dataset):
            found |= self._try(path, lambda path, recipe=recipe: self._table(path, recipe, manifests)) or {}
        return {key: found.get(key) or self._without_figures(key, each) for key, each in manifests.items()}

    def _without_figures(self, key: RunKey, manifest: Mapping[str, Any]) -> Score:
        """Return the score of a training that has none; one that diverged counts at chance, if that is known."""
        diverged = manifest["status"] == "diverged"
        if diverged and not self._description.classes:
            self._left_out[f"{paths.stage(key)}: diverged, and how many classes there are is not known"] = None
            diverged = False
        return empty_score(key.spec, key.seed, "diverged" if diverged else "missing")

    def _table(self, path: Path, recipe: str, manifests: Mapping[RunKey, Mapping[str, Any]]) -> dict[RunKey, Score]:
        looked_at = read_json(path.parent / MANIFEST)
        found: dict[RunKey, Score] = {}
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                key = RunKey(self._dataset, ModelSpec.parse(row["variant"]), int(row["seed"]), recipe)
                of = looked_at.get("runs", {}).get(f"{key.spec.name}/seed-{key.seed}", looked_at.get("training"))
                if key not in manifests:
                    continue
                if of in keys_of(manifests[key]):
                    found[key] = _score(row)
                elif of is not None:
                    self._left_out[f"{paths.stage(key)}: its scores are those of another training"] = None
        return found

    def _material(
        self,
        manifests: Mapping[RunKey, Mapping[str, Any]],
        curves: Mapping[RunKey, Sequence[EpochRow]],
        studies: Mapping[str, Study],
    ) -> Material:
        """Return what verdicts rest on; nothing of it needs the images."""
        base = [key for key in manifests if key.recipe == BASE]
        costs: dict[ModelSpec, dict[int, Cost]] = {}
        gradients: dict[ModelSpec, dict[int, Sequence[GradientRow]]] = {}
        for key in base:
            if taken := self._try(paths.cost(key), lambda _, key=key: published_first(key, manifests[key])):
                costs.setdefault(key.spec, {})[key.seed] = taken.cost
            if rows := self._try(paths.run(key), read_gradients):
                gradients.setdefault(key.spec, {})[key.seed] = rows
        recipes = [manifests[key]["recipe"] for key in base]
        untrained = paths.untrained(self._dataset)
        return Material(
            dataset=self._description,
            results=Results(scores=studies[BASE].scores),
            curves=by_network(curves, BASE),
            costs=costs,
            recipes=[recipe for index, recipe in enumerate(recipes) if recipe not in recipes[:index]],
            ablations={
                name: Trained(
                    next(manifest["recipe"] for key, manifest in manifests.items() if key.recipe == name),
                    study,
                    find_rebounds(by_network(curves, name)),
                )
                for name, study in studies.items()
                if name != BASE
            },
            gradients=gradients,
            untrained=self._try(untrained, read_untrained) if (untrained / MANIFEST).is_file() else None,
        )

    @cached_property
    def _description(self) -> DatasetDescription:
        """Return what the splits were, by the manifest that git holds: the arrays themselves are not there."""
        path = paths.manifest("preprocess", self._dataset)
        return recorded(self._dataset, (self._try(path, read_json) if path.is_file() else None) or {})

    def _try(self, place: Path, read: Any) -> Any:
        """Return what `read` makes of `place`; None, and a sentence, where it is not what this version writes."""
        try:
            return read(place)
        except DAMAGED as error:
            told = fault(error) or conflict(place)
            words = told[0] if told else f"{place}: damaged, or another version's ({type(error).__name__}: {error})"
            self._left_out[words] = None
            return None


def _not_asked_for(set_aside: Mapping[RunKey, str]) -> list[str]:
    """Return a sentence for each reason for which params.yaml does not ask for trainings, with their names."""
    seeds: dict[str, dict[str, list[str]]] = {}
    for key, reason in sorted(set_aside.items(), key=lambda item: _place(item[0])):
        seeds.setdefault(reason, {}).setdefault(label(key.spec, key.recipe), []).append(str(key.seed))
    named = {
        reason: [f"{name} (seed {', '.join(those)})" for name, those in networks.items()]
        for reason, networks in seeds.items()
    }
    return [f"{reason}: {', '.join(names)}" for reason, names in named.items()]


def label(spec: ModelSpec, recipe: str) -> str:
    """Return what a network by a recipe is called."""
    return spec.name if recipe == BASE else f"{spec.name}, {recipe}"


def by_network(curves: Mapping[RunKey, Sequence[EpochRow]], recipe: str) -> Curves:
    """Return the curves of the trainings by one recipe, network by network."""
    found: dict[ModelSpec, dict[int, Sequence[EpochRow]]] = {}
    for key, curve in curves.items():
        if key.recipe == recipe:
            found.setdefault(key.spec, {})[key.seed] = curve
    return found


def _score(row: Mapping[str, str]) -> Score:
    """Return the score in a row of a table; what another version did not measure is not a number."""
    spec, seed = ModelSpec.parse(row["variant"]), int(row["seed"])
    if row["status"] != "finished":
        return empty_score(spec, seed, "diverged" if row["status"] == "diverged" else "missing")
    figures = {name: float(row.get(name) or math.nan) for name in METRICS}
    return Score(spec.name, spec.family, spec.depth, seed, "finished", **figures)


def _place(key: RunKey) -> tuple[bool, str, bool, int, str, int]:
    spec = key.spec
    return key.recipe != BASE, key.recipe, spec.family != "cnn", spec.depth, spec.name, key.seed


def _code() -> dict[str, str]:
    files = [file for room in DECIDING for file in sorted((paths.SOURCE / room).rglob("*.py"))]
    return {str(file.relative_to(paths.SOURCE)): digest_file(file) for file in files}
