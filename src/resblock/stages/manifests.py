"""Who made a result: for each stage but train all that decides it, and the key made from that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import resblock
from resblock import paths
from resblock.core.files import digest_sources, digest_tree, read_json
from resblock.core.recipe import Recipe
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.training.run import MANIFEST
from resblock.data.table import Dataset
from resblock.params import Examination, Preparation, Probing, Study

# The code that decides what a stage gives: what dvc.yaml names among its dependencies. `core` says it of trainings.
SPLITTING = ("core/files.py", "core/splits.py", "data")
ROOMS: Mapping[str, Sequence[str]] = {
    "download": SPLITTING,
    "preprocess": SPLITTING,
    "train": ("core",),
    **dict.fromkeys(("evaluate", "evaluate_recipe"), ("core", "evaluation", "study")),
    "probe": (
        "core",
        "evaluation/flow.py",
        "evaluation/rows.py",
        "evaluation/untrained.py",
    ),
    "report": ("core", "evaluation", "report", "study"),
}
# What of a recipe networks are made and looked at by before training: what dvc.yaml names among probe's parameters.
PROBED_BY = ("batch_norm_epsilon", "center", "precision", "rescale", "threads")
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


def of_preprocess(dataset: Dataset, preparation: Preparation) -> dict[str, Any]:
    """Return the manifest of a data set's splits, but for what the splits turn out to be."""
    return _sealed(
        "preprocess",
        dataset.name,
        {
            "source": str(dataset.source),
            "files": dict(dataset.source.digests),
            "preparation": preparation.model_dump(),
            "versions": {name: version(name) for name in ("numpy", "scikit-learn")},
        },
    )


def of_probe(dataset: str, probing: Probing, recipe: Recipe, *, data_digest: str, threads: int) -> dict[str, Any]:
    """Return the manifest of what is measured of networks before training."""
    content = {
        **probing.model_dump(),
        "recipe": {name: getattr(recipe, name) for name in PROBED_BY},
        "data": data_digest,
        "threads": threads,
    }
    return _sealed("probe", dataset, content)


def of_evaluate(
    dataset: str, study: Study, examination: Examination, *, data_digest: str, threads: int
) -> dict[str, Any]:
    """Return the manifest of the scores of the trainings that are there, each named by its key."""
    return _sealed(
        "evaluate",
        dataset,
        {
            **study.model_dump(include={"variants", "seeds"}),
            "examination": examination.model_dump(),
            "data": data_digest,
            "threads": threads,
            "runs": run_keys(study.keys(dataset)),
        },
    )


def of_evaluate_recipe(trainings: Sequence[RunKey], *, data_digest: str, threads: int) -> dict[str, Any]:
    """Return the manifest of the scores of an ablation's trainings by one recipe, each named by its key."""
    (dataset,), (recipe,) = {key.dataset for key in trainings}, {key.recipe for key in trainings}
    content: dict[str, Any] = {
        "recipe_name": recipe,
        "variants": list(dict.fromkeys(key.spec.name for key in trainings)),
        "seeds": list(dict.fromkeys(key.seed for key in trainings)),
        "data": data_digest,
        "threads": threads,
        "runs": run_keys(trainings),
    }
    return _sealed("evaluate_recipe", dataset, content, axes=recipe)


def of_report(dataset: str, study: Study, recipes: Sequence[str] = (), *, data_digest: str) -> dict[str, Any]:
    """Return the manifest of a report: of what its scores and its curves come from. Costs vary and decide no key."""
    ablations = {name: paths.scores(dataset, name) / MANIFEST for name in recipes}
    return _sealed(
        "report",
        dataset,
        {
            **study.model_dump(include={"variants", "seeds"}),
            "data": data_digest,
            "evaluation": _key_of(paths.manifest("evaluate", dataset)),
            "probes": _key_of(paths.manifest("probe", dataset)),
            "ablations": {name: _key_of(path) for name, path in ablations.items()},
            "runs": run_keys(study.keys(dataset)),
        },
    )


def run_keys(trainings: Sequence[RunKey]) -> dict[str, str | None]:
    """Return the key of each training's result, None where there is none."""
    manifests = {training_name(key): paths.run(key) / MANIFEST for key in trainings}
    return {name: _key_of(path) for name, path in manifests.items()}


def training_name(key: RunKey) -> str:
    """Return how a manifest names a training of its data set, for instance ``residual-20/seed-0``."""
    return f"{key.spec.name}/seed-{key.seed}"


def training_key(manifest: Mapping[str, Any]) -> RunKey:
    """Return which training left `manifest`."""
    spec = ModelSpec.parse(manifest["variant"])
    return RunKey(manifest["dataset"], spec, manifest["seed"], manifest["recipe_name"])


def _key_of(manifest: Path) -> str | None:
    return read_json(manifest)["key"] if manifest.is_file() else None


def _sealed(stage: str, dataset: str, content: Mapping[str, Any], axes: str = "") -> dict[str, Any]:
    manifest = {"stage": f"{stage}@{axes or dataset}", "dataset": dataset, **content, "code": code_digest(stage)}
    return {**manifest, "key": digest_tree(manifest)}
