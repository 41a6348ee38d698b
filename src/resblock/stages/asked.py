"""What params.yaml asks for, and what lies here of it: whoever reads a training checks it by these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from resblock import paths
from resblock.core.errors import UserError
from resblock.core.files import read_json
from resblock.core.recipe import BASE
from resblock.core.spec import RunKey
from resblock.core.splits import DESCRIPTION, read_description
from resblock.core.training.run import MANIFEST, WEIGHTS, Run, is_there
from resblock.damage import conflicted, damaged
from resblock.data.table import find_dataset
from resblock.evaluation.assessment import SCORE
from resblock.evaluation.identity import Wanted, read_training
from resblock.evaluation.statistics import STATISTICS_FILE, normalizing_by, read_statistics
from resblock.params import Params
from resblock.stages.weights import may_be_pulled
from resblock.study.found import find, left_out
from resblock.study.provenance import mixtures


def asked(params: Params, key: RunKey) -> Wanted:
    """Return the training of `key` as `params` ask for it, on the splits that are here."""
    splits = paths.splits(key.dataset)
    data = read_description(splits).digest if (splits / DESCRIPTION).is_file() else None
    return Wanted(key, params.recipe(key.dataset, key.recipe), data)


def training_of(wanted: Wanted) -> Mapping[str, Any]:
    """Return the manifest of the training that is `wanted`. Raises UserError where it is missing or foreign."""
    folder, stage = paths.run(wanted.key), paths.stage(wanted.key)
    if not is_there(folder):
        raise UserError(f"{folder}: no training there; `dvc repro {stage}` trains it")
    manifest, reason = read_training(folder, wanted)
    if reason:
        raise UserError(
            damaged(folder / MANIFEST)
            or f"{folder}: not what {paths.PARAMS} asks for, so it is not used: {reason}; "
            f"`dvc repro {stage}` trains it anew"
        )
    require(folder / WEIGHTS, stage)
    return manifest


def require(path: Path, stage: str) -> None:
    """Raise UserError where the file at `path`, which `stage` makes, is not here."""
    if not path.is_file():
        pull = f"`dvc pull {stage}` or " if may_be_pulled(path, stage) else ""
        raise UserError(f"{path}: is not here; {pull}`dvc repro {stage}` brings it")


def refuse_what_is_not_studied(params: Params, dataset: str) -> None:
    """Raise UserError where no stage works on `dataset`, so that none can be advised."""
    if dataset not in params.study.datasets:
        there = ", ".join(params.study.datasets)
        find_dataset(dataset)
        raise UserError(f"{dataset} is not in the study, whose data sets are {there} ({paths.PARAMS}, study.datasets)")


def refuse_what_no_study_has(params: Params, key: RunKey) -> None:
    """Raise UserError where no stage trains `key`, so that none can be advised."""
    refuse_what_is_not_studied(params, key.dataset)
    if key in params.keys(key.dataset):
        return
    study, ablation = params.study, params.ablation
    networks, seeds, by, recipes = study.variants, study.seeds, "", ""
    if key.recipe != BASE:
        networks, seeds, by = ablation.variants, ablation.seeds, f" by the recipe {key.recipe}"
        recipes = f", and whose recipes are {', '.join(ablation.recipes_on(key.dataset)) or 'none'}"
    raise UserError(
        f"{key.spec} with seed {key.seed}{by} is not in the study, whose networks are {', '.join(networks)} and "
        f"whose seeds are {', '.join(map(str, seeds))}{recipes} ({paths.PARAMS})"
    )


def with_statistics_of_evaluation(run: Run, key: RunKey) -> Run:
    """Return `run`, the training of `key`, with the batch-norm statistics re-estimated for its published figures.

    Raises UserError where they are missing or another result's: with them its accuracy is not the one to be read.
    """
    scores, stage = paths.scores(key), paths.evaluation(key)
    require(scores / MANIFEST, stage)
    require(scores / STATISTICS_FILE, stage)
    if read_json(scores / MANIFEST)["training"] != run.manifest["key"]:
        raise UserError(f"{key}: was trained anew after it was evaluated; `dvc repro {stage}` evaluates it")
    return normalizing_by(read_statistics(scores), run)


def damaged_file(key: RunKey) -> str | None:
    """Return which file of a training, or of its scores, cannot be read, and what to do; None where all can."""
    scores = paths.scores(key)
    return damaged(paths.run(key) / MANIFEST) or damaged(scores / MANIFEST) or conflicted(scores / SCORE)


def remarks(params: Params, dataset: str) -> list[str]:
    """Say which trainings on `dataset` that are here are not what `params` ask for, and what the others mix."""
    wanted = [asked(params, key) for key in params.keys(dataset)]
    found = [find(one, paths.run(one.key), paths.scores(one.key)) for one in wanted]
    foreign_ones = left_out(
        (paths.stage(one.key), replace(one, reason=damaged_file(one.key) or one.reason))
        for one in found
        if one.score.status == "foreign"
    )
    return [
        *(f"here, but not what {paths.PARAMS} asks for, so without figures: {words}" for words in foreign_ones),
        *(
            f"the trainings on {dataset} that are here were made by {words}"
            for words in mixtures(one.training for one in found if one.training)
        ),
    ]
