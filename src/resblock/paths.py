"""Where every file lives, as functions of a training or a data set, and what DVC calls what makes it.

All is relative to the project's root. Nothing else knows the inside of ``results``.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from resblock.core.recipe import BASE
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.training.run import MANIFEST

PARAMS = Path("params.yaml")
DOWNLOADS = Path("data/downloads")
CHECKPOINTS = Path(".checkpoints")  # outside DVC's outs, which DVC removes before a stage runs
OWN_COSTS = Path(".costs")  # which git does not see: every repeat takes another time
RESULTS = Path("results")
SOURCE = Path("src/resblock")
CORE = SOURCE / "core"  # what dvc.yaml calls the code that decides a training

DATASET_STAGES = ("download", "preprocess", "probe", "report")  # whose only axis is the data set


def kept_by_git() -> tuple[Path, ...]:
    """Return the places in which git keeps all that tells two revisions of a study apart."""
    return PARAMS, RESULTS, SOURCE


def score_tables(dataset: str) -> list[tuple[str, Path]]:
    """Return each table of scores that is here and the recipe it is about, of one training or of all by that recipe.

    Revisions of different ages hold one kind or the other.
    """
    folder = RESULTS / dataset / "scores"
    found = sorted((*folder.glob("*/scores.csv"), *folder.glob("*/*/seed-*/score.csv")))
    return [(path.relative_to(folder).parts[0], path) for path in found]


def raw(dataset: str) -> Path:
    """Folder of the verified files as published."""
    return Path("data/raw") / dataset


def splits(dataset: str) -> Path:
    """Folder of train, validation and test arrays."""
    return Path("data/splits") / dataset


def run(key: RunKey) -> Path:
    """Folder of one training's results, equal in every repeat."""
    return _folder(key, "trainings")


def cost(key: RunKey) -> Path:
    """File of what one training took, as published: times and machine, all that differs between repeats."""
    return _folder(key, "costs").with_suffix(".json")


def own_cost(key: RunKey) -> Path:
    """File of what one training took when it was last made in this folder."""
    return OWN_COSTS / key.dataset / key.recipe / key.spec.name / f"seed-{key.seed}.json"


def scores(key: RunKey) -> Path:
    """Folder of what an evaluation found of one training."""
    return _folder(key, "scores")


def several_splits(dataset: str) -> Path:
    """File of accuracies on several splits, where `resblock splits` was asked to write it there."""
    return RESULTS / dataset / "splits.csv"


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
    folders = {"probe": untrained(dataset), "report": report(dataset)}
    return folders.get(stage, RESULTS / dataset / "data" / stage) / MANIFEST


def review(dataset: str) -> Path:
    """File of what was found out about a data set while it was cut."""
    return manifest("preprocess", dataset).with_name("review.json")


def datasets() -> list[str]:
    """Return every data set that has results here, by name."""
    return sorted(folder.name for folder in RESULTS.iterdir() if folder.is_dir()) if RESULTS.is_dir() else []


def manifests(dataset: str) -> list[Path]:
    """Return the manifest of every result on `dataset` that is here: of stages, of trainings, of their evaluations."""
    stages = [manifest(stage, dataset) for stage in DATASET_STAGES]
    each = [sorted((RESULTS / dataset / kind).glob(f"*/*/seed-*/{MANIFEST}")) for kind in ("trainings", "scores")]
    return [path for path in (*stages, *each[0], *each[1]) if path.is_file()]


def timed(dataset: str) -> list[RunKey]:
    """Return every training on `dataset`, by any recipe, of which it is known here what it took."""
    found: dict[RunKey, None] = {}
    for folder in (RESULTS / dataset / "costs", OWN_COSTS / dataset):
        for file in sorted(folder.glob("*/*/seed-*.json")):
            with suppress(ValueError):  # of a network that this code does not know
                spec, seed = ModelSpec.parse(file.parent.name), int(file.stem.partition("-")[2])
                found[RunKey(dataset, spec, seed, file.parent.parent.name)] = None
    return list(found)


def stage(key: RunKey) -> str:
    """Return what DVC calls the stage that trains `key`: dvc.yaml has one group for `base`, one for other recipes."""
    group = ("train", key.dataset) if key.recipe == BASE else ("ablate", key.recipe)
    return _named(group, key)


def evaluation(key: RunKey) -> str:
    """Return what DVC calls the stage that looks at the training of `key`."""
    group = ("evaluate", key.dataset) if key.recipe == BASE else ("evaluate_ablation", key.recipe)
    return _named(group, key)


def _named(group: tuple[str, str], key: RunKey) -> str:
    return f"{'@'.join(group)}-{key.spec}-{key.seed}"


def _folder(key: RunKey, kind: str) -> Path:
    return RESULTS / key.dataset / kind / key.recipe / key.spec.name / f"seed-{key.seed}"
