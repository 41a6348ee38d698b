"""Who made a result: for each stage but train all that decides it, and the key made from that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import resblock
from resblock import paths
from resblock.core.backends import backend, variables_that_change_bits
from resblock.core.files import digest_sources, digest_tree, read_json
from resblock.core.recipe import Recipe
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.training.manifest import device, versions
from resblock.core.training.run import MANIFEST
from resblock.data.table import Dataset
from resblock.params import Examination, Preparation, Probing, Study

# The code that decides what a stage gives: what dvc.yaml names among its dependencies. `core` says it of trainings.
SPLITTING = ("core/backends/machine.py", "core/files.py", "core/splits.py", "data")
ROOMS: Mapping[str, Sequence[str]] = {
    "download": SPLITTING,
    "preprocess": SPLITTING,
    "train": ("core",),
    "evaluate": ("core", "evaluation"),
    "probe": (
        "core",
        "evaluation/flow.py",
        "evaluation/rows.py",
        "evaluation/untrained.py",
    ),
    "report": ("core", "data/review.py", "data/words.py", "evaluation", "report", "study"),
}
# What of a recipe networks are made and looked at by before training: what dvc.yaml names among probe's parameters.
PROBED_BY = ("batch_norm_epsilon", "batch_size", "center", "precision", "rescale", "threads")
TEMPLATES = ("report/page.html", "report/page.css")  # what the report's room holds besides Python


@cache
def code_digest(stage: str) -> str:
    """Return the digest of the code, as it lies here, that decides what `stage` gives."""
    package = Path(resblock.__file__).parent
    extra = TEMPLATES if stage == "report" else ()
    return digest_sources(*(package / room for room in (*ROOMS[stage], *extra)))


def of_download(dataset: Dataset) -> dict[str, Any]:
    """Return the manifest of a data set's raw files."""
    return _sealed("download", dataset.name, {"source": str(dataset.source), "files": dict(dataset.source.digests)})


def of_preprocess(dataset: Dataset, preparation: Preparation, files: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the manifest of a data set's splits, but for what the splits turn out to be.

    `files` are the raw files' digests; by default as published.
    """
    return _sealed(
        "preprocess",
        dataset.name,
        {
            "source": str(dataset.source),
            "files": dict(dataset.source.digests if files is None else files),
            "preparation": preparation.model_dump(exclude_none=True),
            "versions": {name: version(name) for name in ("numpy", "pillow", "scikit-learn")},
        },
    )


def of_probe(dataset: str, probing: Probing, recipe: Recipe, *, data_digest: str, threads: int) -> dict[str, Any]:
    """Return the manifest of what is measured of networks before training."""
    content = {
        **probing.model_dump(),
        "recipe": {name: getattr(recipe, name) for name in PROBED_BY},
        "data": data_digest,
        **_machinery(recipe, threads),
    }
    return _sealed("probe", dataset, content)


def of_evaluate(
    training: Mapping[str, Any], recipe: Recipe, examination: Examination, *, threads: int
) -> dict[str, Any]:
    """Return the manifest of a look at the training that left the manifest `training`."""
    of_it = ("variant", "family", "depth", "seed", "recipe_name", "data")
    content = {
        **{name: training[name] for name in of_it},
        "training": training["key"],
        "examination": examination.model_dump(),
        **_machinery(recipe, threads),
    }
    return _sealed("evaluate", training["dataset"], content)


def of_report(dataset: str, study: Study, trainings: Iterable[RunKey], *, data_digest: str) -> dict[str, Any]:
    """Return the manifest of a report: of what its scores and its curves come from. Costs vary and decide no key."""
    keys = list(trainings)
    return _sealed(
        "report",
        dataset,
        {
            **study.model_dump(include={"variants", "seeds"}),
            "data": data_digest,
            "probes": _key_of(paths.manifest("probe", dataset)),
            "runs": {paths.stage(key): _key_of(paths.run(key) / MANIFEST) for key in keys},
            "evaluations": {paths.evaluation(key): _key_of(paths.scores(key) / MANIFEST) for key in keys},
        },
    )


def name_of(manifest: Mapping[str, Any]) -> str:
    """Return what DVC calls the stage that left `manifest`."""
    stage = str(manifest["stage"]).partition("@")[0]
    names = {"train": paths.stage, "evaluate": paths.evaluation}
    return names[stage](training_key(manifest)) if stage in names else str(manifest["stage"])


def training_key(manifest: Mapping[str, Any]) -> RunKey:
    """Return which training left `manifest`, or was looked at."""
    spec = ModelSpec.parse(manifest["variant"])
    return RunKey(manifest["dataset"], spec, manifest["seed"], manifest["recipe_name"])


def _key_of(manifest: Path) -> str | None:
    return read_json(manifest)["key"] if manifest.is_file() else None


def _machinery(recipe: Recipe, threads: int) -> dict[str, Any]:
    """Return what computes, and may decide the last bits of a result; Keras has been started."""
    return {
        "backend": backend().name,
        "device": device(recipe.precision),
        "threads": threads,
        "environment": variables_that_change_bits(),
        "versions": versions(),
    }


def _sealed(stage: str, dataset: str, content: Mapping[str, Any]) -> dict[str, Any]:
    manifest = {"stage": f"{stage}@{dataset}", "dataset": dataset, **content, "code": code_digest(stage)}
    return {**manifest, "key": digest_tree(manifest)}
