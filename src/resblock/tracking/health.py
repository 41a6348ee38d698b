"""What may be wrong with a store: half made, in a place that does not last, with runs of processes that are gone."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from resblock.tracking.runs import end_killed, is_being_written
from resblock.tracking.store import all_runs, find_experiment, may_be_written, open_store, required_store

TABLES = {"alembic_version", "experiments", "runs", "metrics", "params", "tags"}  # without which MLflow is helpless
PASSING = ("locked", "readonly")  # of what SQLite says, where the file itself may be whole
BESIDE = ("-journal", "-wal", "-shm")  # what SQLite keeps of a write, or of readers
TEMPORARY = (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"))  # noqa: S108  (looked for, not written to)


def half_made(file: Path) -> str:
    """Return in words why MLflow cannot use the SQLite store in `file`; empty where it can.

    Two processes that were the first to use a store at once leave it so, and so does a kill in that moment. A kill in
    the middle of a write does not: SQLite takes that back when it next opens the file, here for instance.
    """
    address = f"{file.resolve().as_uri()}?mode={'rw' if may_be_written(file) else 'ro'}"  # which makes no file
    try:
        with closing(sqlite3.connect(address, uri=True)) as database:
            names = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if missing := sorted(TABLES - names):
                return f"lacks the tables {', '.join(missing)}"
            if not database.execute("SELECT count(*) FROM alembic_version").fetchone()[0]:
                return "does not say which version of MLflow's tables it has"
            (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
            return "" if verdict == "ok" else f"is damaged ({verdict})"
    except sqlite3.OperationalError as error:
        return "" if any(words in str(error) for words in PASSING) else f"cannot be read ({error})"
    except sqlite3.DatabaseError as error:
        return f"is damaged ({error})"


def set_aside(file: Path) -> str:
    """Give the store in `file`, and what SQLite keeps beside it, another name; nothing is deleted."""
    number = 1
    while (aside := file.with_name(f"{file.name}.broken-{number}")).exists():
        number += 1
    for ending in ("", *BESIDE):
        with suppress(FileNotFoundError):
            Path(f"{file}{ending}").rename(f"{aside}{ending}")
    return f"it is {aside.name} now; `resblock sync` makes a new one from the files"


def is_temporary(path: Path) -> bool:
    """Return whether `path` lies where systems tidy up."""
    folders = {Path(tempfile.gettempdir()), *TEMPORARY}
    return any(folder.resolve() in path.resolve().parents for folder in folders)


def dead_runs(datasets: Iterable[str]) -> tuple[list[str], Callable[[], str]]:
    """Return the names of runs that say RUNNING for processes that are gone, and what marks them as killed."""
    with required_store(check=True):
        client = open_store()
        dead = [run for dataset in datasets for run in _dead(client, dataset)]

    def end() -> str:
        for run in dead:
            end_killed(client, run)
        return "marked them KILLED"

    return [str(run.info.run_name) for run in dead], end


def _dead(client: MlflowClient, dataset: str) -> list[Run]:
    experiment = find_experiment(client, dataset)
    if experiment is None:
        return []
    running = all_runs(client, experiment.experiment_id, "attributes.status = 'RUNNING'")
    return [run for run in running if not is_being_written(run)]
