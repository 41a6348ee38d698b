"""Where every file lives, as functions of a run or a data set. Relative to the project's root."""

from __future__ import annotations

from pathlib import Path

from resblock.spec import RunKey

PARAMS = Path("params.yaml")
DOWNLOADS = Path("data/downloads")
CHECKPOINTS = Path(".checkpoints")  # outside DVC's outs, which DVC removes before a stage runs


def raw(dataset: str) -> Path:
    """Folder of the verified files as published."""
    return Path("data/raw") / dataset


def splits(dataset: str) -> Path:
    """Folder of train, validation and test arrays."""
    return Path("data/splits") / dataset


def runs(dataset: str) -> Path:
    """Folder of all trainings on a data set."""
    return Path("runs") / dataset


def ablations(dataset: str) -> Path:
    """Folder of all trainings on a data set by other recipes than its own."""
    return Path("ablations") / dataset


def run(key: RunKey) -> Path:
    """Folder of one training's results, equal in every repeat."""
    recipe = ablations(key.dataset) / key.recipe if key.is_ablation else runs(key.dataset)
    return recipe / key.spec.name / f"seed-{key.seed}"


def costs(dataset: str) -> Path:
    """Folder of what each training took: times and machine, the one thing that differs between repeats."""
    return Path("costs") / dataset


def cost(key: RunKey) -> Path:
    """File of one training's cost."""
    recipe = Path("costs/ablations") / key.dataset / key.recipe if key.is_ablation else costs(key.dataset)
    return recipe / key.spec.name / f"seed-{key.seed}.json"


def evaluation(dataset: str) -> Path:
    """Folder of scores and predictions."""
    return Path("evaluation") / dataset


def ablation(dataset: str, recipe: str) -> Path:
    """Folder of what an evaluation found of the trainings by one other recipe."""
    return evaluation(dataset) / "ablations" / recipe


def untrained(dataset: str) -> Path:
    """Folder of what was measured of networks before training."""
    return Path("probes") / dataset


def report(dataset: str) -> Path:
    """Folder of the page, its figures and tables."""
    return Path("reports") / dataset


def manifest(stage: str, dataset: str) -> Path:
    """File that says what made the result of a stage whose only axis is the data set; small, and in git.

    Raw files and splits are not in git, so what is to be known of them lies beside them.
    """
    folders = {"probe": untrained(dataset), "evaluate": evaluation(dataset), "report": report(dataset)}
    return folders.get(stage, Path("data/lineage") / dataset / stage) / "run.json"
