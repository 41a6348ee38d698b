"""Runs in MLflow: truthful ends, one run after a kill, many writers at once, and a store that fails."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from resblock import signals
from resblock.tracking import patience, process
from resblock.tracking import store as tracking_store
from resblock.tracking.patience import PatientClient, TooSlowError
from resblock.tracking.relocation import old_places
from resblock.tracking.result import Artifact, DataInput, Result, flatten
from resblock.tracking.stage import track
from resblock.tracking.store import ensure_experiment, find_experiment, open_store
from resblock.tracking.sync import synchronize
from tests.conftest import run_at_once

TRAINING = Result("train@digits-cnn-4-0", "digits", "abc", {"depth": 4})
CURVE = {1: {"loss": 0.5}, 2: {"loss": 0.4}, 3: {"loss": 0.3}}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project folder, and nothing said about tracking."""
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "RESBLOCK_PARENT_RUN"):
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
        run.epoch({"loss": 0.5}, 1)
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


def test_a_fault_that_an_interruption_made_is_an_interruption(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow makes one of its own, cut short while it builds a graph."""
    monkeypatch.setattr(signals, "ARRIVED", [(signal.SIGTERM, 0.0)])
    monkeypatch.setattr("resblock.tracking.stage.ARRIVED", signals.ARRIVED)
    with pytest.raises(SystemError), track(TRAINING, about="text", warn=no_warning):
        raise SystemError
    assert [run.info.status for run in runs(store)] == ["KILLED"]


def test_a_machine_without_a_network_card_is_one_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Python draws a number for each process there: each took itself for another machine."""
    monkeypatch.setattr(process, "MACHINE", tmp_path / "machine-id")
    drawn = iter([0x2D25DBB019A5, 0xEFDF000ADD29, 0x0242AC110002, 0x0242AC110003])
    monkeypatch.setattr("uuid.getnode", lambda: next(drawn))
    names = [process.this_process().partition("/")[0] for _ in range(4)]
    assert names[0] == names[1] != names[2] != names[3]
    (tmp_path / "machine-id").write_text("abc\n")
    assert process.on_this_machine(process.this_process())
    (tmp_path / "machine-id").write_text("\n")  # as images of containers have it: the card tells
    monkeypatch.setattr("uuid.getnode", lambda: 0x0242AC110002)
    assert process.this_process().partition("/")[0] == names[2]


def test_a_copy_that_may_not_be_written_is_a_message(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure_experiment(open_store(), "digits", "text")
    shutil.copytree(store, store / "copy")
    monkeypatch.chdir(store / "copy")
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and Path(path).exists())
    assert find_experiment(open_store(), "digits")
    monkeypatch.undo()
    monkeypatch.chdir(store / "copy")

    def locked(*_: object) -> None:
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(tracking_store, "relocate", locked)
    with pytest.raises(MlflowException, match="locked"):
        open_store()


def test_a_run_that_waits_is_opened_when_it_is_told_to_or_written_into(store: Path) -> None:
    with track(TRAINING, about="text", warn=no_warning, later=True) as run:
        assert not (store / "mlflow.db").exists()
        run.open()
        run.open()
        run.epoch({"loss": 0.5}, 1)
    with track(replace(TRAINING, key="def"), about="text", warn=no_warning, later=True) as run:
        run.epoch({"loss": 0.4}, 1)
    with track(replace(TRAINING, key="ghi"), about="text", warn=no_warning, later=True):
        pass
    ended = {run.data.tags["resblock.key"]: (run.info.status, run.data.metrics) for run in runs(store)}
    assert ended == {
        "abc": ("FINISHED", {"loss": 0.5}),
        "def": ("FINISHED", {"loss": 0.4}),
        "ghi": ("FINISHED", {}),
    }


def test_a_run_that_was_ended_before_it_began_to_open_leaves_nothing_but_one_that_failed_is_seen(store: Path) -> None:
    with pytest.raises(KeyboardInterrupt), track(TRAINING, about="text", warn=no_warning, later=True):
        raise KeyboardInterrupt
    assert not (store / "mlflow.db").exists()
    with pytest.raises(RuntimeError), track(TRAINING, about="text", warn=no_warning, later=True):
        raise RuntimeError
    assert [run.info.status for run in runs(store)] == ["FAILED"]


def test_a_signal_while_a_run_is_opened_finds_it_open(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A join that a signal cut short once passed for an opened run, which then nobody closed."""

    def slowly() -> MlflowClient:
        time.sleep(0.2)  # until it is waited for
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)
        return open_store()

    monkeypatch.setattr(tracking_store, "open_store", slowly)
    with pytest.raises(KeyboardInterrupt), track(TRAINING, about="text", warn=no_warning, later=True) as run:
        run.epoch({"loss": 0.5}, 1)
    assert [run.info.status for run in runs(store)] == ["KILLED"]


def test_a_thread_that_cannot_be_started_stops_no_stage(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_more)
    told: list[str] = []
    with track(TRAINING, about="text", warn=told.append, later=True) as run:
        run.open()
        run.epoch({"loss": 0.5}, 1)
    (warning,) = told
    assert "can't start new thread" in warning
    assert not (store / "mlflow.db").exists()


def test_a_second_signal_cuts_through_where_the_first_came_before_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """An orderly end may have to wait: for MLflow's store to open, for instance."""
    monkeypatch.setattr(signals, "ARRIVED", [(signal.SIGINT, time.monotonic() - 2 * signals.SAME_WISH)])
    after = False
    with pytest.raises(KeyboardInterrupt), signals.uninterrupted():
        signal.raise_signal(signal.SIGINT)
        after = True
    assert not after
    monkeypatch.setattr(signals, "ARRIVED", [(signal.SIGINT, time.monotonic())])
    with pytest.raises(KeyboardInterrupt), signals.uninterrupted():
        signal.raise_signal(signal.SIGINT)
        after = True
    assert after


def test_a_stage_that_fails_is_not_said_to_go_on_without_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> MlflowClient:
        raise OSError("no answer")

    monkeypatch.setattr(tracking_store, "open_store", away)
    told: list[str] = []
    with pytest.raises(ZeroDivisionError), track(TRAINING, about="text", warn=told.append, later=True):
        raise ZeroDivisionError
    assert told == ["MLflow cannot be written, and does not show that this ended: no answer"]


class Interrupted:
    """A store whose every call is interrupted twice in its middle."""

    def __init__(self) -> None:
        self.done = 0

    def write(self) -> None:
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)
        self.done += 1


def test_a_signal_waits_until_mlflow_has_written(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        PatientClient(interrupted).write()
    assert interrupted.done == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    monkeypatch.setattr(signals, "SAME_WISH", -1.0)  # as if the second came later
    with pytest.raises(KeyboardInterrupt):
        PatientClient(interrupted).write()
    assert interrupted.done == 1


def killed(code: str) -> None:
    """Run `code` within a training's run, in a process that then ends by SIGKILL."""
    program = (
        "import os, signal; from resblock.tracking.result import Result; from resblock.tracking.stage import track\n"
        "result = Result('train@digits-cnn-4-0', 'digits', 'abc', {'depth': 4})\n"
        "with track(result, about='text', warn=print) as run:\n"
        f"    {code}; os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9


def test_a_killed_training_goes_on_in_its_run_without_doubled_steps(store: Path) -> None:
    killed("run.epoch({'loss': 0.5}, 1); run.epoch({'loss': 0.4}, 2)")
    assert [run.info.status for run in runs(store)] == ["RUNNING"]
    with track(TRAINING, about="text", warn=no_warning) as run:
        for step, values in CURVE.items():
            run.epoch(values, step)
        run.complete(lambda: replace(TRAINING, curve=CURVE))
    (kept,) = runs(store)
    history = MlflowClient(tracking_uri=f"sqlite:///{store / 'mlflow.db'}").get_metric_history(kept.info.run_id, "loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.5), (2, 0.4), (3, 0.3)]
    assert kept.info.status == "FINISHED"


def test_a_training_that_goes_on_elsewhere_with_other_digits_gets_a_run_of_its_own(store: Path) -> None:
    killed("run.epoch({'loss': 0.51}, 1)")
    with track(TRAINING, about="text", warn=no_warning) as run:
        for step, values in CURVE.items():
            run.epoch(values, step)
        run.complete(lambda: replace(TRAINING, curve=CURVE))
    (live,) = [run for run in runs(store) if run.data.tags["resblock.superseded"] == "false"]
    (older,) = [run for run in runs(store) if run is not live and run.info.run_id != live.info.run_id]
    history = MlflowClient(tracking_uri=f"sqlite:///{store / 'mlflow.db'}").get_metric_history(live.info.run_id, "loss")
    assert {metric.step: metric.value for metric in history} == {1: 0.5, 2: 0.4, 3: 0.3}
    assert (live.info.status, older.info.status) == ("FINISHED", "KILLED")


def test_what_no_epoch_logged_is_there_at_the_end(store: Path) -> None:
    (store / "curve.csv").write_text("epoch,loss\n")
    with track(TRAINING, about="text", warn=no_warning) as run:
        run.epoch({"loss": 0.5}, 1)
        run.complete(
            lambda: replace(TRAINING, curve=CURVE, metrics={"seconds": 3.0}, tags={"resblock.status": "finished"})
        )
    (kept,) = runs(store)
    assert kept.data.metrics == {"loss": 0.3, "seconds": 3.0}
    assert kept.data.tags["resblock.status"] == "finished"


def test_a_repeated_training_is_a_run_of_its_own_and_the_live_one(store: Path) -> None:
    for _ in range(2):
        with track(TRAINING, about="text", warn=no_warning) as run:
            run.complete(lambda: TRAINING)
    newest, older = sorted(runs(store), key=lambda run: -run.info.start_time)
    assert newest.data.tags["resblock.superseded"] == "false"
    assert older.data.tags["resblock.superseded"] == "true"


def test_the_scores_of_a_result_land_on_its_live_run(store: Path) -> None:
    for _ in range(2):
        with track(TRAINING, about="text", warn=no_warning) as run:
            run.complete(lambda: TRAINING)
    with track(Result("evaluate@digits", "digits", "def"), about="text", warn=no_warning) as run:
        run.show(lambda: replace(TRAINING, metrics={"test_accuracy": 0.9}))
        run.show(lambda: replace(TRAINING, key="another", metrics={"test_accuracy": 0.1}))
    shown = [run for run in runs(store) if run.data.metrics]
    assert [run.data.metrics for run in shown] == [{"test_accuracy": 0.9}]
    assert shown[0].data.tags["resblock.superseded"] == "false"


def test_the_run_of_mlflow_run_becomes_the_parent(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0123456789abcdef")
    with track(TRAINING, about="text", warn=no_warning):
        pass
    assert runs(store)[0].data.tags["mlflow.parentRunId"] == "0123456789abcdef"


def test_the_parent_that_resblock_run_names_goes_before_the_one_of_mlflow_run(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0123456789abcdef")
    monkeypatch.setenv("RESBLOCK_PARENT_RUN", "fedcba9876543210")
    with track(TRAINING, about="text", warn=no_warning):
        pass
    assert runs(store)[0].data.tags["mlflow.parentRunId"] == "fedcba9876543210"


def test_a_run_is_closed_though_something_of_it_could_not_be_written(store: Path) -> None:
    """A run of a living store that stays RUNNING seems never to end."""
    warned: list[str] = []
    with track(TRAINING, about="text", warn=warned.append) as run:
        with run.guard():
            raise OSError("no room for a model")
        run.epoch({"loss": 0.5}, 1)
    (kept,) = runs(store)
    assert kept.info.status == "FINISHED"
    assert not kept.data.metrics
    assert len(warned) == 1


def test_a_plain_stage_has_no_parent(store: Path) -> None:
    with track(TRAINING, about="text", warn=no_warning):
        pass
    assert "mlflow.parentRunId" not in runs(store)[0].data.tags


def write(number: int) -> None:
    """Log a training of 30 epochs."""
    splits = tuple(DataInput(f"digits-{s}", s, s, "a place", {"images": 1}) for s in ("training", "validation"))
    result = Result(f"train@digits-cnn-4-{number}", "digits", str(number), {"seed": number}, inputs=splits)
    curve = {step: {"loss": 1 / step, "accuracy": 1 - 1 / step} for step in range(1, 31)}
    with track(result, about="text", warn=sys.exit) as run:
        for step, values in curve.items():
            run.epoch(values, step)
        run.complete(lambda: replace(result, curve=curve))


def test_eight_processes_may_be_the_first_to_use_a_store(store: Path) -> None:
    run_at_once(write, range(8))
    kept = runs(store)
    assert sorted(run.data.tags["resblock.key"] for run in kept) == [str(number) for number in range(8)]
    assert len({run.info.experiment_id for run in kept}) == 1
    client = MlflowClient(tracking_uri=f"sqlite:///{store / 'mlflow.db'}")
    for run in kept:
        assert run.info.status == "FINISHED"
        assert run.data.params == {"seed": run.data.tags["resblock.key"]}
        assert run.inputs is not None
        assert len(run.inputs.dataset_inputs) == 2
        for name in ("loss", "accuracy"):
            history = client.get_metric_history(run.info.run_id, name)
            assert [metric.step for metric in history] == list(range(1, 31))


def test_who_is_killed_while_making_a_store_leaves_none_or_a_whole_one(store: Path) -> None:
    new = store / "mlflow.db.new"
    command = [sys.executable, "-c", "from resblock.tracking.store import open_store; open_store()"]
    with subprocess.Popen(command, cwd=store) as maker:
        while not (new.exists() and new.stat().st_size):
            assert maker.poll() is None
            time.sleep(0.01)
        maker.kill()
    assert new.exists()
    assert not (store / "mlflow.db").exists()
    assert not open_store().search_runs(["0"])
    assert not new.exists()


def test_a_view_that_a_person_saved_over_ours_stays(store: Path) -> None:
    client = open_store()
    experiment = ensure_experiment(client, "digits", "text")
    tag = "mlflow.sharedViewState.resblock"
    ours = ensure_experiment(client, "digits", "text").tags[tag]
    client.set_experiment_tag(experiment.experiment_id, tag, "a person's")
    with track(TRAINING, about="text", warn=no_warning):
        pass
    assert client.get_experiment(experiment.experiment_id).tags[tag] == "a person's"
    client.set_experiment_tag(experiment.experiment_id, "resblock.view", "what an older version wrote")
    ensure_experiment(client, "digits", "text")
    assert client.get_experiment(experiment.experiment_id).tags[tag] == ours


def test_a_deleted_experiment_comes_back_when_something_is_logged(store: Path) -> None:
    client = open_store()
    client.delete_experiment(ensure_experiment(client, "digits", "text").experiment_id)
    with track(TRAINING, about="text", warn=no_warning):
        pass
    assert [run.info.status for run in runs(store)] == ["FINISHED"]


def test_the_machine_is_watched_while_a_training_runs(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    with track(TRAINING, about="text", warn=no_warning, watch_machine=True) as run:
        time.sleep(1)
        run.complete(lambda: TRAINING)
    (kept,) = runs(store)
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= set(kept.data.metrics)
    assert not [thread for thread in threading.enumerate() if thread.name == "SystemMetricsMonitor"]


class Clock:
    """Time that passes when somebody says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


class Distant:
    """A store whose every call takes a while."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.clock, self.seconds, self.calls = clock, seconds, 0

    def write(self) -> None:
        self.clock.now += self.seconds
        self.calls += 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time by which patience is counted, as much of it as there is by itself."""
    monkeypatch.delenv("RESBLOCK_TRACKING_PATIENCE", raising=False)
    clock = Clock()
    monkeypatch.setattr(patience, "time", clock)
    return clock


def test_a_healthy_store_at_a_distance_is_waited_for_all_along(clock: Clock) -> None:
    """350 ms a call and 5 s an epoch were given up after 170 of 200 epochs."""
    store = Distant(clock, 0.35)
    client = PatientClient(store)
    for _ in range(2_000):
        clock.now += 5
        client.write()
    assert store.calls == 2_000


def test_a_store_that_takes_much_of_a_training_is_given_up(clock: Clock) -> None:
    client = PatientClient(Distant(clock, 9.0))
    clock.now += 10_000  # rest is no credit beyond the whole patience
    with pytest.raises(TooSlowError, match="RESBLOCK_TRACKING_PATIENCE"):
        for _ in range(9):
            client.write()
            clock.now += 5


def test_a_process_that_slept_within_a_call_does_not_blame_the_store(clock: Clock) -> None:
    """Ctrl-Z, or a laptop's lid, in the middle of a call."""
    store = Distant(clock, 0.01)
    client = PatientClient(store)
    store.seconds = 3_600
    client.write()
    store.seconds = 0.01
    client.write()
    assert store.calls == 2


def test_an_error_is_told_whole_or_up_to_a_word() -> None:
    advice = (
        "Detected out-of-date database schema (found version 0a1b, but expected 2c3d). Take a backup of your database, "
        "then run 'mlflow db upgrade <database_uri>' to migrate your database to the latest schema. NOTE: schema "
        "migration may result in database downtime - please consult your database's documentation for more detail."
    )
    assert patience.in_brief(Exception(advice)) == advice.removesuffix(".")
    words = patience.in_brief(Exception("word " * 200))
    assert words.endswith("word …")
    assert len(words) <= patience.LONGEST


def test_experiments_of_dvc_log_into_the_projects_store_and_stay_comparable(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`dvc exp run --temp` and `--queue` work in a copy that is deleted afterwards."""
    live = [replace(TRAINING, key="before")]
    with track(live[0], about="text", warn=no_warning) as run:
        run.complete(lambda: live[0])
    monkeypatch.setenv("DVC_ROOT", str(store))
    for rate in ("low", "high", "high"):
        copy = store / ".dvc/tmp/exps" / f"tmp-{rate}"
        copy.mkdir(parents=True, exist_ok=True)
        monkeypatch.chdir(copy)
        monkeypatch.setenv("DVC_EXP_NAME", rate)
        Path("curve.csv").write_text("epoch,loss\n")
        result = replace(TRAINING, key=rate, artifacts=(Artifact("curve.csv", Path("curve.csv")),))
        with track(result, about="text", warn=no_warning) as run:
            run.complete(lambda result=result: result)
    shutil.rmtree(store / ".dvc")
    monkeypatch.chdir(store)
    for name in ("DVC_EXP_NAME", "DVC_ROOT"):
        monkeypatch.delenv(name)
    kept = [run for run in runs(store) if run.data.tags["resblock.superseded"] == "false"]
    assert sorted(str(run.data.tags.get("resblock.experiment")) for run in kept) == ["None", "high", "low"]
    assert "train@digits-cnn-4-0 (low)" in {run.info.run_name for run in kept}
    client = MlflowClient(tracking_uri=f"sqlite:///{store / 'mlflow.db'}")
    assert all(client.list_artifacts(run.info.run_id) for run in kept if "resblock.experiment" in run.data.tags)
    synchronize("digits", "text", live)
    assert {run.info.run_id for run in runs(store) if run.data.tags["resblock.superseded"] == "false"} == {
        run.info.run_id for run in kept
    }


def leave_an_artifact(number: int) -> None:
    """Log a run and a model, each with a file, in the project that is the current folder."""
    Path("models").mkdir(exist_ok=True)
    Path("models/MLmodel").write_text(str(number))
    Path("curve.csv").write_text(f"epoch,loss\n{number}\n")
    result = replace(TRAINING, key=str(number), artifacts=(Artifact("curve.csv", Path("curve.csv")),))
    with track(result, about="text", warn=no_warning) as run:
        run.complete(lambda: result)
        model = run.client.create_logged_model(run.client.get_run(run.run_id).info.experiment_id, name="network")
        run.client.log_model_artifacts(model.model_id, "models")


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_project_can_be_copied_and_moved(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its artifacts go with it, and its old folder is neither written into nor made anew."""
    first, copy, moved = store / "first", store / "a copy", store / "moved"
    first.mkdir()
    monkeypatch.chdir(first)
    leave_an_artifact(1)
    before = files_below(first / "mlartifacts")
    shutil.copytree(first, copy)
    monkeypatch.chdir(copy)
    leave_an_artifact(2)
    assert files_below(first / "mlartifacts") == before
    assert len(list(copy.glob("mlartifacts/resblock-digits/*/artifacts/curve.csv"))) == 2
    copy.rename(moved)
    monkeypatch.chdir(moved)
    leave_an_artifact(3)
    assert not copy.exists()
    client = MlflowClient(tracking_uri=f"sqlite:///{moved / 'mlflow.db'}")
    places = [str(run.info.artifact_uri) for run in runs(moved)]
    experiment = client.get_experiment_by_name("resblock-digits")
    assert experiment is not None
    places += [str(model.artifact_location) for model in client.search_logged_models([experiment.experiment_id])]
    assert len(places) == 6
    for place in [*places, str(experiment.artifact_location)]:
        assert place.startswith((moved / "mlartifacts/resblock-digits").as_uri())
    for run in runs(moved):
        assert Path(client.download_artifacts(run.info.run_id, "curve.csv")).is_file()


@pytest.mark.parametrize(
    "place", ["s3://bucket/mlartifacts/resblock-digits", "file:///elsewhere/resblock-digits", "mlflow-artifacts:/1"]
)
def test_artifacts_that_a_person_put_elsewhere_stay_there(place: str) -> None:
    assert not old_places([("resblock-digits", place)], "file:///here/mlartifacts")


def test_nested_names_are_dotted() -> None:
    assert flatten({"a": {"b": 1, "c": {"d": 2}}, "e": 3}) == {"a.b": 1, "a.c.d": 2, "e": 3}
