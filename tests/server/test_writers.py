"""Many writers on one server."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import pytest
from mlflow import MlflowClient
from mlflow.entities import Experiment

from resblock.tracking.result import Artifact, DataInput, Result
from resblock.tracking.stage import track
from resblock.tracking.view import save_view
from tests.conftest import run_at_once
from tests.server.services import S3, MlflowServer, Postgres

pytestmark = pytest.mark.server

WRITERS, STEPS = 8, 20


def write(number: int) -> None:
    """Log a training with a page."""
    page = Path(str(number))
    page.write_text(str(number))
    data = DataInput("digits", "the digest", "training", "scikit-learn", {"images": 1293})
    result = Result(f"train@digits-cnn-4-{number}", "digits", f"key {number}", {"seed": number}, inputs=(data,))
    curve = {step: {"loss": number + 1 / step} for step in range(1, STEPS + 1)}
    with track(result, about="text", warn=sys.exit) as run:
        for step, metrics in curve.items():
            run.epoch(metrics, step)
        run.complete(lambda: replace(result, curve=curve, artifacts=(Artifact("page", page),)))


@pytest.fixture(scope="module")
def empty_server(
    database_server: Postgres, bucket: S3, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MlflowServer]:
    """A server on an empty data base that asks nobody who they are: hashing passwords takes most of a call."""
    server = MlflowServer(tmp_path_factory.mktemp("empty"), database_server.database("empty"), bucket)
    with server.running():
        yield server


def test_eight_processes_on_an_empty_data_base_lose_and_double_nothing(
    empty_server: MlflowServer, bucket: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", empty_server.address)
    run_at_once(write, range(WRITERS))
    client = MlflowClient(tracking_uri=empty_server.address)
    (experiment,) = client.search_experiments(filter_string="name LIKE 'resblock-%'")
    assert experiment.name == "resblock-digits"
    assert experiment.tags["mlflow.note.content"] == "text"
    assert "mlflow.sharedViewState.resblock" in experiment.tags
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.data.tags["resblock.key"] for run in runs) == [f"key {number}" for number in range(WRITERS)]
    stored = bucket.stored()
    for run in runs:
        number = int(run.data.params["seed"])
        assert run.info.status == "FINISHED"
        history = client.get_metric_history(run.info.run_id, "loss")
        assert [(metric.step, metric.value) for metric in history] == [
            (step, number + 1 / step) for step in range(1, STEPS + 1)
        ]
        assert run.inputs is not None
        assert [entry.dataset.name for entry in run.inputs.dataset_inputs] == ["digits"]
        assert f"{experiment.experiment_id}/{run.info.run_id}/artifacts/page" in stored


def test_eight_may_be_the_first_to_save_the_views(empty_server: MlflowServer) -> None:
    client = MlflowClient(tracking_uri=empty_server.address)
    together = Barrier(WRITERS)

    def save(experiment: Experiment) -> None:
        together.wait()
        save_view(client, experiment)

    for attempt in range(2):
        experiment = client.get_experiment(client.create_experiment(f"views {attempt}"))
        with ThreadPoolExecutor(WRITERS) as pool:
            list(pool.map(save, [experiment] * WRITERS))
        saved = client.get_experiment(experiment.experiment_id).tags
        assert {"mlflow.sharedViewState.resblock", "mlflow.sharedViewState.resblock-means"} <= saved.keys()
