"""Where MLflow keeps what is logged: an embedded SQLite file unless MLFLOW_TRACKING_URI says otherwise."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import mlflow
from filelock import FileLock
from mlflow.entities import Experiment, Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
from sqlalchemy.exc import SQLAlchemyError

from resblock.core.errors import UserError
from resblock.signals import uninterrupted
from resblock.tracking.patience import in_brief
from resblock.tracking.relocation import old_places, relocate
from resblock.tracking.result import NOTE_TAG
from resblock.tracking.view import save_view

Entity = TypeVar("Entity")

DATABASE = Path("mlflow.db")
ARTIFACTS = Path("mlartifacts")
URI_VARIABLE = "MLFLOW_TRACKING_URI"
SQLITE = "sqlite:///"
EXPERIMENTS = "resblock-"  # how the names of ours begin

# A server that does not answer must not hold up a training: MLflow's own defaults wait for many minutes.
PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
# Of a run on a server, MLflow prints the address of a page that shows nothing of the study; of files, progress bars.
QUIET = {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
LOCK_PATIENCE = 60  # seconds; the lock on making the store is held for two or three
PAGE = 1000  # runs asked for at once


def experiment_of_dvc() -> str | None:
    """Return the name of the `dvc exp run` that this process works for, or None."""
    return os.environ.get("DVC_EXP_NAME") or None


def project() -> Path:
    """Return the project's folder: this one, or for an experiment of DVC that it is the temporary copy of."""
    root = os.environ.get("DVC_ROOT")
    return Path(root) if root and experiment_of_dvc() else Path.cwd()


def tracking_uri() -> str:
    """Return the store's address: the environment's, else the project's own file."""
    return os.environ.get(URI_VARIABLE) or f"{SQLITE}{(project() / DATABASE).resolve()}"


def database_file() -> Path | None:
    """Return the SQLite file behind the store, or None where the store is something else."""
    uri = tracking_uri()
    return Path(uri.removeprefix(SQLITE).removeprefix("file:").partition("?")[0]) if uri.startswith(SQLITE) else None


def experiment_name(dataset: str) -> str:
    """Return the experiment that holds every run on `dataset`."""
    return f"{EXPERIMENTS}{dataset}"


def open_store() -> mlflow.MlflowClient:
    """Return a client of the store, which is made first where it is missing.

    MLflow leaves an SQLite file broken when several processes are the first to use it (its tables are made twice), or
    when the first is killed or kept out of the file meanwhile. So each passes through one lock, and the file is made
    elsewhere.
    """
    for name, value in {**PATIENCE, **QUIET}.items():
        os.environ.setdefault(name, value)
    for noisy in ("mlflow", "alembic", "urllib3"):  # a failure reaches the caller, and is said once and in words
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    uri = tracking_uri()
    with _made_once(), uninterrupted():
        file = database_file()
        if file and not (file.exists() and file.stat().st_size):
            _make(file)
        client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
        if file:
            _follow_the_project(client, file)
    return client


def _make(file: Path) -> None:
    """Make the tables in another file, and move it here when they are whole."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # a second to import, seldom needed

    new = file.with_name(f"{file.name}.new")
    for left in (new, f"{new}-journal", f"{file}-journal"):  # by killed processes; a journal would be played back
        Path(left).unlink(missing_ok=True)
    SqlAlchemyStore(f"{SQLITE}{new}", DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH).engine.dispose()
    new.replace(file)


def _follow_the_project(client: mlflow.MlflowClient, file: Path) -> None:
    """Let the project's own store, which may have been moved or copied with it, name its artifacts where they are."""
    experiments = all_pages(lambda token: client.search_experiments(view_type=ViewType.ALL, page_token=token))
    if file.resolve() != (project() / DATABASE).resolve():
        return  # a store of several projects is no part of this one
    ours = [(each.name, str(each.artifact_location)) for each in experiments if each.name.startswith(EXPERIMENTS)]
    artifacts = _artifacts().as_uri()
    old = old_places(ours, artifacts)
    if old and may_be_written(file):
        try:
            relocate(file, old, artifacts)
        except sqlite3.Error as error:  # as MLflow tells what its own calls meet
            raise MlflowException(f"{file}: {error}") from error


def may_be_written(file: Path) -> bool:
    """Return whether SQLite may write the store in `file`: that takes a journal beside it, too."""
    return os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)


def _artifacts() -> Path:
    return (project() / ARTIFACTS).resolve()


@contextmanager
def _made_once() -> Generator[None]:
    """Let one process at a time make the tables; where nothing can be written, nothing is made."""
    file = database_file()
    if file is None or (file.is_file() and not os.access(file.parent, os.W_OK)):
        yield
        return
    with FileLock(f"{file}.lock", timeout=LOCK_PATIENCE):
        yield


@contextmanager
def required_store(*, check: bool) -> Generator[None]:
    """Turn a store that cannot be read (for a `check`) or written into a UserError that says what to do."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise UserError(
            f"MLflow at {tracking_uri()} cannot be {'read' if check else 'brought up to date'}: "
            f"{in_brief(error)}. Mend that, or name another store in MLFLOW_TRACKING_URI, and call resblock sync again"
        ) from None


def find_experiment(client: mlflow.MlflowClient, dataset: str) -> Experiment | None:
    """Return the experiment of `dataset`, or None where there is none or it was deleted."""
    experiment = client.get_experiment_by_name(experiment_name(dataset))
    return experiment if experiment and experiment.lifecycle_stage == "active" else None


def ensure_experiment(client: mlflow.MlflowClient, dataset: str, description: str) -> Experiment:
    """Return the experiment of `dataset` with its saved view; made first where it is missing, restored if deleted."""
    name = experiment_name(dataset)
    experiment = client.get_experiment_by_name(name) or _create_experiment(client, name, description)
    if experiment.lifecycle_stage != "active":
        client.restore_experiment(experiment.experiment_id)
        experiment = client.get_experiment(experiment.experiment_id)
    save_view(client, experiment)
    return experiment


def all_runs(client: mlflow.MlflowClient, experiment_id: str, query: str = "") -> list[Run]:
    """Return every run of an experiment that `query` finds and nobody deleted, the newest first."""
    order = ["attributes.start_time DESC"]
    return all_pages(
        lambda token: client.search_runs([experiment_id], query, max_results=PAGE, page_token=token, order_by=order)
    )


def all_pages(search: Callable[[str | None], PagedList[Entity]]) -> list[Entity]:
    """Return what `search` finds on every page; it takes the token of the page it is to return."""
    found: list[Entity] = []
    token: str | None = None
    while True:
        page = search(token)
        found += page
        token = page.token
        if not token:
            return found


def _create_experiment(client: mlflow.MlflowClient, name: str, description: str) -> Experiment:
    location = (_artifacts() / name).as_uri() if database_file() else None  # a server chooses its own
    tags = {NOTE_TAG: description, "mlflow.experimentKind": "custom_model_development"}
    try:
        client.create_experiment(name, artifact_location=location, tags=dict(tags))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another process was quicker
            raise
    experiment = client.get_experiment_by_name(name)
    if experiment is None:  # created and deleted by others meanwhile
        raise MlflowException(f"experiment {name} does not exist")
    return experiment
