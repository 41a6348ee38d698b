"""A training that is killed goes on as if it had not been."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from resblock.files import digest_file
from tests.pipeline.conftest import Workspace

KEY = ("digits", "residual-8", "0")
OUT = Path("runs/digits/residual-8/seed-0")


def start(workspace: Workspace) -> subprocess.Popen[str]:
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{workspace.root / 'mlflow.db'}"}
    command = [str(Path(sys.executable).parent / "resblock"), "train", *KEY]
    return subprocess.Popen(command, cwd=workspace.root, env=environment, stdout=subprocess.PIPE, text=True)


def digests(workspace: Workspace) -> dict[str, str]:
    return {path.name: digest_file(path) for path in sorted((workspace.root / OUT).iterdir())}


@pytest.fixture
def longer(workspace: Workspace) -> Workspace:
    """Twelve epochs, with every kind of random state: flips, crops, a moving learning rate, momentum."""
    for before, after in (
        ("epochs: 2", "epochs: 12"),
        ("optimizer: adam            #", "optimizer: sgd  #"),
        ("schedule: cosine", "schedule: onecycle"),
        ("horizontal_flip: false", "horizontal_flip: true"),
        ("crop_padding: 0            # pixels", "crop_padding: 1  # pixels"),
    ):
        workspace.edit("params.yaml", before, after)
    return workspace


def test_killed_run_resumes_bit_for_bit(longer: Workspace) -> None:
    whole = start(longer)
    whole.communicate()
    assert whole.returncode == 0
    expected = digests(longer)
    client = MlflowClient(tracking_uri=f"sqlite:///{longer.root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("resblock-digits")
    assert experiment is not None
    query = "attributes.run_name = 'train@digits-residual-8-0'"
    before = len(client.search_runs([experiment.experiment_id], query))
    for path in (longer.root / OUT).iterdir():
        path.unlink()

    for epochs_seen, delay in ((1, 0.0), (2, 0.15), (1, 0.4)):  # after an epoch, and some way into the next
        process = start(longer)
        assert process.stdout is not None
        seen = 0
        while seen < epochs_seen:
            seen += process.stdout.readline().startswith("epoch")
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    last = start(longer)
    said, _ = last.communicate()
    assert last.returncode == 0
    assert "goes on after epoch" in said
    assert digests(longer) == expected
    assert not list((longer.root / ".checkpoints").iterdir())

    runs = client.search_runs([experiment.experiment_id], query, order_by=["attributes.start_time DESC"])
    assert len(runs) == before + 1  # the three kills and the end are one run
    history = client.get_metric_history(runs[0].info.run_id, "loss")
    assert [metric.step for metric in history] == list(range(1, 13))
    assert runs[0].info.status == "FINISHED"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_training_ends_cleanly_and_can_go_on(longer: Workspace, number: signal.Signals, code: int) -> None:
    process = start(longer)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(number)
    process.communicate()
    assert process.returncode == code
    client = MlflowClient(tracking_uri=f"sqlite:///{longer.root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("resblock-digits")
    assert experiment is not None
    (newest,) = client.search_runs([experiment.experiment_id], max_results=1, order_by=["attributes.start_time DESC"])
    assert newest.info.status == "KILLED"
    assert len(list((longer.root / ".checkpoints").glob("*.npz"))) == 1
