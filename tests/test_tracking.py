"""Runs in MLflow: truthful ends, one run after a kill, many writers at once, and a store that fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from resblock.tracking.stage import StageDescription, flatten, track

TRAINING = StageDescription("train@digits-cnn-4-0", "digits", {"depth": 4}, {}, key="abc")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project folder, and nothing said about tracking."""
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def runs(store: Path) -> list[Run]:
    client = MlflowClient(tracking_uri=f"sqlite:///{store / 'mlflow.db'}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(experiments))


def no_warning(message: str) -> None:
    pytest.fail(message)


def test_a_run_that_ends_well_is_finished(store: Path) -> None:
    with track(TRAINING, about="text", warn=no_warning) as run:
        run.epoch({"loss": 0.5, "note": "text", "nothing": None}, 1)
    (kept,) = runs(store)
    assert kept.info.status == "FINISHED"
    assert kept.info.run_name == "train@digits-cnn-4-0"
    assert kept.data.metrics == {"loss": 0.5}
    assert kept.data.params == {"depth": "4"}
    assert kept.data.tags["resblock.key"] == "abc"


@pytest.mark.parametrize(
    ("error", "status"), [(RuntimeError, "FAILED"), (KeyboardInterrupt, "KILLED"), (SystemExit, "KILLED")]
)
def test_a_run_that_ends_badly_says_how(store: Path, error: type[BaseException], status: str) -> None:
    with pytest.raises(error), track(TRAINING, about="text", warn=no_warning):
        raise error
    assert [run.info.status for run in runs(store)] == [status]


def test_a_killed_training_goes_on_in_its_run_without_doubled_steps(store: Path) -> None:
    kill = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    code = (
        "from resblock.tracking.stage import *\n"
        f"description = StageDescription({TRAINING.name!r}, 'digits', {{'depth': 4}}, {{}}, key='abc')\n"
        "with track(description, about='text', warn=print) as run:\n"
        f"    run.epoch({{'loss': 0.5}}, 1); run.epoch({{'loss': 0.4}}, 2); {kill}\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert [run.info.status for run in runs(store)] == ["RUNNING"]
    with track(TRAINING, about="text", warn=no_warning) as run:
        for step, loss in ((1, 0.5), (2, 0.4), (3, 0.3)):
            run.epoch({"loss": loss}, step)
    (kept,) = runs(store)
    history = MlflowClient(tracking_uri=f"sqlite:///{store / 'mlflow.db'}").get_metric_history(kept.info.run_id, "loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.5), (2, 0.4), (3, 0.3)]
    assert kept.info.status == "FINISHED"


def test_a_repeated_training_is_a_run_of_its_own_and_gets_the_test_metrics(store: Path) -> None:
    for _ in range(2):
        with track(TRAINING, about="text", warn=no_warning):
            pass
    evaluation = StageDescription("evaluate@digits", "digits")
    with track(evaluation, about="text", warn=no_warning) as run:
        assert run.result_metrics("digits", "abc", {"test_accuracy": 0.9})
        assert not run.result_metrics("digits", "another key", {"test_accuracy": 0.1})
    trained = [run for run in runs(store) if run.info.run_name == TRAINING.name]
    assert len(trained) == 2
    newest = max(trained, key=lambda run: run.info.start_time)
    assert newest.data.metrics == {"test_accuracy": 0.9}
    assert next(run for run in trained if run is not newest).data.metrics == {}


def test_the_run_of_mlflow_run_becomes_the_parent(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0123456789abcdef")
    with track(TRAINING, about="text", warn=no_warning):
        pass
    assert runs(store)[0].data.tags["mlflow.parentRunId"] == "0123456789abcdef"


def test_eight_processes_may_be_the_first_to_use_a_store(store: Path) -> None:
    code = (
        "import sys; from resblock.tracking.stage import *\n"
        "description = StageDescription(f'train@digits-cnn-4-{sys.argv[1]}', 'digits', {}, {}, key=sys.argv[1])\n"
        "with track(description, about='text', warn=lambda message: sys.exit(message)) as run:\n"
        "    [run.epoch({'loss': 1 / step}, step) for step in range(1, 6)]\n"
    )
    started = [subprocess.Popen([sys.executable, "-c", code, str(number)]) for number in range(8)]
    assert [process.wait() for process in started] == [0] * 8
    kept = runs(store)
    assert sorted(run.data.tags["resblock.key"] for run in kept) == [str(number) for number in range(8)]
    assert {run.data.metrics["loss"] for run in kept} == {0.2}
    assert len({run.info.experiment_id for run in kept}) == 1


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "sqlite:////proc/nowhere/mlflow.db"])
def test_a_store_that_fails_is_warned_of_once_and_stops_nothing(
    store: Path, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    warnings: list[str] = []
    with track(TRAINING, about="text", warn=warnings.append) as run:
        for step in range(1, 4):
            run.epoch({"loss": 1.0}, step)
        run.artifact(store)
    assert len(warnings) == 1
    assert warnings[0].startswith("MLflow cannot be written, this stage goes on without it")


def test_nested_names_are_dotted() -> None:
    assert flatten({"a": {"b": 1, "c": {"d": 2}}, "e": 3}) == {"a.b": 1, "a.c.d": 2, "e": 3}
