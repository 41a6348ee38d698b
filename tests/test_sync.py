"""After `resblock sync` MLflow shows exactly one live run for each result that lies here, whatever was there before."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pandas as pd
import pytest
from benchmarks.sync import write_evaluation, write_study, write_training
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

import resblock
from resblock import paths
from resblock.cli import main
from resblock.core.errors import UserError
from resblock.core.files import read_json, write_json
from resblock.core.spec import ModelSpec, RunKey
from resblock.params import Params
from resblock.stages import sync
from resblock.stages.results import trained
from resblock.stages.weights import weights_address
from resblock.tracking import ui
from resblock.tracking.process import this_process
from resblock.tracking.result import TRAIN_RUNS
from resblock.tracking.runs import create_run
from resblock.tracking.store import ensure_experiment, open_store

EPOCHS = 3
KEYS = [RunKey("digits", ModelSpec(family, 8), 0) for family in ("plain", "residual")]
ONE = KEYS[0]
PYTHON_PATH = os.pathsep.join(map(str, (Path(resblock.__file__).parents[1], Path(__file__).parents[1])))
RESULTS = {"preprocess@digits", *map(paths.stage, KEYS), *map(paths.evaluation, KEYS)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, params: Params) -> Path:
    """The files of a small study, and a store that shows them; tests change copies."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        write_study(KEYS, params, epochs=EPOCHS)
        assert not sync.run([])
    return folder


@pytest.fixture
def study(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files alone, as in a clone."""
    shutil.copytree(made / "results", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "RESBLOCK_PARENT_RUN"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def shown(made: Path, study: Path) -> Path:
    """The files, and a store that shows them."""
    shutil.copy(made / "mlflow.db", study)
    shutil.copytree(made / "mlartifacts", study / "mlartifacts")
    return study


def client_of(folder: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")


def all_runs(folder: Path) -> list[Run]:
    client = client_of(folder)
    experiment = client.get_experiment_by_name("resblock-digits")
    return list(client.search_runs([experiment.experiment_id])) if experiment else []


def live_runs(folder: Path) -> dict[str, Run]:
    """Return the live runs by name; fail where a result has two."""
    live = [run for run in all_runs(folder) if run.data.tags["resblock.superseded"] == "false"]
    assert all(count == 1 for count in Counter(run.info.run_name for run in live).values())
    return {str(run.info.run_name): run for run in live}


def create() -> str:
    """Make a run as a training would, and leave it open; return its id."""
    client = open_store()
    experiment = ensure_experiment(client, "digits", "text")
    return str(create_run(client, str(experiment.experiment_id), trained(ONE), live=True).info.run_id)


def snapshot(folder: Path) -> list[Any]:
    """Return everything of every run, so that any change shows."""
    client = client_of(folder)
    return [
        [
            run.to_dictionary(),
            {name: [dict(m) for m in client.get_metric_history(run.info.run_id, name)] for name in run.data.metrics},
        ]
        for run in sorted(all_runs(folder), key=lambda run: str(run.info.run_id))
    ]


def test_a_clone_shows_the_published_study_at_once(study: Path) -> None:
    assert not sync.run([])
    runs = live_runs(study)
    assert set(runs) == RESULTS
    client = client_of(study)
    for key in KEYS:
        run = runs[paths.stage(key)]
        assert run.info.status == "FINISHED"
        assert run.data.tags["resblock.source"] == "files"
        assert run.data.params["variant"] == key.spec.name
        curve = pd.read_csv(paths.run(key) / "curve.csv")
        for column in curve.columns.drop("epoch"):
            name = "schedule/learning_rate" if column == "learning_rate" else column  # a parameter has the short name
            history = client.get_metric_history(run.info.run_id, name)
            assert [(metric.step, metric.value) for metric in history] == list(
                zip(curve["epoch"], curve[column], strict=True)
            )
        artifacts = {entry.path for entry in client.list_artifacts(run.info.run_id)}
        assert artifacts == {"curve.csv", "curve.png", "gradients.csv", "metrics.json", "run.json", "cost.json"}
        (score,) = pd.read_csv(paths.scores(key) / "score.csv").to_dict("records")
        evaluation = runs[paths.evaluation(key)]
        for name in ("test_accuracy", "test_loss_reestimated"):
            assert run.data.metrics[name] == evaluation.data.metrics[name] == score[name]
        assert evaluation.data.params["variant"] == key.spec.name
        tables = {entry.path for entry in client.list_artifacts(evaluation.info.run_id)}
        assert tables >= {"score.csv", "confusion.csv", "lesions.csv", "run.json"}


def test_a_rebuilt_history_has_the_times_of_the_training(study: Path) -> None:
    sync.run([])
    run = live_runs(study)[paths.stage(ONE)]
    cost = read_json(paths.cost(ONE))
    start = int(pd.Timestamp(cost["started"]).timestamp() * 1000)
    history = client_of(study).get_metric_history(run.info.run_id, "loss")
    ends = [start + 1000 * sum(cost["epoch_seconds"][: metric.step]) for metric in history]
    assert run.info.start_time == start
    assert [metric.timestamp for metric in history] == pytest.approx(ends, abs=1)
    assert run.info.end_time == pytest.approx(ends[-1], abs=1)


def test_a_second_call_changes_nothing_and_says_so(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sync.run([])
    before = snapshot(study)
    capsys.readouterr()
    assert sync.run([])
    assert "nothing changed" in capsys.readouterr().out
    assert snapshot(study) == before


def test_check_reports_and_changes_nothing(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not sync.run([], check=True)
    said = capsys.readouterr().out
    assert all(f"{name}: not in MLflow" in said for name in RESULTS)
    assert not list(study.glob("mlflow.db*"))
    sync.run([])
    assert sync.run([], check=True)
    client_of(study).delete_run(live_runs(study)[paths.stage(ONE)].info.run_id)
    before = snapshot(study)
    assert not sync.run([], check=True)
    assert snapshot(study) == before


def test_check_exits_with_1_when_something_differs_and_0_otherwise(study: Path) -> None:
    def code(*arguments: str) -> Any:
        with pytest.raises(SystemExit) as ended:
            main(["sync", *arguments])
        return ended.value.code

    assert code("--check") == 1
    assert code() == 0
    assert code("--check") == 0


def test_a_deleted_run_does_not_count(shown: Path) -> None:
    deleted = live_runs(shown)[paths.stage(ONE)].info.run_id
    client_of(shown).delete_run(deleted)
    sync.run([])
    assert set(live_runs(shown)) == RESULTS
    assert live_runs(shown)[paths.stage(ONE)].info.run_id != deleted


def test_another_result_of_a_stage_supersedes_the_older_and_coming_back_revives_it(
    shown: Path, params: Params, make_recipe: Callable[..., Any]
) -> None:
    first = live_runs(shown)[paths.stage(ONE)].info.run_id
    write_training(ONE, make_recipe(learning_rate=0.5), epochs=EPOCHS)
    sync.run([])
    second = live_runs(shown)[paths.stage(ONE)].info.run_id
    assert second != first
    assert client_of(shown).get_run(first).data.tags["resblock.superseded"] == "true"
    assert set(live_runs(shown)) == RESULTS
    write_training(ONE, params.recipe("digits"), epochs=EPOCHS)
    sync.run([])
    assert live_runs(shown)[paths.stage(ONE)].info.run_id == first
    assert client_of(shown).get_run(second).data.tags["resblock.superseded"] == "true"
    assert len(all_runs(shown)) == len(RESULTS) + 1


def test_test_figures_of_another_result_are_not_shown(shown: Path, make_recipe: Callable[..., Any]) -> None:
    write_training(ONE, make_recipe(learning_rate=0.5), epochs=EPOCHS)
    sync.run([])
    assert "test_accuracy" not in live_runs(shown)[paths.stage(ONE)].data.metrics
    write_evaluation(ONE, make_recipe(learning_rate=0.5))
    sync.run([])
    assert "test_accuracy" in live_runs(shown)[paths.stage(ONE)].data.metrics


def test_two_runs_of_one_result_are_reduced_to_one(shown: Path) -> None:
    client_of(shown).set_terminated(create(), "FINISHED")
    assert len([run for run in all_runs(shown) if run.info.run_name == paths.stage(ONE)]) == 2
    sync.run([])
    assert set(live_runs(shown)) == RESULTS
    assert sync.run([])


def create_and_be_killed() -> None:
    """Leave the run of a training as SIGKILL leaves it: without a word."""
    code = (
        "import os, signal; from tests.test_sync import create\n"  # as a stage does after it has written its files
        "create(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": PYTHON_PATH}, check=False)
    assert ended.returncode == -signal.SIGKILL


def test_a_run_killed_after_its_files_were_written_is_finished(study: Path) -> None:
    create_and_be_killed()
    (left,) = all_runs(study)
    assert left.info.status == "RUNNING"
    sync.run([])
    kept = live_runs(study)[paths.stage(ONE)]
    assert (kept.info.run_id, kept.info.status) == (left.info.run_id, "FINISHED")
    assert kept.data.tags["resblock.source"] == "live"
    assert "test_accuracy" in kept.data.metrics


def test_a_run_killed_before_it_left_anything_is_killed(study: Path) -> None:
    create_and_be_killed()
    shutil.rmtree(paths.run(ONE))
    sync.run([])
    (left,) = [run for run in all_runs(study) if run.info.run_name == paths.stage(ONE)]
    assert left.info.status == "KILLED"


def test_a_process_id_that_another_process_got_meanwhile_proves_nothing(study: Path) -> None:
    run_id = create()
    machine = this_process().partition("/")[0]
    client_of(study).set_tag(run_id, "resblock.process", f"{machine}/{os.getpid()}/12.0")
    shutil.rmtree(paths.run(ONE))
    sync.run([])
    assert client_of(study).get_run(run_id).info.status == "KILLED"


@pytest.mark.parametrize(("days", "status"), [(6, "RUNNING"), (8, "KILLED")])
def test_a_run_on_another_machine_counts_as_gone_after_a_week(days: int, status: str, study: Path) -> None:
    run_id = create()
    client_of(study).set_tag(run_id, "resblock.process", f"elsewhere/1/{time.time() - days * 24 * 3600}")
    shutil.rmtree(paths.run(ONE))
    sync.run([])
    assert client_of(study).get_run(run_id).info.status == status


def test_a_run_that_lives_is_left_alone(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = create()
    sync.run([])
    assert client_of(study).get_run(run_id).info.status == "RUNNING"
    assert "1 being logged right now" in capsys.readouterr().out
    assert [run.info.run_id for run in all_runs(study) if run.info.run_name == paths.stage(ONE)] == [run_id]
    assert sync.run([], check=True)


def test_a_run_that_says_otherwise_gives_way_to_one_that_does_not(shown: Path) -> None:
    run = live_runs(shown)[paths.stage(ONE)]
    client_of(shown).log_metric(run.info.run_id, "loss", 0.123, step=2)
    client_of(shown).delete_tag(run.info.run_id, "resblock.curve")
    sync.run([])
    live = live_runs(shown)[paths.stage(ONE)]
    assert live.info.run_id != run.info.run_id
    history = client_of(shown).get_metric_history(live.info.run_id, "loss")
    assert [metric.value for metric in history] == list(pd.read_csv(paths.run(ONE) / "curve.csv")["loss"])


def test_missing_steps_tags_and_artifacts_are_added(study: Path) -> None:
    run_id = create()
    client = client_of(study)
    first = pd.read_csv(paths.run(ONE) / "curve.csv").iloc[0]
    client.log_metric(run_id, "loss", first["loss"], step=1)
    client.set_tag(run_id, "resblock.process", f"{this_process().partition('/')[0]}/1/12.0")
    sync.run([])
    run = live_runs(study)[paths.stage(ONE)]
    assert run.info.run_id == run_id
    steps = [metric.step for metric in client.get_metric_history(run_id, "loss")]
    assert sorted(steps) == list(range(1, EPOCHS + 1))
    artifact = Path(str(run.info.artifact_uri).removeprefix("file://")) / "curve.csv"
    artifact.unlink()
    client.delete_tag(run_id, "resblock.status")
    sync.run([])
    assert artifact.is_file()
    assert client.get_run(run_id).data.tags["resblock.status"] == "finished"


def test_incomplete_files_show_what_there_is(study: Path) -> None:
    paths.cost(ONE).unlink()
    (paths.run(ONE) / "curve.csv").unlink()
    shutil.rmtree(paths.scores(ONE))
    sync.run([])
    run = live_runs(study)[paths.stage(ONE)]
    assert run.data.params["variant"] == "plain-8"
    assert "loss" not in run.data.metrics
    assert "test_accuracy" not in run.data.metrics


@pytest.mark.parametrize("content", ["", "[]", '{"stage": "train@digits-plain-8-0"}'])
def test_a_damaged_file_is_named_and_the_others_are_shown(
    content: str, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (paths.run(ONE) / "run.json").write_text(content)
    sync.run([])
    assert str(paths.run(ONE) / "run.json") in capsys.readouterr().err
    assert set(live_runs(study)) == RESULTS - {paths.stage(ONE)}


def shown_by_the_view(folder: Path) -> set[str]:
    """Return the names of the runs that the saved view's filter finds."""
    client = client_of(folder)
    experiment = client.get_experiment_by_name("resblock-digits")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], TRAIN_RUNS)
    return {str(run.info.run_name) for run in found}


def choose(variants: str, seeds: str) -> None:
    """Let params.yaml of the current folder name these networks and seeds."""
    text = (Path(__file__).resolve().parents[1] / "params.yaml").read_text()
    text = re.sub(r"variants: .*", f"variants: {variants}", text, count=1)
    Path("params.yaml").write_text(re.sub(r"seeds: .*", f"seeds: {seeds}", text, count=1))


def test_the_view_shows_the_study_that_params_describe(shown: Path) -> None:
    everything = {paths.stage(key) for key in KEYS}
    assert shown_by_the_view(shown) == everything
    choose("[plain-8]", "[0]")
    assert not sync.run([], check=True)
    sync.run([])
    assert shown_by_the_view(shown) == {paths.stage(ONE)}
    assert set(live_runs(shown)) == RESULTS  # the others are told apart, not lost
    choose("[plain-8, residual-8]", "[0, 1]")
    sync.run([])
    assert shown_by_the_view(shown) == everything


def test_the_ui_opens_with_the_study_that_params_describe_by_now(shown: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    choose("[residual-8]", "[0, 1]")
    monkeypatch.setattr(ui, "free_port", Mock(side_effect=UserError("enough")))
    with pytest.raises(UserError, match="enough"):
        ui.serve("digits", "127.0.0.1", None, allowed_hosts=[], browse=False, named=sync.names_of_the_study)
    assert shown_by_the_view(shown) == {paths.stage(key) for key in KEYS if key.spec.family == "residual"}


def test_a_diverged_training_is_shown_as_such(study: Path) -> None:
    folder = paths.run(ONE)
    curve = pd.read_csv(folder / "curve.csv").iloc[:1].assign(loss=float("inf"), validation_loss=float("nan"))
    curve.to_csv(folder / "curve.csv", index=False)
    write_json(folder / "run.json", {**read_json(folder / "run.json"), "status": "diverged"})
    sync.run([])
    run = live_runs(study)[paths.stage(ONE)]
    assert run.data.tags["resblock.status"] == "diverged"
    assert pd.isna(run.data.metrics["validation_loss"])
    assert sync.run([])


def test_two_syncs_at_once_double_nothing(study: Path) -> None:
    command = [sys.executable, "-m", "resblock", "sync"]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[0] for process in started]
    assert [process.returncode for process in started] == [0] * 2
    assert sum("mended" in words for words in said) == 1
    assert len(all_runs(study)) == len(RESULTS)
    assert set(live_runs(study)) == RESULTS


def test_weights_are_named_by_their_place_in_dvc(study: Path) -> None:
    manifest = paths.run(ONE) / "run.json"
    ended = subprocess.run(["md5sum", manifest], capture_output=True, text=True, check=True)
    digest = ended.stdout.split()[0]
    outs = [
        {"path": str(manifest), "md5": digest},
        {"path": str(manifest.with_name("weights.npz")), "md5": "ab" + "0" * 30},
    ]
    Path("dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": {paths.stage(ONE): {"outs": outs}}}))
    Path(".dvc").mkdir()
    Path(".dvc/config").write_text("[core]\n    remote = team\n['remote \"team\"']\n    url = s3://bucket/resblock\n")
    sync.run([])
    runs = live_runs(study)
    assert runs[paths.stage(ONE)].data.tags["resblock.weights"] == "s3://bucket/resblock/files/md5/ab/" + "0" * 30
    assert "resblock.weights" not in runs[paths.stage(KEYS[1])].data.tags


def test_weights_that_are_not_published_are_named_by_their_place_in_the_cache(study: Path) -> None:
    """A remote in the project holds few: an address there must lead to a file."""
    weights = paths.run(ONE) / "weights.npz"
    weights.write_bytes(b"some weights")
    Path(".dvc").mkdir()
    Path(".dvc/config").write_text("[core]\n    remote = here\n['remote \"here\"']\n    url = ../published\n")
    address = "files/md5/" + re.sub("^..", r"\g<0>/", hashlib.md5(b"some weights").hexdigest())
    assert weights_address(ONE) == f".dvc/cache/{address}"
    (study / "published" / address).parent.mkdir(parents=True)
    (study / "published" / address).write_bytes(b"some weights")
    assert weights_address(ONE) == f"published/{address}"


def test_data_sets_are_inputs_with_their_sizes(shown: Path) -> None:
    run = live_runs(shown)[paths.stage(ONE)]
    assert run.inputs is not None
    described = {entry.tags[0].value: entry.dataset for entry in run.inputs.dataset_inputs}
    assert set(described) == {"training", "validation"}
    assert json.loads(str(described["training"].profile))["images"] == 1293
    assert described["training"].name == "digits-train"
    evaluated = live_runs(shown)[paths.evaluation(ONE)].inputs
    assert evaluated is not None
    assert {entry.tags[0].value for entry in evaluated.dataset_inputs} == {"training", "validation", "test"}


def test_nothing_to_show_says_how_to_get_something(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="resblock run digits"):
        sync.run([])
    with pytest.raises(UserError, match="mnist"):
        sync.run(["mnist"])


def test_an_address_of_dvcs_may_hold_a_per_cent_sign(study: Path) -> None:
    (paths.run(ONE) / "weights.npz").write_bytes(b"some weights")
    Path(".dvc").mkdir()
    Path(".dvc/config").write_text("[core]\n    remote = far\n['remote \"far\"']\n    url = https://a.org/my%20dir\n")
    assert str(weights_address(ONE)).startswith("https://a.org/my%20dir/files/md5/")


def test_a_store_that_fails_at_the_end_is_a_message(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the models and the report's links a server went, and `resblock run` ended in a traceback."""

    def gone(*_: object) -> None:
        raise MlflowException("gone")

    monkeypatch.setattr(sync, "live_runs", gone)
    paths.report("digits").mkdir(parents=True, exist_ok=True)
    with pytest.raises(UserError, match="gone"):
        sync.run([])


@pytest.mark.usefixtures("shown")
def test_a_mere_look_waits_for_no_other_sync_and_writes_no_lock() -> None:
    Path("mlflow.db.sync.lock").unlink(missing_ok=True)
    assert sync.run([], check=True)
    assert not Path("mlflow.db.sync.lock").exists()


def test_a_store_out_of_reach_is_a_message(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI"):
        sync.run([])


def test_a_run_follows_a_result_whose_new_code_was_accepted(study: Path) -> None:
    """Its key is another one, its numbers are not: MLflow shows it in the run it has, and the model by its new key."""
    sync.run([])
    client, name, count = client_of(study), paths.stage(ONE), len(all_runs(study))
    (before,) = [run for run in all_runs(study) if run.data.tags["resblock.name"] == name]
    run_id = before.info.run_id
    tags = {"resblock.key": before.data.tags["resblock.key"]}
    model = client.create_logged_model(before.info.experiment_id, name="model", source_run_id=run_id, tags=tags)
    client.create_registered_model("champions")
    client.create_model_version("champions", source=f"models:/{model.model_id}", run_id=run_id, tags=tags)

    manifest = read_json(paths.run(ONE) / "run.json")
    seen = {"key": manifest["key"], "code": manifest["code"], "epochs": 1, "weights": False}
    accepted = {**manifest, "code": "c" * 64, "key": "d" * 64, "verified": [seen]}
    write_json(paths.run(ONE) / "run.json", accepted)
    sync.run([])

    assert len(all_runs(study)) == count
    after = client.get_run(run_id)
    assert after.data.tags["resblock.key"] == "d" * 64
    assert after.data.tags["resblock.superseded"] == "false"
    assert client.get_logged_model(model.model_id).tags["resblock.key"] == "d" * 64
    (version,) = client.search_model_versions("name = 'champions'")
    assert version.tags["resblock.key"] == "d" * 64
    assert sync.run([], check=True)
