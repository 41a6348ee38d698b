"""Where every file lives, as functions of a training or a data set, and what DVC calls what makes it.

All is relative to the project's root. Nothing else knows the inside of ``results``.
"""

from __future__ import annotations

from pathlib import Path

from resblock.core.recipe import BASE
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.training.run import MANIFEST

PARAMS = Path("params.yaml")
DOWNLOADS = Path("data/downloads")
CHECKPOINTS = Path(".checkpoints")  # outside DVC's outs, which DVC removes before a stage runs
RESULTS = Path("results")

DATASET_STAGES = ("download", "preprocess", "probe", "evaluate", "report")  # whose only axis is the data set


def raw(dataset: str) -> Path:
    """Folder of the verified files as published."""
    return Path("data/raw") / dataset


def splits(dataset: str) -> Path:
    """Folder of train, validation and test arrays."""
    return Path("data/splits") / dataset


def trainings(dataset: str, recipe: str = BASE) -> Path:
    """Folder of all trainings on a data set by one recipe."""
    return RESULTS / dataset / "trainings" / recipe


def run(key: RunKey) -> Path:
    """Folder of one training's results, equal in every repeat."""
    return trainings(key.dataset, key.recipe) / _within(key)


def cost(key: RunKey) -> Path:
    """File of what one training took: times and machine, all that differs between repeats."""
    return (RESULTS / key.dataset / "costs" / key.recipe / _within(key)).with_suffix(".json")


def scores(dataset: str, recipe: str = BASE) -> Path:
    """Folder of what an evaluation found of the trainings by one recipe."""
    return RESULTS / dataset / "scores" / recipe


def untrained(dataset: str) -> Path:
    """Folder of what was measured of networks before training."""
    return RESULTS / dataset / "untrained"


def report(dataset: str) -> Path:
    """Folder of the page, its figures and tables."""
    return RESULTS / dataset / "report"


def manifest(stage: str, dataset: str) -> Path:
    """File that says what made the result of one of DATASET_STAGES; small, and in git.

    Raw files and splits are not in git, so what is to be known of them lies beside the results.
    """
    folders = {"probe": untrained(dataset), "evaluate": scores(dataset), "report": report(dataset)}
    return folders.get(stage, RESULTS / dataset / "data" / stage) / MANIFEST


def datasets() -> list[str]:
    """Return every data set that has results here, by name."""
    return sorted(folder.name for folder in RESULTS.iterdir() if folder.is_dir()) if RESULTS.is_dir() else []


def manifests(dataset: str) -> list[Path]:
    """Return the manifest of every result on `dataset` that is here: of stages, of other recipes, of trainings."""
    stages = [manifest(stage, dataset) for stage in DATASET_STAGES]
    others = sorted(scores(dataset).parent.glob(f"*/{MANIFEST}"))
    trained = sorted(trainings(dataset).parent.glob(f"*/*/seed-*/{MANIFEST}"))
    return [path for path in dict.fromkeys((*stages, *others, *trained)) if path.is_file()]


def trained(dataset: str, recipe: str = BASE) -> list[RunKey]:
    """Return every training on `dataset` by `recipe` whose results are here, whether or not the study names it."""
    folders = (path.parent for path in trainings(dataset, recipe).glob(f"*/seed-*/{MANIFEST}"))
    return [
        RunKey(dataset, ModelSpec.parse(folder.parent.name), int(folder.name.partition("-")[2]), recipe)
        for folder in sorted(folders)
    ]


def stage(key: RunKey) -> str:
    """Return what DVC calls the stage that trains `key`: dvc.yaml has one group for `base`, one for other recipes."""
    group = ("train", key.dataset) if key.recipe == BASE else ("ablate", key.recipe)
    return f"{'@'.join(group)}-{key.spec}-{key.seed}"


def _within(key: RunKey) -> Path:
    return Path(key.spec.name) / f"seed-{key.seed}"
