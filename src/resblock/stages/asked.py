"""What params.yaml asks for, and what lies here of it: whoever reads a training checks it by these."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resblock import paths
from resblock.core.errors import UserError
from resblock.core.spec import RunKey
from resblock.core.splits import DESCRIPTION, read_description
from resblock.core.training.run import WEIGHTS, is_there
from resblock.evaluation.identity import Wanted, read_training
from resblock.params import Params
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
            f"{folder}: not what {paths.PARAMS} asks for, so it is not evaluated: {reason}; "
            f"`dvc repro {stage}` trains it anew"
        )
    if not (folder / WEIGHTS).is_file():
        raise UserError(f"{folder / WEIGHTS}: is not here; `dvc pull {stage}` or `dvc repro {stage}` brings it")
    return manifest


def remarks(params: Params, dataset: str) -> list[str]:
    """Say which trainings on `dataset` that are here are not what `params` ask for, and what the others mix."""
    wanted = [asked(params, key) for key in params.keys(dataset)]
    found = [find(one, paths.run(one.key), paths.scores(one.key)) for one in wanted]
    foreign_ones = left_out((paths.stage(one.key), one) for one in found if one.score.status == "foreign")
    return [
        *(f"here, but not what {paths.PARAMS} asks for, so without figures: {words}" for words in foreign_ones),
        *(
            f"the trainings on {dataset} that are here were made by {words}"
            for words in mixtures(one.training for one in found if one.training)
        ),
    ]
