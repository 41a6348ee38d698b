"""What a run lacks to show a result, and how to add it. Live runs end through here, and so do rebuilt ones."""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from resblock.tracking.result import ARTIFACTS_TAG, CURVE_TAG, SUPERSEDED_TAG, Artifact, DataInput, Result

METRICS_AT_ONCE, OTHERS_AT_ONCE = 1000, 100  # what one request to MLflow may hold
DIGEST_LENGTH = 36  # of a data set, in MLflow's tables


@dataclass(frozen=True)
class Lack:
    """What is missing from a run, or why it can never show the result."""

    params: list[Param] = field(default_factory=list[Param])
    metrics: list[Metric] = field(default_factory=list[Metric])
    tags: dict[str, str] = field(default_factory=dict[str, str])
    inputs: list[DataInput] = field(default_factory=list[DataInput])
    artifacts: list[Artifact] = field(default_factory=list[Artifact])
    unfinished: str = ""  # the status of a run that does not say FINISHED
    conflict: str = ""  # MLflow changes no parameter and takes back no step: such a run cannot be mended

    @property
    def words(self) -> str:
        """What is missing, in words; empty where nothing is."""
        said = [
            f"{len(self.params)} parameters" if self.params else "",
            f"metrics {', '.join(sorted({metric.key for metric in self.metrics}))}" if self.metrics else "",
            f"tags {', '.join(sorted(self.tags))}" if self.tags else "",
            f"data sets {', '.join(data.context for data in self.inputs)}" if self.inputs else "",
            f"artifacts {', '.join(artifact.name for artifact in self.artifacts)}" if self.artifacts else "",
        ]
        missing = "; ".join(part for part in said if part)
        return " and ".join(
            part
            for part in (f"is {self.unfinished}" if self.unfinished else "", missing and f"lacks {missing}")
            if part
        )


def find_lack(client: MlflowClient, run: Run, result: Result, *, artifacts: bool = True) -> Lack:
    """Compare `run` with `result`; with `artifacts` false, as a glance that asks for no list of files."""
    params = {name: value for name, value in result.shown_params.items() if name not in run.data.params}
    for name, value in result.shown_params.items():
        if run.data.params.get(name, value) != value:
            return Lack(conflict=f"its parameter {name} is {run.data.params[name]}, the result's {value}")
    tags = {**result.shown_tags, SUPERSEDED_TAG: "false"}
    tags = {name: value for name, value in tags.items() if run.data.tags.get(name) != value}
    metrics = _final_metrics(run, result)
    if result.curve and run.data.tags.get(CURVE_TAG) != result.curve_digest:
        steps = _missing_steps(client, run.info.run_id, result)
        if isinstance(steps, str):
            return Lack(conflict=steps)
        metrics = steps + metrics
        tags[CURVE_TAG] = result.curve_digest
    dataset_inputs = run.inputs.dataset_inputs if run.inputs else []
    known = {(entry.dataset.name, entry.dataset.digest) for entry in dataset_inputs}
    return Lack(
        params=[Param(name, value) for name, value in params.items()],
        metrics=metrics,
        tags=tags,
        inputs=[data for data in result.inputs if (data.name, data.digest[:DIGEST_LENGTH]) not in known],
        artifacts=_missing_artifacts(client, run, result) if artifacts else [],
        unfinished="" if run.info.status == "FINISHED" else run.info.status,
    )


def add_figures(client: MlflowClient, run_id: str, lack: Lack) -> None:
    """Write parameters, metrics, inputs and, last, the tags that say what the run now holds."""
    for params in _portions(lack.params, OTHERS_AT_ONCE):
        client.log_batch(run_id, params=params)
    for metrics in _portions(lack.metrics, METRICS_AT_ONCE):
        client.log_batch(run_id, metrics=metrics)
    if lack.inputs:
        _log_inputs(client, run_id, lack.inputs)
    for tags in _portions([RunTag(name, value) for name, value in lack.tags.items()], OTHERS_AT_ONCE):
        client.log_batch(run_id, tags=tags)


def add_artifacts(client: MlflowClient, run: Run, lack: Lack) -> None:
    """Upload the missing artifacts, and note what they were made from."""
    if not lack.artifacts:
        return
    with TemporaryDirectory() as scratch:
        for artifact in lack.artifacts:
            place = PurePosixPath(artifact.name)
            path = Path(scratch) / place.name
            if artifact.draw:
                artifact.draw(path)
            else:
                shutil.copyfile(artifact.source, path)
            folder = str(place.parent) if place.parent.parts else None
            client.log_artifact(run.info.run_id, str(path), folder)
    held = _held_artifacts(run) | {artifact.name: artifact.digest for artifact in lack.artifacts}
    client.set_tag(run.info.run_id, ARTIFACTS_TAG, json.dumps(held, sort_keys=True))


def milliseconds(seconds: float | None) -> int:
    """Return a time as MLflow writes it; now where there is none."""
    return int((time.time() if seconds is None else seconds) * 1000)


def _final_metrics(run: Run, result: Result) -> list[Metric]:
    """Return the metrics at the end that the run shows otherwise or not at all; of several, MLflow shows the newest."""
    return [
        Metric(name, float(value), milliseconds(None if name in run.data.metrics else result.ended), 0)
        for name, value in result.metrics.items()
        if name not in run.data.metrics or not _equal(run.data.metrics[name], value)
    ]


def _missing_steps(client: MlflowClient, run_id: str, result: Result) -> list[Metric] | str:
    """Return the curve's points that the run lacks, or in words why it cannot hold this curve."""
    missing: list[Metric] = []
    for name in dict.fromkeys(name for values in result.curve.values() for name in values):
        wanted = {step: values[name] for step, values in result.curve.items() if name in values}
        found: dict[int, float] = {}
        for metric in client.get_metric_history(run_id, name):
            if metric.step not in wanted or metric.step in found or not _equal(metric.value, wanted[metric.step]):
                return f"its {name} at step {metric.step} is not the result's, or stands twice"
            found[metric.step] = metric.value
        missing += [
            Metric(name, value, milliseconds(result.step_ends.get(step)), step)
            for step, value in wanted.items()
            if step not in found
        ]
    return missing


def _missing_artifacts(client: MlflowClient, run: Run, result: Result) -> list[Artifact]:
    held = _held_artifacts(run)
    folders = {str(PurePosixPath(artifact.name).parent) for artifact in result.artifacts}
    stored = {
        entry.path
        for folder in sorted(folders)
        for entry in client.list_artifacts(run.info.run_id, None if folder == "." else folder)
    }
    return [a for a in result.artifacts if a.name not in stored or held.get(a.name) != a.digest]


def _held_artifacts(run: Run) -> dict[str, str]:
    return json.loads(run.data.tags.get(ARTIFACTS_TAG, "{}"))


def _log_inputs(client: MlflowClient, run_id: str, inputs: Sequence[DataInput]) -> None:
    entities = [_dataset_input(data) for data in inputs]
    try:
        client.log_inputs(run_id, entities)
    except MlflowException:  # two processes were the first to name a data set: by now the other has made its row
        client.log_inputs(run_id, entities)


def _dataset_input(data: DataInput) -> DatasetInput:
    kind, address = ("http", "url") if "://" in data.source else ("local", "uri")
    dataset = Dataset(
        name=data.name,
        digest=data.digest[:DIGEST_LENGTH],
        source_type=kind,
        source=json.dumps({address: data.source}),
        profile=json.dumps(dict(data.profile)),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", data.context)])


def _equal(stored: float, wanted: float) -> bool:
    """Compare as MLflow keeps numbers: NaN as such, infinity as the largest number where the store is SQL."""
    if math.isnan(wanted):
        return math.isnan(stored)
    return stored == wanted or (math.isinf(wanted) and stored == math.copysign(sys.float_info.max, wanted))


def _portions(entries: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    return (entries[start : start + size] for start in range(0, len(entries), size))
