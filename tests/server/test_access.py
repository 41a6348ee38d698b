"""Who may use a team's server: MLflow's own accounts, and the names it answers to."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests
from click.testing import CliRunner
from mlflow import MlflowClient

from resblock.cli import main
from resblock.tracking.result import Result
from resblock.tracking.stage import track
from tests.server.services import HOST, MEMBERS, Account, MlflowServer

pytestmark = [pytest.mark.server, pytest.mark.slow]  # make server-test runs them

EXPERIMENTS = "api/2.0/mlflow/experiments/search?max_results=10"
ADA, KURT = MEMBERS


def ask(server: MlflowServer, account: Account | None, **headers: str) -> int:
    """Return the HTTP status of a list of the experiments."""
    credentials = (account.name, account.password) if account else None
    return requests.get(f"{server.address}/{EXPERIMENTS}", auth=credentials, headers=headers, timeout=30).status_code


@pytest.fixture
def member(team_server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A member's environment, as far as it names the server."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", team_server.address)
    return monkeypatch


def log_in(environment: pytest.MonkeyPatch, account: Account) -> None:
    for name, value in account.variables.items():
        environment.setenv(name, value)


def log(dataset: str, warnings: list[str]) -> None:
    with track(Result(f"report@{dataset}", dataset, key=None), about="text", warn=warnings.append) as run:
        run.epoch({"loss": 0.5}, 1)


def test_nobody_gets_in_without_a_password(team_server: MlflowServer) -> None:
    assert ask(team_server, None) == 401
    assert ask(team_server, Account(ADA.name, "a wrong password")) == 401
    assert ask(team_server, ADA) == 200


def test_the_server_answers_to_its_own_name_only(team_server: MlflowServer) -> None:
    assert ask(team_server, ADA, Host=f"{HOST}:{team_server.port}") == 200
    assert ask(team_server, ADA, Host="rebound.example.net") == 403


def test_a_page_of_another_site_cannot_write(team_server: MlflowServer) -> None:
    def create(origin: str) -> int:
        return requests.post(
            f"{team_server.address}/api/2.0/mlflow/experiments/create",
            auth=(ADA.name, ADA.password),
            headers={"Origin": origin},
            json={"name": f"by {origin}"},
            timeout=30,
        ).status_code

    assert create("http://another.example.net") == 403
    assert create(f"http://{HOST}:{team_server.port}") == 200


def test_members_log_into_one_experiment(team_server: MlflowServer, member: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    for account in (ADA, KURT):
        log_in(member, account)
        log("members", warnings)
    assert warnings == []
    client = MlflowClient(tracking_uri=team_server.address)
    experiment = client.get_experiment_by_name("resblock-members")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert [(run.info.status, run.data.metrics) for run in runs] == [("FINISHED", {"loss": 0.5})] * 2


def test_a_wrong_password_is_warned_of_and_stops_nothing(member: pytest.MonkeyPatch) -> None:
    log_in(member, Account(ADA.name, "a wrong password"))
    warnings: list[str] = []
    log("refused", warnings)
    assert len(warnings) == 1


def test_resblock_ui_beyond_loopback_says_what_that_means_and_asks_for_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    refused = CliRunner().invoke(main, ["ui", "--host", "0.0.0.0"])
    assert refused.exit_code == 1
    assert "without a password" in refused.stderr
    assert "--allowed-hosts" in refused.stderr
    warned = CliRunner().invoke(main, ["ui", "--host", "0.0.0.0", "--allowed-hosts", "lab.example.org"])
    assert "without a password" in warned.stderr
    assert "nothing has been logged yet" in warned.stderr  # it went on, and had nothing to show
