"""What MLflow shows of a study that ran: every stage a run, every training comparable."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from resblock.core.files import digest_file
from resblock.tracking.result import RATE
from tests.pipeline.conftest import EPOCHS, Workspace
from tests.pipeline.test_pipeline import EVERYTHING, TRAININGS


@pytest.fixture(scope="module")
def client(finished: Workspace) -> Iterator[MlflowClient]:
    yield MlflowClient(tracking_uri=f"sqlite:///{finished.root / 'mlflow.db'}")


STAGES = EVERYTHING | {"download@digits", "preprocess@digits"}
# Where and when a run was written, not what it tells; the parent is the command that caused a live run.
CIRCUMSTANCES = {"resblock.source", "resblock.process", "mlflow.parentRunId"}


def all_runs(client: MlflowClient) -> list[Run]:
    experiment = client.get_experiment_by_name("resblock-digits")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"]))


def parents(client: MlflowClient) -> list[Run]:
    """Return the runs of whole commands, the newest first."""
    return [run for run in all_runs(client) if run.info.run_name == "study@digits"]


@pytest.fixture(scope="module")
def runs(client: MlflowClient) -> dict[str, Run]:
    """The runs of stages, by name."""
    return {str(run.info.run_name): run for run in all_runs(client) if run.info.run_name != "study@digits"}


def test_every_stage_is_one_finished_run(runs: dict[str, Run], client: MlflowClient) -> None:
    assert set(runs) == STAGES
    assert len(all_runs(client)) == len(STAGES) + 1
    assert {run.info.status for run in all_runs(client)} == {"FINISHED"}


def test_resblock_run_is_the_parent_of_what_it_ran(runs: dict[str, Run], client: MlflowClient) -> None:
    (parent,) = parents(client)
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent.info.run_id}
    assert parent.data.params["study.variants"] == "cnn-4, plain-8, residual-8"
    assert parent.data.params["train.digits.epochs"] == str(EPOCHS)
    assert f"**{len(STAGES)} ran**" in parent.data.tags["mlflow.note.content"]


def test_results_that_could_be_reused_are_linked_from_the_parent(workspace: Workspace) -> None:
    client = MlflowClient(tracking_uri=f"sqlite:///{workspace.root / 'mlflow.db'}")
    before = {run.info.run_id for run in all_runs(client)}
    said = workspace.run("resblock", "run").stdout
    assert "nothing changed" in said
    parent, first = parents(client)
    assert {run.info.run_id for run in all_runs(client)} == before | {parent.info.run_id}
    links = json.loads(Path(client.download_artifacts(parent.info.run_id, "results.json")).read_text())
    assert links["ran"] == {}
    assert set(links["reused"]) == STAGES
    assert set(links["reused"].values()) == before - {first.info.run_id}
    assert all(run_id in parent.data.tags["mlflow.note.content"] for run_id in links["reused"].values())


def test_a_failed_stage_makes_the_parent_failed(workspace: Workspace) -> None:
    workspace.edit("params.yaml", "batch_size: 64", "batch_size: 5000")
    workspace.edit("params.yaml", "[cnn-4, plain-8, residual-8]", "[cnn-4]")
    workspace.edit("params.yaml", "[0, 1]", "[0]")
    workspace.edit("params.yaml", "recipes: [low-lr]", "recipes: []")
    assert workspace.run("resblock", "run", check=False).returncode == 1
    client = MlflowClient(tracking_uri=f"sqlite:///{workspace.root / 'mlflow.db'}")
    parent, _ = parents(client)
    assert parent.info.status == "FAILED"


def test_who_started_a_stage_is_no_part_of_its_result(finished: Workspace, client: MlflowClient) -> None:
    (parent,) = parents(client)
    for place in ("dvc.lock", "results"):
        files = [finished.root / place, *(finished.root / place).rglob("*")]
        assert not any(parent.info.run_id.encode() in path.read_bytes() for path in files if path.is_file())


def reopened(workspace: Workspace) -> MlflowClient:
    """Return a client of the store as it is on disk now: MLflow keeps a file open, even one that was deleted."""
    copy = workspace.root / f"seen-{uuid.uuid4().hex}.db"
    shutil.copy(workspace.root / "mlflow.db", copy)
    return MlflowClient(tracking_uri=f"sqlite:///{copy}")


def export(workspace: Workspace) -> dict[str, Any]:
    """Return what MLflow shows of every result: parameters, histories, tags, inputs, artifacts; no time, no place."""
    client = reopened(workspace)
    shown: dict[str, Any] = {}
    for run in all_runs(client):
        if run.info.run_name == "study@digits":  # a command, not a result
            continue
        assert run.inputs is not None
        names = [name for name in run.data.metrics if not name.startswith("system/")]  # the machine's, while it ran
        shown[str(run.info.run_name)] = {
            "status": run.info.status,
            "params": run.data.params,
            "tags": {name: value for name, value in run.data.tags.items() if name not in CIRCUMSTANCES},
            "metrics": {
                name: [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name)]
                for name in names
            },
            "inputs": [entry.to_dictionary() for entry in run.inputs.dataset_inputs],
            "artifacts": {entry.path: entry.file_size for entry in client.list_artifacts(run.info.run_id)},
        }
    return shown


def test_a_store_that_was_deleted_comes_back_equal(workspace: Workspace) -> None:
    before = export(workspace)
    assert set(before) == STAGES
    for path in workspace.root.glob("mlflow.db*"):
        path.unlink()
    shutil.rmtree(workspace.root / "mlartifacts")
    workspace.run("resblock", "sync")
    assert export(workspace) == before
    assert "nothing differs" in workspace.run("resblock", "sync", "--check").stdout
    assert {run.data.tags["resblock.source"] for run in all_runs(reopened(workspace))} == {"files"}


def test_a_clone_without_the_cache_shows_every_result(workspace: Workspace, tmp_path: Path) -> None:
    who = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    workspace.run("git", "add", "-A")
    workspace.run("git", *who, "commit", "-qm", "Results")
    clone = Workspace(tmp_path / "clone")
    workspace.run("git", "clone", "-q", str(workspace.root), str(clone.root))
    assert not list(clone.root.rglob("*.npz"))
    clone.run("resblock", "sync")
    there, here = export(clone), export(workspace)
    assert set(there) == STAGES
    for name in STAGES - {"report@digits"}:  # its page and figures are not in git
        for shown in (there[name], here[name]):
            del shown["tags"]["mlflow.source.git.commit"]  # the results' own commit in the clone
        assert there[name] == here[name], name


def test_an_edit_taken_back_brings_the_result_back_without_training_and_shows_it(workspace: Workspace) -> None:
    name, edit = "train@digits-cnn-4-0", ("learning_rate: 0.001       #", "learning_rate: 0.002       #")
    out = workspace.root / "results/digits/trainings/base/cnn-4/seed-0"
    before = {path.name: digest_file(path) for path in out.iterdir()}
    client = MlflowClient(tracking_uri=f"sqlite:///{workspace.root / 'mlflow.db'}")

    def live() -> Run:
        (run,) = [
            run
            for run in all_runs(client)
            if run.info.run_name == name and run.data.tags["resblock.superseded"] == "false"
        ]
        return run

    first = live()
    workspace.edit("params.yaml", *edit)
    workspace.run("dvc", "repro", "--single-item", name)
    assert {path.name: digest_file(path) for path in out.iterdir()} != before
    second = live()
    assert second.data.params["learning_rate"] == "0.002"
    assert "mlflow.parentRunId" not in second.data.tags  # a plain dvc repro
    workspace.edit("params.yaml", *reversed(edit))
    assert "is cached - skipping run" in workspace.run("dvc", "repro", "--single-item", name).stdout
    assert {path.name: digest_file(path) for path in out.iterdir()} == before
    assert live().info.run_id == second.info.run_id
    workspace.run("resblock", "sync")
    assert live().info.run_id == first.info.run_id


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
    curve = pd.read_csv(finished.root / "results/digits/trainings/base" / variant / f"seed-{seed}" / "curve.csv")
    for column in curve.columns.drop("epoch"):
        shown = RATE if column == "learning_rate" else column
        history = client.get_metric_history(runs[name].info.run_id, shown)
        assert [metric.step for metric in history] == list(range(1, EPOCHS + 1))
        assert [metric.value for metric in history] == list(curve[column])


def test_test_metrics_land_on_the_train_run(runs: dict[str, Run], finished: Workspace) -> None:
    scores = pd.read_csv(finished.root / "results/digits/report/scores.csv").set_index(["variant", "seed"])
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


def test_mlflow_run_of_a_finished_study_runs_nothing_and_links_what_it_reused(workspace: Workspace) -> None:
    store = f"sqlite:///{workspace.root / 'mlflow.db'}"
    command = "mlflow run . --env-manager local -e demo --experiment-name resblock-digits"
    ended = workspace.run(*command.split(), MLFLOW_TRACKING_URI=store)
    assert "digits: 0 of 20 stages to run" in ended.stdout + ended.stderr
    client = MlflowClient(tracking_uri=store)
    assert len(parents(client)) == 1  # that of the first run; here MLflow's own run is the parent
    parent = all_runs(client)[0]
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["mlflow.project.entryPoint"] == "demo"
    assert parent.data.params["study.seeds"] == "0, 1"
    assert f"**{len(STAGES)} reused**" in parent.data.tags["mlflow.note.content"]


def test_the_report_links_to_its_runs(finished: Workspace, runs: dict[str, Run]) -> None:
    report = finished.root / "results/digits/report"
    links, page = ((report / name).read_text() for name in ("mlflow.html", "index.html"))
    for name, run in runs.items():
        key = run.data.tags["resblock.key"]
        assert f'<tr id="{key}"><td><a href="http://127.0.0.1:5000/#/experiments/{run.info.experiment_id}' in links
        assert f'/runs/{run.info.run_id}">{name}</a>' in links
        assert (f'href="mlflow.html#{key}"' in page) == name.startswith(("train@", "ablate@"))


@pytest.mark.slow
def test_mlflow_run_in_another_experiment_links_to_the_parent(workspace: Workspace) -> None:
    store = f"sqlite:///{workspace.root / 'mlflow.db'}"
    workspace.run("mlflow", "run", ".", "--env-manager", "local", "-e", "demo", MLFLOW_TRACKING_URI=store)
    client = MlflowClient(tracking_uri=store)
    (outside,) = client.search_runs(["0"])  # the experiment Default
    assert outside.info.status == "FINISHED"
    assert "study.seeds" not in outside.data.params
    newest, first = parents(client)
    assert f"/runs/{newest.info.run_id})" in outside.data.tags["mlflow.note.content"]
    assert newest.info.status == "FINISHED"
    assert newest.data.params == first.data.params
    assert f"**{len(STAGES)} reused**" in newest.data.tags["mlflow.note.content"]


def test_artifacts_lie_in_the_project(runs: dict[str, Run], finished: Workspace) -> None:
    for run in runs.values():
        assert Path(str(run.info.artifact_uri).removeprefix("file://")).is_relative_to(finished.root / "mlartifacts")
