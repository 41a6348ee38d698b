"""Where MLflow keeps what is logged: an embedded SQLite file unless MLFLOW_TRACKING_URI says otherwise."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import mlflow
from filelock import FileLock
from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException

from resblock.tracking.view import save_view

DATABASE = Path("mlflow.db")
ARTIFACTS = Path("mlartifacts")
URI_VARIABLE = "MLFLOW_TRACKING_URI"
SQLITE = "sqlite:///"

# A server that does not answer must not hold up a training: MLflow's own defaults wait for many minutes.
PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}


def tracking_uri() -> str:
    """Return the store's address: the environment's, else the project's own file."""
    return os.environ.get(URI_VARIABLE) or f"{SQLITE}{DATABASE.resolve()}"


def experiment_name(dataset: str) -> str:
    """Return the experiment that holds every run on `dataset`."""
    return f"resblock-{dataset}"


def open_store() -> mlflow.MlflowClient:
    """Return a client of the store, which is made first where it is missing.

    MLflow leaves an SQLite file broken when several processes are the first to use it (its tables are made twice), so
    each passes through one lock.
    """
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    uri = tracking_uri()
    if not uri.startswith(SQLITE):
        return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
    with FileLock(f"{uri.removeprefix(SQLITE)}.lock"):
        client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)  # makes the tables
        client.search_experiments(max_results=1)
    return client


def ensure_experiment(client: mlflow.MlflowClient, dataset: str, description: str) -> Experiment:
    """Return the experiment of `dataset`, made first where it is missing."""
    name = experiment_name(dataset)
    embedded = tracking_uri().startswith(SQLITE)
    location = (ARTIFACTS / name).resolve().as_uri() if embedded else None  # a server chooses its own
    tags: Mapping[str, str] = {"mlflow.note.content": description, "mlflow.experimentKind": "custom_model_development"}
    try:
        client.create_experiment(name, artifact_location=location, tags=dict(tags))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    experiment = client.get_experiment_by_name(name)
    if experiment is None:  # created and deleted by others meanwhile
        raise MlflowException(f"experiment {name} does not exist")
    save_view(client, experiment.experiment_id)
    return experiment
