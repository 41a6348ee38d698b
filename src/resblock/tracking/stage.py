"""One stage as one MLflow run, logged as it happens. Tracking that fails warns once and never stops a stage."""

from __future__ import annotations

import getpass
import os
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resblock.tracking.git import git_state

PARENT_VARIABLE = "MLFLOW_RUN_ID"  # set by `mlflow run`
STAGE_TAG, KEY_TAG = "resblock.stage", "resblock.key"


@dataclass(frozen=True)
class StageDescription:
    """Who the run is: its name is that of its DVC stage."""

    name: str  # for instance train@digits-residual-20-0
    dataset: str
    params: Mapping[str, Any] = field(default_factory=dict[str, Any])
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    key: str | None = None  # of a result that can be found again

    @property
    def stage(self) -> str:
        """The stage without its axes, for instance ``train``."""
        return self.name.partition("@")[0]


class StageRun:
    """A run in the store, or the silent stand-in for it where the store fails."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._client: Any = None
        self._run_id: str | None = None
        self._logged_steps = 0

    @property
    def run_id(self) -> str | None:
        """The run's id, or None where there is no store to write into."""
        return self._run_id if self._client is not None else None

    @property
    def client(self) -> Any:
        """MLflow's client, or None where there is no store to write into."""
        return self._client

    def start(self, description: StageDescription, about: str) -> None:
        """Open the run, or the one that a killed process of the same key left open."""
        with self.guard():
            from resblock.tracking.store import ensure_experiment, open_store

            client = open_store()
            experiment = ensure_experiment(client, description.dataset, about)
            run = _find(client, experiment.experiment_id, description.key, status="RUNNING")
            if run is None:
                run = client.create_run(experiment.experiment_id, run_name=description.name, tags=_tags(description))
            self._run_id, self._client = str(run.info.run_id), client
            self._logged_steps = 1 + max(
                (metric.step for metric in client.get_metric_history(run.info.run_id, "loss")), default=-1
            )
            self.params(description.params)

    def params(self, params: Mapping[str, Any]) -> None:
        """Log what was chosen; nested mappings become dotted names."""
        from mlflow.entities import Param

        self._batch(params=[Param(name, _text(value)) for name, value in flatten(params).items()])

    def metrics(self, metrics: Mapping[str, Any], step: int = 0) -> None:
        """Log numbers at `step`; None and text are left out."""
        self._batch(metrics=_metrics(metrics, step))

    def epoch(self, metrics: Mapping[str, Any], step: int) -> None:
        """Log one epoch's numbers, unless a killed process of the same training has logged them already."""
        if step >= self._logged_steps:
            self.metrics(metrics, step)

    def tags(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
        from mlflow.entities import RunTag

        self._batch(tags=[RunTag(name, value) for name, value in tags.items()])

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Log a file, or a folder with all that lies in it."""
        if self._client is None:
            return
        with self.guard():
            if path.is_dir():
                self._client.log_artifacts(self._run_id, str(path), folder)
            else:
                self._client.log_artifact(self._run_id, str(path), folder)

    def result_metrics(self, dataset: str, key: str, metrics: Mapping[str, Any]) -> bool:
        """Log numbers onto the run that made the result `key`; return whether there is such a run."""
        if self._client is None:
            return False
        with self.guard():
            from resblock.tracking.store import experiment_name

            experiment = self._client.get_experiment_by_name(experiment_name(dataset))
            run = _find(self._client, experiment.experiment_id, key)
            if run is None:
                return False
            self._client.log_batch(run.info.run_id, metrics=_metrics(metrics, step=0))
            return True
        return False

    def end(self, status: str) -> None:
        """Close the run with MLflow's FINISHED, FAILED or KILLED."""
        if self._client is None:
            return
        with self.guard():
            self._client.set_terminated(self._run_id, status)

    def _batch(self, **entities: Any) -> None:
        if self._client is None:
            return
        with self.guard():
            self._client.log_batch(self._run_id, **entities)

    @contextmanager
    def guard(self) -> Generator[None]:
        """Turn the first failure into a warning, and be silent from then on."""
        try:
            yield
        except Exception as error:
            self._client = None
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            self._warn(f"MLflow cannot be written, this stage goes on without it: {reason}")


@contextmanager
def track(description: StageDescription, *, about: str, warn: Callable[[str], None]) -> Generator[StageRun]:
    """Open a run for the block and close it truthfully: FINISHED, FAILED, or KILLED when a signal ended it."""
    run = StageRun(warn)
    run.start(description, about)
    try:
        yield run
    except (KeyboardInterrupt, SystemExit):
        run.end("KILLED")
        raise
    except BaseException:
        run.end("FAILED")
        raise
    run.end("FINISHED")


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one level of dotted names."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _metrics(metrics: Mapping[str, Any], step: int) -> list[Any]:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    return [Metric(name, float(value), now, step) for name, value in metrics.items() if isinstance(value, (int, float))]


def _text(value: Any) -> str:
    return ", ".join(str(entry) for entry in value) if isinstance(value, (list, tuple)) else str(value)


def _tags(description: StageDescription) -> dict[str, str]:
    tags = {
        STAGE_TAG: description.stage,
        "resblock.source": "live",
        "mlflow.source.name": f"dvc repro {description.name}",
        "mlflow.source.type": "LOCAL",
        "mlflow.user": _user(),
        **git_state(),
        **description.tags,
    }
    if description.key:
        tags[KEY_TAG] = description.key
    # `mlflow run` hands its own run to every stage: it is their parent, not the run to write into.
    if parent := os.environ.get(PARENT_VARIABLE):
        tags["mlflow.parentRunId"] = parent
    return tags


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())


def _find(client: Any, experiment_id: str, key: str | None, status: str = "") -> Any:
    """Return the newest run of the result `key`, or None."""
    if key is None:
        return None
    query = f"tags.`{KEY_TAG}` = '{key}'" + (f" and attributes.status = '{status}'" if status else "")
    found = client.search_runs([experiment_id], query, max_results=1, order_by=["attributes.start_time DESC"])
    return found[0] if found else None
