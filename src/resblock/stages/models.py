"""What a stage says of a trained network where MLflow keeps models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from resblock import paths
from resblock.core.files import read_json
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.splits import DESCRIPTION, read_description, read_split
from resblock.core.training.run import CURVE, GRADIENTS, MANIFEST, WEIGHTS
from resblock.evaluation.score import SCORES, read_scores
from resblock.evaluation.statistics import STATISTICS_FILE
from resblock.serving.package import LOADER, constraints, pack_code, requirements
from resblock.stages.terminal import say, warn
from resblock.study.champion import champion
from resblock.study.summary import Study
from resblock.tracking.package import ModelPackage, Registration
from resblock.tracking.result import Result
from resblock.tracking.stage import StageRun

if TYPE_CHECKING:
    from resblock.tracking.sync import Outcome

EXAMPLES = 3  # images in a model's input example


def log_network(tracker: StageRun, key: RunKey, run_id: str | None) -> None:
    """Log the network of a training that finished, as it was evaluated, onto the training's run `run_id`."""
    with tracker.guard():
        if tracker.client is None or run_id is None or (package := model_package(key)) is None:
            return
        from resblock.tracking.models import log_model

        log_model(tracker.client, run_id, package)


def register(tracker: StageRun, dataset: str) -> None:
    """Say which network to use, and register it in the store's model registry, unless it is there.

    An experiment of DVC's registers nothing: it may never be taken. `resblock sync` does once it was.
    """
    best = _champion(dataset)
    if best is None:
        return
    say(f"champion on {dataset}: {best.description}")
    with tracker.guard():
        if tracker.client is None:
            return
        from resblock.tracking.models import register_champion
        from resblock.tracking.store import experiment_of_dvc

        if experiment_of_dvc():
            return
        if register_champion(tracker.client, best) is None:
            warn(f"{best.name}: MLflow has no model of it to register; `resblock sync` makes one where its weights are")


def sync_models(dataset: str, results: Sequence[Result], outcome: Outcome, *, check: bool) -> int:
    """Give every training among `results` that MLflow shows its model, and the registry its champion.

    Adds to what `outcome` tells, and returns how many have no model because files of theirs are not here.
    """
    trainings = [result for result in results if result.is_training]
    finished = [result for result in trainings if result.tags.get("resblock.status") == "finished"]
    keys = {result.name: _key(result) for result in finished}
    runs = {name: run_id for name, run_id in outcome.runs.items() if name in keys}
    if not runs:
        return 0
    from resblock.tracking import models

    best = _champion(dataset) if any(result.stage == "report" for result in results) else None
    changes, impossible = models.sync_models(
        outcome.experiment_id, runs, lambda name: model_package(keys[name]), best, check=check
    )
    outcome.changes += changes
    return len(impossible)


def _key(result: Result) -> RunKey:
    """Return which training `result` is of."""
    chosen = result.params
    return RunKey(result.dataset, ModelSpec.parse(chosen["variant"]), chosen["seed"], chosen["recipe"])


def _champion(dataset: str) -> Registration | None:
    """Return the network to use by the scores of the report, or None where there is none or nothing has finished."""
    folder = paths.report(dataset)
    if not (folder / SCORES).is_file():
        return None
    best = champion(Study(dataset, tuple(read_scores(folder))))
    if best is None:
        return None
    key = RunKey(dataset, best.winner.spec, best.score.seed)
    return Registration(
        dataset=dataset,
        name=paths.stage(key),
        key=read_json(folder / MANIFEST)["runs"][paths.stage(key)],  # of the result that was scored
        description=best.reason,
        tags={"resblock.variant": key.spec.name, "resblock.seed": str(key.seed)},
    )


def model_package(key: RunKey) -> ModelPackage | None:
    """Return what MLflow's model of a finished training is made of.

    None where the files do not give one: weights, re-estimated statistics or splits that are not here (a clone without
    DVC's cache), a training that diverged, or one that was not evaluated since.
    """
    run, scores, splits = paths.run(key), paths.scores(key), paths.splits(key.dataset)
    files = [run / name for name in (MANIFEST, WEIGHTS, CURVE, GRADIENTS)]
    files += [scores / STATISTICS_FILE, splits / DESCRIPTION]
    if not all(file.is_file() for file in (*files, scores / MANIFEST)):
        return None
    manifest, dataset = read_json(run / MANIFEST), read_description(splits)
    if manifest["status"] != "finished" or manifest["data"] != dataset.digest:
        return None
    if read_json(scores / MANIFEST)["training"] != manifest["key"]:
        return None
    return ModelPackage(
        name=str(key),
        key=manifest["key"],
        files=files,
        loader=LOADER,
        code=pack_code(),
        requirements=requirements(manifest["versions"]),
        constraints=constraints(manifest["versions"]),
        image_shape=dataset.image_shape,
        example=read_split(splits, "validation").images[:EXAMPLES],
        description=(
            f"{key.spec} trained on {key.dataset} from seed {key.seed}, recipe {key.recipe}. Images in, class and "
            "probability out; batch-norm statistics re-estimated on training images, as in the published accuracies."
        ),
        metadata={
            "dataset": key.dataset,
            "variant": key.spec.name,
            "seed": key.seed,
            "recipe": key.recipe,
            "classes": list(dataset.classes),
            "data": dataset.digest,
        },
    )
