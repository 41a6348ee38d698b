"""A store that fails in all the ways of stores: the same files, one warning, and `resblock sync` mends the view."""

from __future__ import annotations

import errno
import json
import os
import resource
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from resblock import paths
from resblock.core.files import digest_file
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.splits import Split, SplitName
from resblock.data.splits import write_splits
from resblock.stages import sync, train
from resblock.tracking.result import Artifact, Result
from resblock.tracking.stage import track
from resblock.tracking.sync import synchronize

KEY = RunKey("digits", ModelSpec("cnn", 4), 0)
ROOT = Path(__file__).resolve().parent.parent

# All that MLflow's REST client looks for in the answers it gets here; what a call does not ask for, it ignores.
ANSWER = {
    "experiment": {"experiment_id": "1", "name": "resblock-digits", "lifecycle_stage": "active"},
    "run": {
        "info": {"run_id": "0" * 32, "run_uuid": "0" * 32, "experiment_id": "1", "status": "RUNNING", "start_time": 1}
    },
}


class Server(ThreadingHTTPServer):
    """A tracking server that takes its time and answers every call with one status."""

    def __init__(self, status: int, delay: float) -> None:
        self.status, self.delay, self.calls = status, delay, 0
        super().__init__(("127.0.0.1", 0), Answers)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answers(BaseHTTPRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def answer(self) -> None:
        """Read the call, wait, answer."""
        self.server.calls += 1
        time.sleep(self.server.delay)
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.dumps(ANSWER).encode()
        try:
            self.send_response(self.server.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:  # the caller has lost patience
            pass

    do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815  (their names are the library's)

    def log_message(self, *_: object, **__: object) -> None:
        """Say nothing."""


@contextmanager
def serving(status: int, delay: float) -> Generator[Server]:
    server = Server(status, delay)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def prepare(folder: Path, digits: dict[SplitName, Split], patch: pytest.MonkeyPatch) -> Path:
    """Make `folder` a project whose data are prepared and whose trainings take a second; enter it."""
    patch.chdir(folder)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "RESBLOCK_PARENT_RUN"):
        patch.delenv(name, raising=False)
    text = (ROOT / "params.yaml").read_text().replace("epochs: 20                 #", "epochs: 2  #")
    (folder / "params.yaml").write_text(text)
    write_splits(paths.splits("digits"), digits, name="digits", classes=tuple("0123456789"), source="the package")
    return folder


@pytest.fixture
def project(tmp_path: Path, digits: dict[SplitName, Split], monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project."""
    return prepare(tmp_path, digits, monkeypatch)


def trained_files(folder: Path) -> dict[str, str]:
    return {path.name: digest_file(path) for path in sorted((folder / paths.run(KEY)).iterdir())}


def runs(folder: Path) -> list[Run]:
    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    return list(client.search_runs([experiment.experiment_id for experiment in client.search_experiments()]))


def mended(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return the one live run after a sync with a store that works."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    sync.run([])
    (run,) = [run for run in runs(folder) if run.data.tags["resblock.superseded"] == "false"]
    assert run.info.status == "FINISHED"
    assert run.data.metrics.keys() >= {"loss", "validation_accuracy", "images_per_second"}
    return run


def train_with_one_warning(capsys: pytest.CaptureFixture[str]) -> str:
    """Train; hold that the error stream has one line, which says what to do; return it."""
    capsys.readouterr()
    train.run(KEY)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: MLflow ")
    assert "`resblock sync`" in line
    return line


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, digits: dict[SplitName, Split], backend: int
) -> dict[str, str]:
    """The files that the training leaves when MLflow works."""
    with pytest.MonkeyPatch.context() as patch:
        folder = prepare(tmp_path_factory.mktemp("undisturbed"), digits, patch)
        train.run(KEY)
        (run,) = runs(folder)
        assert run.info.status == "FINISHED"
        return trained_files(folder)


@pytest.mark.parametrize("status", [500, 403])
def test_a_server_that_refuses_stops_no_training(
    status: int,
    undisturbed: dict[str, str],
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with serving(status, delay=0) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
        train_with_one_warning(capsys)
        assert 1 <= server.calls <= 2  # and was left alone after its first refusal
    assert trained_files(project) == undisturbed
    mended(project, monkeypatch)


def test_a_server_that_is_down_stops_no_training(
    undisturbed: dict[str, str], project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    train_with_one_warning(capsys)
    assert trained_files(project) == undisturbed
    mended(project, monkeypatch)


def test_a_server_that_takes_5_s_per_call_costs_a_bounded_time(
    undisturbed: dict[str, str], project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RESBLOCK_TRACKING_PATIENCE", "8")
    with serving(200, delay=5) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
        assert "more than RESBLOCK_TRACKING_PATIENCE allows" in train_with_one_warning(capsys)
        assert server.calls == 2
    assert trained_files(project) == undisturbed
    mended(project, monkeypatch)


def test_a_server_that_never_answers_costs_a_bounded_time(
    undisturbed: dict[str, str], project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with serving(200, delay=15) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
        begin = time.monotonic()
        train_with_one_warning(capsys)
        assert time.monotonic() - begin < 14
    assert trained_files(project) == undisturbed
    mended(project, monkeypatch)


def test_a_database_that_may_only_be_read_stops_no_training(
    undisturbed: dict[str, str], project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with track(Result("report@digits", "digits", "k"), about="text", warn=pytest.fail):
        pass
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///file:{project / 'mlflow.db'}?mode=ro&uri=true")
    train_with_one_warning(capsys)
    assert trained_files(project) == undisturbed
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    sync.run([])
    assert {run.info.run_name for run in runs(project)} == {"report@digits", paths.stage(KEY)}


def test_a_database_that_another_writer_holds_for_long_stops_no_training(
    undisturbed: dict[str, str], project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with track(Result("report@digits", "digits", "k"), about="text", warn=pytest.fail):
        pass
    with closing(sqlite3.connect(project / "mlflow.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        train_with_one_warning(capsys)
    assert trained_files(project) == undisturbed
    sync.run([])
    assert {run.info.run_name for run in runs(project)} == {"report@digits", paths.stage(KEY)}


@contextmanager
def no_room_for_files_above(size: int) -> Generator[None]:
    """Let the kernel refuse to write any file beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_too_full_for_artifacts_is_warned_of_and_mended_by_sync(project: Path) -> None:
    room = 4 * 2**20  # more than the database takes
    (project / "curve.csv").write_bytes(b"0" * (room + 1))
    result = Result("train@digits-cnn-4-0", "digits", "k", curve={1: {"loss": 0.5}})
    result = replace(result, artifacts=(Artifact("curve.csv", project / "curve.csv"),))
    warnings: list[str] = []
    with no_room_for_files_above(room), track(result, about="text", warn=warnings.append) as run:
        run.epoch({"loss": 0.5}, 1)
        run.complete(lambda: result)
    (warning,) = warnings
    assert os.strerror(errno.EFBIG) in warning
    assert "`resblock sync`" in warning
    (left,) = runs(project)
    assert (left.info.status, left.data.metrics) == ("FINISHED", {"loss": 0.5})
    assert synchronize("digits", "text", [result]).changes
    (stored,) = project.glob("mlartifacts/resblock-digits/*/artifacts/curve.csv")
    assert stored.stat().st_size == room + 1
    assert not synchronize("digits", "text", [result]).changes


def test_a_run_that_was_given_up_in_the_middle_is_completed_by_sync(project: Path) -> None:
    code = (
        "from resblock.tracking.result import Result; from resblock.tracking.stage import track\n"
        "with track(Result('train@digits-cnn-4-0', 'digits', 'k'), about='text', warn=print) as run:\n"
        "    run.epoch({'loss': 1.0}, 1); run.epoch({'?': 0.5}, 2); run.epoch({'loss': 0.5}, 2)\n"  # no name to MLflow
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.count("`resblock sync`") == 1
    (left,) = runs(project)
    assert (left.info.status, left.data.metrics) == (
        "FINISHED",
        {"loss": 1.0},
    )  # closed, though not all of it could be written
    result = Result("train@digits-cnn-4-0", "digits", "k", curve={1: {"loss": 1.0}, 2: {"loss": 0.5}})
    assert synchronize("digits", "text", [result]).changes
    (mended,) = runs(project)
    assert mended.info.run_id == left.info.run_id
    assert (mended.info.status, mended.data.metrics) == ("FINISHED", {"loss": 0.5})
