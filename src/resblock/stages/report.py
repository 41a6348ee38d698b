"""Stage ``report``: the page, its figures and tables."""

from __future__ import annotations

from collections.abc import Sequence

from resblock import paths
from resblock.data.splits import read_description
from resblock.evaluation.score import read_confusions, read_scores
from resblock.evaluation.study import Study
from resblock.files import read_json, write_json, write_text
from resblock.params import read_params
from resblock.report.page import Material, pictures, render
from resblock.report.style import save_figure
from resblock.spec import ModelSpec, RunKey
from resblock.stages import manifests
from resblock.stages.results import result_of
from resblock.stages.terminal import say
from resblock.stages.tracked import tracked
from resblock.training.run import MANIFEST, Cost, EpochRow, read_cost, read_curve

PAGE, DATA, FIGURES, METRICS = "index.html", "data", "figures", "metrics.json"


def run(dataset_name: str) -> None:
    """Draw and write the report of a data set."""
    study = read_params(paths.PARAMS).study
    folder = paths.report(dataset_name)
    material = _read(dataset_name, study.keys(dataset_name))
    manifest = manifests.of_report(dataset_name, study, data_digest=material.dataset.digest)
    with tracked(manifest) as tracker:
        drawn = pictures(material)
        write_text(folder / PAGE, render(material, drawn))
        for picture in drawn:
            save_figure(picture.figure, folder / FIGURES / f"{picture.name}.png")
            if picture.data is not None:
                write_text(folder / DATA / f"{picture.name}.csv", picture.data.to_csv(index=False, lineterminator="\n"))
        write_json(folder / METRICS, material.study.metrics())
        write_json(paths.manifest("report", dataset_name), manifest)
        say(f"{folder / PAGE}: {len(drawn)} pictures")
        tracker.complete(result_of(manifest))


def _read(dataset_name: str, keys: list[RunKey]) -> Material:
    """Gather what is there; a training that is missing leaves no gap but in the scores, which say so."""
    there = [key for key in keys if (paths.run(key) / MANIFEST).is_file()]
    dataset = read_description(paths.splits(dataset_name))
    recipes = [read_json(paths.run(key) / MANIFEST)["recipe"] for key in there]
    curves: dict[ModelSpec, dict[int, Sequence[EpochRow]]] = {}
    costs: dict[ModelSpec, dict[int, Cost]] = {}
    for key in there:
        curves.setdefault(key.spec, {})[key.seed] = read_curve(paths.run(key))
        if paths.cost(key).is_file():
            costs.setdefault(key.spec, {})[key.seed] = read_cost(paths.cost(key))
    folder = paths.evaluation(dataset_name)
    return Material(
        study=Study(dataset_name, tuple(read_scores(folder))),
        dataset=dataset,
        curves=curves,
        costs=costs,
        confusions=read_confusions(folder, dataset.classes),
        recipes=[recipe for index, recipe in enumerate(recipes) if recipe not in recipes[:index]],
    )
