"""Runs in a store: made, found, opened again, and told which of them is the live one."""

from __future__ import annotations

import getpass
import os

from mlflow import MlflowClient
from mlflow.entities import Run

from resblock.tracking.git import DIRTY_TAG, git_state
from resblock.tracking.process import is_gone, this_process
from resblock.tracking.reconcile import milliseconds
from resblock.tracking.result import (
    EXPERIMENT_TAG,
    KEY_TAG,
    NAME_TAG,
    PARENT_TAG,
    PROCESS_TAG,
    SOURCE_TAG,
    SUPERSEDED_TAG,
    Result,
)
from resblock.tracking.store import all_runs, experiment_of_dvc

PARENT_VARIABLE = "RESBLOCK_PARENT_RUN"  # set by `resblock run` for the stages it lets DVC start
MLFLOW_PARENT_VARIABLE = "MLFLOW_RUN_ID"  # set by `mlflow run`


def create_run(client: MlflowClient, experiment_id: str, result: Result, *, live: bool) -> Run:
    """Make a run for `result`: one that is being written now, or one that tells of a result in the past."""
    tags = {
        **result.shown_tags,
        SOURCE_TAG: "live" if live else "files",
        SUPERSEDED_TAG: "false",
        PROCESS_TAG: this_process(),
        "mlflow.user": _user(),
        **git_state(),
        **_experiment_tag(),
    }
    if not result.code_is_here and DIRTY_TAG in tags:
        tags[DIRTY_TAG] = "true"
    if live:
        tags |= parent_tag()
    start = milliseconds(None if live else result.started)
    experiment = experiment_of_dvc()
    name = f"{result.name} ({experiment})" if experiment else result.name
    return client.create_run(experiment_id, start_time=start, tags=tags, run_name=name)


def reopen_run(client: MlflowClient, experiment_id: str, result: Result) -> Run | None:
    """Go on in the newest run that began `result`, did not finish, and has no living process; None without one."""
    if result.key is None:
        return None
    query = f"tags.`{KEY_TAG}` = '{result.key}' and attributes.status != 'FINISHED'"
    for run in all_runs(client, experiment_id, query):
        if is_of_here(run) and not is_being_written(run):
            client.update_run(run.info.run_id, status="RUNNING")
            for name, value in {PROCESS_TAG: this_process(), **parent_tag()}.items():
                client.set_tag(run.info.run_id, name, value)
            return client.get_run(run.info.run_id)
    return None


def find_run(client: MlflowClient, experiment_id: str, key: str) -> Run | None:
    """Return the live run of the result `key`, or None."""
    query = f"tags.`{KEY_TAG}` = '{key}' and tags.`{SUPERSEDED_TAG}` = 'false'"
    runs = all_runs(client, experiment_id, query)
    return min(runs, key=lambda run: (not is_of_here(run), run.info.status != "FINISHED"), default=None)


def supersede_others(client: MlflowClient, experiment_id: str, result: Result, run_id: str) -> None:
    """Leave `run_id` as the one live run of its stage, beside those that experiments of DVC's made of theirs."""
    query = f"tags.`{NAME_TAG}` = '{result.name}' and tags.`{SUPERSEDED_TAG}` = 'false'"
    for run in all_runs(client, experiment_id, query):
        if run.info.run_id != run_id and is_of_here(run) and not is_being_written(run):
            client.set_tag(run.info.run_id, SUPERSEDED_TAG, "true")


def is_of_here(run: Run) -> bool:
    """Return whether `run` was made by the experiment of DVC's that this is too, or by none where this is none.

    Experiments are made to be compared: each supersedes its own runs alone.
    """
    return run.data.tags.get(EXPERIMENT_TAG) == experiment_of_dvc()


def end_killed(client: MlflowClient, run: Run) -> None:
    """Mark a run as killed, whose process is gone, at the time of its last news."""
    news = client.get_metric_history(run.info.run_id, "loss")
    last = max((metric.timestamp for metric in news), default=run.info.start_time)
    client.set_terminated(run.info.run_id, "KILLED", end_time=last)


def is_being_written(run: Run) -> bool:
    """Return whether a process is at work on `run`, as far as can be known."""
    return run.info.status == "RUNNING" and not is_gone(run.data.tags.get(PROCESS_TAG), run.info.start_time / 1000)


def parent_tag() -> dict[str, str]:
    """Return the tag that nests a run under the one whose command started it; nothing under a plain `dvc repro`."""
    parent = os.environ.get(PARENT_VARIABLE) or os.environ.get(MLFLOW_PARENT_VARIABLE)
    return {PARENT_TAG: parent} if parent else {}


def _experiment_tag() -> dict[str, str]:
    experiment = experiment_of_dvc()
    return {EXPERIMENT_TAG: experiment} if experiment else {}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())
