"""Trained networks as MLflow's models: logged with their runs, registered, fetched.

A model knows its result by the key that its run carries: to log or register one again changes nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import mlflow
import mlflow.artifacts
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus
from mlflow.exceptions import MlflowException

from resblock.core.errors import UserError
from resblock.tracking.package import DATA, ModelPackage, Registration, read_example, write_package
from resblock.tracking.result import KEY_TAG, NOTE_TAG, shown_text
from resblock.tracking.store import (
    all_pages,
    experiment_name,
    find_experiment,
    open_store,
    required_store,
    tracking_uri,
)

ALIAS = "champion"
LACKING = "its model is not in MLflow"
EMPTY = "its model's files are gone"


def log_model(client: MlflowClient, run_id: str, package: ModelPackage) -> str:
    """Log `package` as the model of the run `run_id` and return the model's id.

    A model that the run has already stays as it is; one that a killed process left unfinished, or whose files
    are gone, is completed.
    """
    run = client.get_run(run_id)
    model = _model_of(client, run.info.experiment_id, package.key, run_id)
    if model is None:
        model = client.create_logged_model(
            run.info.experiment_id,
            name=package.name,
            source_run_id=run_id,
            tags={KEY_TAG: package.key, NOTE_TAG: package.description},
            params={name: shown_text(value) for name, value in package.metadata.items()},
            model_type="classifier",
        )
    linked = [output.model_id for output in (run.outputs.model_outputs if run.outputs else [])]
    if model.model_id not in linked:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    if model.status != LoggedModelStatus.READY or not _has_files(client, model):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "model"
            write_package(package, folder, model_id=model.model_id, run_id=run_id)
            client.log_model_artifacts(model.model_id, str(folder))
        client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    return str(model.model_id)


def register_champion(client: MlflowClient, champion: Registration, *, check: bool = False) -> str | None:
    """Register the model of `champion` and let the alias point to it; return what that took, in words.

    The words are empty where all was so already: a result that is registered gets no second version. None where the
    store has no model of that result. With `check` nothing is changed. The registered model is called like the
    experiment.
    """
    name = experiment_name(champion.dataset)
    experiment = find_experiment(client, champion.dataset)
    model = _model_of(client, experiment.experiment_id, champion.key) if experiment else None
    if model is None or model.status != LoggedModelStatus.READY:
        return None
    versions = client.search_model_versions(f"name = '{name}'")
    version = next((version for version in versions if version.tags.get(KEY_TAG) == champion.key), None)
    words: list[str] = []
    if version is None:
        words.append("is not registered")
    elif version.description != champion.description:
        words.append("is registered for another reason")
    if version is None or ALIAS not in client.get_model_version(name, version.version).aliases:
        words.append(f"is not the {ALIAS}")
    if check or not words:
        return " and ".join(words)
    if version is None:
        _ensure_registered(client, name, champion.dataset)
        version = client.create_model_version(
            name,
            source=f"models:/{model.model_id}",
            run_id=model.source_run_id,
            tags={KEY_TAG: champion.key, **champion.tags},
            description=champion.description,
            model_id=model.model_id,
        )
    else:
        client.update_model_version(name, version.version, description=champion.description)
    client.set_registered_model_alias(name, ALIAS, version.version)
    return " and ".join(words)


def rename_models(client: mlflow.MlflowClient, experiment_id: str, run_id: str, key: str) -> None:
    """Let the models of a run, and their registered versions, know its result by a new key."""
    query = f"source_run_id = '{run_id}'"
    for model in client.search_logged_models([experiment_id], filter_string=query):
        client.set_logged_model_tags(model.model_id, {KEY_TAG: key})
    for version in client.search_model_versions(f"run_id = '{run_id}'"):
        client.set_model_version_tag(version.name, version.version, KEY_TAG, key)


def sync_models(
    experiment_id: str,
    runs: Mapping[str, str],
    make_package: Callable[[str], ModelPackage | None],
    champion: Registration | None,
    *,
    check: bool = False,
) -> tuple[list[str], list[str]]:
    """Give each of `runs`, name of a result to id of its run, its model, and the registry its champion.

    Returns what was changed, or with `check` would be, and the names of runs without a model whose package cannot be
    made. Raises UserError where the store cannot be read or written.
    """
    changes: list[str] = []
    impossible: list[str] = []
    with required_store(check=check):
        client = open_store()
        models = _all_models(client, experiment_id)
        ready = [model for model in models if model.status == LoggedModelStatus.READY]
        lacks = {str(model.source_run_id): "" if _has_files(client, model) else EMPTY for model in ready}
        for name in (name for name, run_id in runs.items() if lacks.get(run_id, LACKING)):
            package = make_package(name)
            if package is None:
                impossible.append(name)
                continue
            changes.append(f"{name}: {lacks.get(runs[name], LACKING)}")
            if not check:
                log_model(client, runs[name], package)
        words = register_champion(client, champion, check=check) if champion else ""
        if champion and words is None and f"{champion.name}: {LACKING}" in changes:
            words = "is not registered"  # and will be, once it has a model
        if champion and words:
            changes.append(f"{champion.name}: {words}")
    return changes, impossible


def download_model(uri: str, folder: Path) -> tuple[Path, np.ndarray]:
    """Fetch the model at `uri` (``models:/…``, ``runs:/…``, a path) into `folder`.

    Returns where its run's files lie, and the images of its input example, uint8 (n, height, width, channel).

    Raises UserError where there is no such model, or one that resblock has not made.
    """
    open_store()  # for its patience and its silence
    mlflow.set_tracking_uri(tracking_uri())
    mlflow.set_registry_uri(tracking_uri())
    remedy = "`resblock sync` brings back the models of trainings whose weights are here"
    try:
        model = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder)))
    except (MlflowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{uri}: cannot be fetched from {tracking_uri()}: {reason}; {remedy}") from None
    if model.is_dir() and not any(model.iterdir()):  # what MLflow gives where a model's files are gone
        raise UserError(f"{uri}: {EMPTY} from {tracking_uri()}; {remedy}")
    if not (model / "data" / DATA).is_dir():
        raise UserError(
            f"{uri}: is no model that resblock logged; there are models:/{experiment_name('<dataset>')}@{ALIAS}"
        )
    return model / "data" / DATA, read_example(model)


def _model_of(client: MlflowClient, experiment_id: str, key: str, run_id: str | None = None) -> LoggedModel | None:
    """Return the newest model of the result `key`, of any of its runs or of that one; finished ones come first."""
    query = f"tags.`{KEY_TAG}` = '{key}'" + (f" AND source_run_id = '{run_id}'" if run_id else "")
    found = client.search_logged_models([experiment_id], filter_string=query)  # the newest first
    return next((model for model in found if model.status == LoggedModelStatus.READY), next(iter(found), None))


def _has_files(client: MlflowClient, model: LoggedModel) -> bool:
    """Return whether anything lies where the store says that the model lies."""
    return bool(client.list_logged_model_artifacts(model.model_id))


def _all_models(client: MlflowClient, experiment_id: str) -> list[LoggedModel]:
    return all_pages(lambda token: client.search_logged_models([experiment_id], page_token=token))


def _ensure_registered(client: MlflowClient, name: str, dataset: str) -> None:
    text = (
        f"Networks trained on {dataset}. The alias {ALIAS} points to the best by mean validation accuracy over seeds."
    )
    try:
        client.create_registered_model(name, tags={"resblock.dataset": dataset}, description=text)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
