"""A study on a team's server: logged, read in a browser, and whole although the server went away meanwhile."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from PIL import Image
from playwright.sync_api import expect

from tests.browser import needs_browser, open_browser, open_page
from tests.pipeline.conftest import EPOCHS, Workspace, copy_project
from tests.pipeline.test_pipeline import EVALUATIONS, REPORT, TRAININGS
from tests.server.services import HOST, MEMBERS, S3, Account, MlflowServer, Postgres, environment

pytestmark = [pytest.mark.server, pytest.mark.slow]

ADA, KURT = MEMBERS
STAGES = TRAININGS | EVALUATIONS | REPORT | {"download@digits", "preprocess@digits", "probe@digits"}


@pytest.fixture(scope="module")
def study(team_server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The small study, run by a member of the team with the server's address and their own account."""
    workspace = copy_project(tmp_path_factory.mktemp("study"))
    type_command(workspace, team_server, ADA, "resblock", "run", "--jobs", "2")
    return workspace


@pytest.fixture
def client(team_server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    for name, value in ADA.variables.items():
        monkeypatch.setenv(name, value)
    return MlflowClient(tracking_uri=team_server.address)


def type_command(workspace: Workspace, server: MlflowServer, account: Account | None, *command: str) -> str:
    """Run a command as a member of the team would; return what it printed."""
    variables = account.variables if account else {}
    return workspace.run(*command, check=True, MLFLOW_TRACKING_URI=server.address, **variables).stdout


def stage_runs(client: MlflowClient) -> list[Run]:
    """Return every run of a stage; what `resblock run` opens as their parent is none."""
    experiment = client.get_experiment_by_name("resblock-digits")
    assert experiment is not None
    return [run for run in client.search_runs([experiment.experiment_id]) if run.info.run_name in STAGES]


def curve_of(workspace: Workspace, variant: str, seed: int) -> pd.DataFrame:
    return pd.read_csv(workspace.root / f"results/digits/trainings/base/{variant}/seed-{seed}/curve.csv")


def assert_whole(client: MlflowClient, run: Run, curve: pd.DataFrame) -> None:
    """Each number of the curve stands in MLflow once."""
    for column in curve.columns.drop("epoch"):
        history = client.get_metric_history(run.info.run_id, column)
        found = sorted((metric.step, metric.value) for metric in history)
        assert found == list(zip(curve["epoch"], curve[column], strict=True)), column


def test_the_champion_is_on_the_server_and_answers_from_there(study: Workspace, team_server: MlflowServer) -> None:
    digit = np.load(study.root / "data/splits/digits/test_images.npy")[0, ..., 0]
    Image.fromarray(digit).save(study.root / "digit.png")
    ask = ("resblock", "predict", "digit.png", "--json")
    ways = ((), ("--model-uri", "models:/resblock-digits@champion"))
    files, server = (json.loads(type_command(study, team_server, ADA, *ask, *way))["predictions"][0] for way in ways)
    assert server["class"] == files["class"]
    assert server["probability"] == pytest.approx(files["probability"], rel=1e-6)


def test_the_study_is_on_the_server(study: Workspace, client: MlflowClient, bucket: S3) -> None:
    runs = {str(run.info.run_name): run for run in stage_runs(client)}
    assert len(stage_runs(client)) == len(runs)
    assert set(runs) == STAGES
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    run = runs["train@digits-residual-8-1"]
    curve = curve_of(study, "residual-8", 1)
    assert len(curve) == EPOCHS
    assert_whole(client, run, curve)
    assert "test_accuracy" in run.data.metrics
    names = {key.rpartition("/")[2] for key in bucket.stored() if f"/{run.info.run_id}/" in key}
    assert {"curve.csv", "curve.png", "metrics.json", "run.json"} <= names
    assert not (study.root / "mlflow.db").exists()


def test_sync_finds_nothing_to_mend_whoever_calls_it(study: Workspace, team_server: MlflowServer) -> None:
    for account in MEMBERS:
        assert "nothing differs" in type_command(study, team_server, account, "resblock", "sync", "--check")


def test_two_members_who_sync_at_once_leave_one_live_run_for_each_result(
    study: Workspace, database_server: Postgres, bucket: S3, tmp_path: Path
) -> None:
    server = MlflowServer(tmp_path, database_server.database("twice"), bucket)
    with server.running():
        variables = environment(MLFLOW_TRACKING_URI=server.address)
        both = [subprocess.Popen(["resblock", "sync"], cwd=study.root, env=variables) for _ in MEMBERS]
        assert [process.wait() for process in both] == [0, 0]
        said = type_command(study, server, None, "resblock", "sync")  # supersedes what both made
        assert all(line.startswith("digits:") for line in said.splitlines()), said  # nothing of MLflow's own
        live = [
            str(run.info.run_name)
            for run in stage_runs(MlflowClient(tracking_uri=server.address))
            if run.data.tags["resblock.superseded"] == "false"
        ]
        assert sorted(live) == sorted(STAGES)


@needs_browser
@pytest.mark.usefixtures("study")
def test_the_team_reads_the_study_in_a_browser(
    study: Workspace, team_server: MlflowServer, client: MlflowClient
) -> None:
    printed = type_command(study, team_server, KURT, "resblock", "ui", "--dataset", "digits")
    address = re.search(r"http://\S+", printed)
    assert address, printed
    named = address.group().replace(team_server.address, f"http://{HOST}:{team_server.port}")
    with (
        open_browser(host=HOST, account=(KURT.name, KURT.password)) as browser,
        open_page(browser, named) as page,
    ):
        expect(page.get_by_text("6 matching runs")).to_be_visible(timeout=60_000)
        points = page.locator(".js-plotly-plot").first.locator(".scatterlayer .point")
        expect(points).to_have_count(6, timeout=30_000)
        page.get_by_role("link", name="train@digits-residual-8-1").first.click()
        page.get_by_role("tab", name="Artifacts").click()
        page.get_by_text("curve.png").first.click()
        picture = page.get_by_role("img", name="curve.png")
        expect(picture).to_be_visible(timeout=30_000)
        assert picture.evaluate("image => image.naturalWidth") > 300


def test_a_server_restarted_within_a_training_loses_nothing(
    study: Workspace, database_server: Postgres, bucket: S3, tmp_path: Path
) -> None:
    """What was logged while it was away is there after `resblock sync`; the training itself never notices."""
    epochs = 60
    study.edit("params.yaml", f"epochs: {EPOCHS}  #", f"epochs: {epochs}  #")
    server = MlflowServer(tmp_path, database_server.database("restarted"), bucket)
    with server.running():
        training = subprocess.Popen(
            ["resblock", "train", "digits", "cnn-4", "0"],
            cwd=study.root,
            env=environment(MLFLOW_TRACKING_URI=server.address),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        wait_for_epoch(training, 2)
        training.send_signal(signal.SIGSTOP)  # however slowly the server comes and goes, it does so mid-training
    training.send_signal(signal.SIGCONT)
    wait_for_epoch(training, 8)
    training.send_signal(signal.SIGSTOP)
    with server.running():
        training.send_signal(signal.SIGCONT)
        told, warned = training.communicate(timeout=300)
        assert training.returncode == 0, warned
        assert f"epoch {epochs}/{epochs}" in told
        assert len(re.findall("resblock sync", warned)) <= 1
        type_command(study, server, None, "resblock", "sync")
        client = MlflowClient(tracking_uri=server.address)
        (run,) = (run for run in stage_runs(client) if run.info.run_name == "train@digits-cnn-4-0")
        assert run.info.status == "FINISHED"
        curve = curve_of(study, "cnn-4", 0)
        assert len(curve) == epochs
        assert_whole(client, run, curve)
        names = {key.rpartition("/")[2] for key in bucket.stored() if f"/{run.info.run_id}/" in key}
        assert {"curve.csv", "curve.png", "metrics.json", "run.json"} <= names
        assert "nothing differs" in type_command(study, server, None, "resblock", "sync", "--check")


def wait_for_epoch(training: subprocess.Popen[str], epoch: int) -> None:
    assert training.stdout is not None
    for line in training.stdout:
        if re.match(rf"epoch +{epoch}/", line):
            return
    assert training.stderr is not None
    pytest.fail(f"the training ended before epoch {epoch}:\n{training.stderr.read()}")
