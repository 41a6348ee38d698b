"""What a stage says of a trained network where MLflow keeps models."""

from __future__ import annotations

from resblock import paths
from resblock.data.splits import DESCRIPTION, read_description, read_split
from resblock.evaluation.champion import Champion
from resblock.files import read_json
from resblock.serving.package import LOADER, constraints, pack_code, requirements
from resblock.spec import RunKey
from resblock.stages.terminal import warn
from resblock.tracking.package import ModelPackage
from resblock.tracking.stage import StageRun
from resblock.training.run import CURVE, MANIFEST, WEIGHTS

EXAMPLES = 3  # images in a model's input example


def log_training(tracker: StageRun, key: RunKey) -> None:
    """Log the network of a training that finished onto its run."""
    with tracker.guard():
        if tracker.client is None or tracker.run_id is None or (package := model_package(key)) is None:
            return
        from resblock.tracking.models import log_model

        log_model(tracker.client, tracker.run_id, package)


def register(tracker: StageRun, best: Champion) -> None:
    """Register the network to use in the store's model registry, unless it is there."""
    key = RunKey(best.dataset, best.winner.spec, best.score.seed)
    with tracker.guard():
        if tracker.client is None:
            return
        from resblock.tracking.models import register_champion

        tags = {"resblock.variant": key.spec.name, "resblock.seed": str(key.seed)}
        version = register_champion(
            tracker.client,
            key.dataset,
            read_json(paths.run(key) / MANIFEST)["key"],
            description=best.reason,
            tags=tags,
        )
        if version is None:
            warn(f"{key}: MLflow has no model of it to register; `resblock sync` makes one where its weights are")


def model_package(key: RunKey) -> ModelPackage | None:
    """Return what MLflow's model of a finished training is made of.

    None where the files do not give one: weights or splits that are not here (a clone without DVC's cache), or a
    training that diverged.
    """
    run, splits = paths.run(key), paths.splits(key.dataset)
    files = [run / name for name in (MANIFEST, WEIGHTS, CURVE)] + [splits / DESCRIPTION]
    if not all(file.is_file() for file in files):
        return None
    manifest, dataset = read_json(run / MANIFEST), read_description(splits)
    if manifest["status"] != "finished" or manifest["data"] != dataset.digest:
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
        description=f"{key.spec} trained on {key.dataset} from seed {key.seed}. Images in, class and probability out; "
        "batch-norm statistics as trained.",
        metadata={
            "dataset": key.dataset,
            "variant": key.spec.name,
            "seed": key.seed,
            "classes": list(dataset.classes),
            "data": dataset.digest,
        },
    )
