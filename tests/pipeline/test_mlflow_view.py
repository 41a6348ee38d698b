"""What MLflow shows of a study that ran: every stage a run, every training comparable."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from tests.pipeline.conftest import EPOCHS, Workspace
from tests.pipeline.test_pipeline import AFTERWARDS, TRAININGS


@pytest.fixture(scope="module")
def client(finished: Workspace) -> Iterator[MlflowClient]:
    yield MlflowClient(tracking_uri=f"sqlite:///{finished.root / 'mlflow.db'}")


@pytest.fixture(scope="module")
def runs(client: MlflowClient) -> dict[str, Run]:
    experiment = client.get_experiment_by_name("resblock-digits")
    assert experiment is not None
    return {str(run.info.run_name): run for run in client.search_runs([experiment.experiment_id])}


def test_every_stage_is_one_finished_run(runs: dict[str, Run]) -> None:
    assert set(runs) == TRAININGS | AFTERWARDS | {"download@digits", "preprocess@digits"}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}


def test_runs_say_what_made_them(runs: dict[str, Run], finished: Workspace) -> None:
    commit = finished.run("git", "rev-parse", "HEAD").stdout.strip()
    digest = runs["train@digits-cnn-4-0"].data.tags["resblock.data"]
    for name, run in runs.items():
        tags = run.data.tags
        assert tags["mlflow.source.git.commit"] == commit
        assert tags["resblock.dirty"] == "false"
        assert tags["resblock.stage"] == name.partition("@")[0]
        assert name.startswith("download") or tags["resblock.data"] == digest


def test_trainings_carry_their_parameters(runs: dict[str, Run]) -> None:
    params = runs["train@digits-residual-8-1"].data.params
    expected = {"variant": "residual-8", "family": "residual", "depth": "8", "seed": "1", "optimizer": "adam"}
    assert expected.items() <= params.items()


@pytest.mark.parametrize("name", sorted(TRAININGS))
def test_curves_in_mlflow_equal_the_files(
    name: str, runs: dict[str, Run], client: MlflowClient, finished: Workspace
) -> None:
    variant, _, seed = name.removeprefix("train@digits-").rpartition("-")
    curve = pd.read_csv(finished.root / "runs/digits" / variant / f"seed-{seed}" / "curve.csv")
    for column in curve.columns.drop("epoch"):
        history = client.get_metric_history(runs[name].info.run_id, column)
        assert [metric.step for metric in history] == list(range(1, EPOCHS + 1))
        assert [metric.value for metric in history] == list(curve[column])


def test_test_metrics_land_on_the_train_run(runs: dict[str, Run], finished: Workspace) -> None:
    scores = pd.read_csv(finished.root / "evaluation/digits/scores.csv").set_index(["variant", "seed"])
    for name in TRAININGS:
        variant, _, seed = name.removeprefix("train@digits-").rpartition("-")
        metrics = runs[name].data.metrics
        assert metrics["test_accuracy"] == scores.loc[(variant, int(seed)), "test_accuracy"]
        assert "test_accuracy_reestimated" in metrics


def test_trainings_keep_their_curve_as_table_and_picture(runs: dict[str, Run], client: MlflowClient) -> None:
    names = {artifact.path for artifact in client.list_artifacts(runs["train@digits-plain-8-0"].info.run_id)}
    assert {"curve.csv", "curve.png", "metrics.json", "run.json"} <= names


def test_the_experiment_holds_the_view_of_depth_against_accuracy(client: MlflowClient) -> None:
    experiment = client.get_experiment_by_name("resblock-digits")
    assert experiment is not None
    view = json.loads(experiment.tags["mlflow.sharedViewState.resblock"])
    assert view["name"] == "Depth against accuracy"
    assert "Depth against accuracy" in experiment.tags["mlflow.note.content"]


def test_mlflow_run_makes_stages_children_of_its_own_run(workspace: Workspace) -> None:
    workspace.edit("params.yaml", "epochs: 2", "epochs: 1")
    store = f"sqlite:///{workspace.root / 'mlflow.db'}"
    command = "mlflow run . --env-manager local -e train -P variant=cnn-4 -P seed=1 --experiment-name resblock-digits"
    ended = workspace.run(*command.split(), MLFLOW_TRACKING_URI=store)
    assert "train@digits-cnn-4-1" in ended.stdout + ended.stderr
    client = MlflowClient(tracking_uri=store)
    experiment = client.get_experiment_by_name("resblock-digits")
    assert experiment is not None
    parent, *_ = client.search_runs([experiment.experiment_id], "tags.`mlflow.project.entryPoint` = 'train'")
    children = client.search_runs([experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert [child.info.run_name for child in children] == ["train@digits-cnn-4-1"]
    assert parent.info.status == children[0].info.status == "FINISHED"
    assert "loss" not in parent.data.metrics


def test_mlflow_run_of_a_finished_study_runs_nothing(workspace: Workspace) -> None:
    ended = workspace.run("mlflow", "run", ".", "--env-manager", "local")
    assert "0 of 6 trainings to run" in ended.stdout + ended.stderr


def test_artifacts_lie_in_the_project(runs: dict[str, Run], finished: Workspace) -> None:
    for run in runs.values():
        assert Path(str(run.info.artifact_uri).removeprefix("file://")).is_relative_to(finished.root / "mlartifacts")
