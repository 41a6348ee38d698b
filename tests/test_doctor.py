"""`resblock doctor`: what is wrong is found, what is well is not, and mending loses nothing."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from resblock import paths
from resblock.cli import main
from resblock.core.errors import UserError
from resblock.core.files import exclusive, write_json, write_text
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.splits import Split, SplitName, array_path
from resblock.core.training.run import MANIFEST, WEIGHTS
from resblock.data.download import fetch
from resblock.data.table import find_dataset
from resblock.params import Params
from resblock.running import ailments, checkup, recorder
from resblock.running.doctor import Result, examine, report
from resblock.running.finding import Finding
from resblock.tracking import health
from resblock.tracking.process import this_process
from resblock.tracking.result import PROCESS_TAG
from resblock.tracking.store import ensure_experiment, open_store
from tests.conftest import ROOT, write_digits

KEY = RunKey("digits", ModelSpec.parse("plain-8"), 0)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project without any results."""
    root = tmp_path / "project"
    (root / ".dvc/tmp").mkdir(parents=True)
    shutil.copy(ROOT / ".dvc/config", root / ".dvc/config")
    shutil.copy(ROOT / "params.yaml", root)
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    write_text(root / "dvc.lock", "schema: '2.0'\nstages: {}\n")
    monkeypatch.chdir(root)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return root


def one(findings: Iterable[Finding]) -> Finding:
    (finding,) = findings
    return finding


def mend(finding: Finding) -> str:
    assert finding.mend is not None
    return finding.mend()


# The command.


@pytest.mark.usefixtures("project")
def test_a_well_project_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ailments, "FOUND_AT", Path("none"))
    monkeypatch.setattr(ailments, "LITTLE", 0)
    ended = CliRunner().invoke(main, ["doctor"])
    assert ended.exit_code == 0, ended.output
    assert {line.split()[0] for line in ended.output.splitlines()} == {"well"}


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    "text", ["{", "[]", "null", '{"write": []}', '{"read": {"y": {"pid": 1}}}', '{"write": {"x": {}}}']
)
def test_what_is_ill_makes_the_command_fail_until_it_is_mended(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ailments, "FOUND_AT", Path("none"))
    ailments.RWLOCK.write_text(text)
    ended = CliRunner().invoke(main, ["doctor"])
    assert ended.exit_code == 1
    assert "ILL     DVC's locks: .dvc/tmp/rwlock is damaged" in ended.output
    assert "`resblock doctor --mend` does that" in ended.output
    mended = CliRunner().invoke(main, ["doctor", "--mend"])
    assert mended.exit_code == 0
    assert "mended  DVC's locks" in mended.output
    assert CliRunner().invoke(main, ["doctor"]).exit_code == 0


def test_a_check_that_fails_is_a_finding_and_the_others_go_on() -> None:
    def fails() -> Iterator[Finding]:
        raise ZeroDivisionError("by nothing")
        yield

    first, second = examine([("one", fails), ("two", lambda: [])])
    assert "could not be looked at: ZeroDivisionError: by nothing" in one(first.findings).what
    assert second.findings == []


def test_a_note_is_nothing_that_is_wrong() -> None:
    note = Result("disk", [Finding("so", "do so", harmful=False)])
    assert list(report([note], mend=True)) == [("note    disk: so; do so", False)]


def test_what_cannot_be_mended_stays_ill_and_the_next_is_mended() -> None:
    def fails() -> str:
        raise UserError("no room")

    ill = [Finding("broken", "mend it", fails), Finding("torn", "sew it", lambda: "sewn")]
    assert list(report([Result("data", ill)], mend=True)) == [
        ("ILL     data: broken; mend it; could not be mended: no room", True),
        ("mended  data: torn; sewn", False),
    ]


# The machine.


def test_a_machine_without_git_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert "git is not installed" in one(ailments.git()).what


@pytest.mark.usefixtures("project")
def test_a_folder_that_git_and_dvc_do_not_know_is_found() -> None:
    assert list(ailments.git()) == list(ailments.dvc()) == []
    shutil.rmtree(".git")
    shutil.rmtree(".dvc")
    assert "no git repository" in one(ailments.git()).what
    assert ".dvc/config is not here" in one(ailments.dvc()).what


@pytest.mark.usefixtures("project")
def test_a_machine_without_dvc_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ailments.importlib.util, "find_spec", lambda _: None)
    assert "DVC is not installed" in one(ailments.dvc()).what


@pytest.fixture
def living() -> Iterator[int]:
    """The number of a process that could be DVC's."""
    with subprocess.Popen([sys.executable, "-c", "input()", "dvc"], stdin=subprocess.PIPE) as process:
        yield process.pid
        process.communicate(b"\n")


@pytest.fixture
def dead() -> int:
    """The number of a process that is gone."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        return process.pid


@pytest.mark.usefixtures("project")
def test_locks_of_the_dead_go_and_those_of_the_living_stay(living: int, dead: int) -> None:
    held, left = {"pid": living, "cmd": "dvc repro"}, {"pid": dead, "cmd": "dvc repro"}
    tree = {"write": {"/a": held, "/b": left}, "read": {"/c": [held, left], "/d": [left]}}
    ailments.RWLOCK.write_text(json.dumps(tree))
    finding = one(ailments.dvc_locks())
    assert str(dead) in finding.what
    assert str(living) not in finding.what
    mend(finding)
    assert json.loads(ailments.RWLOCK.read_text()) == {"write": {"/a": held}, "read": {"/c": [held]}}
    assert list(ailments.dvc_locks()) == []


@pytest.mark.usefixtures("project")
def test_a_lock_of_a_dead_process_whose_number_another_program_has_is_found() -> None:
    """DVC only asks whether there is such a process, and would wait for it for ever."""
    ailments.RWLOCK.write_text(json.dumps({"write": {"/a": {"pid": os.getppid(), "cmd": "dvc repro"}}}))
    if ailments.holds({"pid": os.getppid(), "cmd": "dvc repro"}):
        pytest.skip("these tests were started by something that is called dvc")
    assert one(ailments.dvc_locks()).mend


@pytest.mark.usefixtures("project")
def test_the_locks_of_a_run_that_lives_are_those_of_the_living() -> None:
    """`resblock run` starts DVC by another module than DVC's own: its locks were once taken for those of the dead."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", "import time; print('here', flush=True); time.sleep(600)", recorder.__name__]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        ailments.RWLOCK.write_text(json.dumps({"write": {"/a": {"pid": process.pid, "cmd": "repro"}}, "read": {}}))
        assert list(ailments.dvc_locks()) == []
        process.kill()


@pytest.mark.usefixtures("project")
def test_the_locks_of_a_program_that_uses_dvc_are_those_of_the_living(tmp_path: Path) -> None:
    """No word of its command line says so, but DVC has noted what that is."""
    program = tmp_path / "pipeline.py"
    program.write_text("import time; print('here', flush=True); time.sleep(600)")
    with subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        for command, count in ((str(program), 0), ("another.py", 1)):
            ailments.RWLOCK.write_text(json.dumps({"write": {"/a": {"pid": process.pid, "cmd": command}}}))
            assert len(list(ailments.dvc_locks())) == count
        process.kill()


@pytest.mark.usefixtures("project")
def test_locks_that_dvc_is_writing_are_neither_damaged_nor_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC empties the file before it writes it anew; a look in between once had it removed."""
    monkeypatch.setattr(ailments, "GUARD_PATIENCE", 0.1)
    ailments.RWLOCK.write_text("")
    finding = one(ailments.dvc_locks())
    with ailments.GUARD.open("a+b") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        assert list(ailments.dvc_locks()) == []
        with pytest.raises(UserError, match="a DVC process is at work"):
            mend(finding)
    ailments.RWLOCK.write_text('{"write": {}, "read": {}}')
    assert mend(finding) == "it is whole by now"
    assert ailments.RWLOCK.is_file()


@pytest.mark.usefixtures("project")
def test_a_lock_file_that_was_cut_off_is_found_wherever_it_was() -> None:
    text = (ROOT / "dvc.lock").read_text()
    Path("dvc.lock").write_text(text)
    assert list(ailments.lock_file()) == []
    for cut in range(len(text) // 6, len(text), len(text) // 6):
        Path("dvc.lock").write_text(text[:cut])
        found = [finding.what for finding in ailments.lock_file()]
        assert found == ["dvc.lock is damaged"] or text[:cut].endswith("\n"), cut


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("text", ["", "stages: [", "schema: '2.0'\n", "schema: '2.0'\nstages:\n", "\x00"])
def test_a_lock_file_of_which_a_part_is_missing_is_found(text: str) -> None:
    assert list(ailments.lock_file()) == []
    Path("dvc.lock").write_text(text)
    assert "dvc.lock is damaged" in one(ailments.lock_file()).what


@pytest.mark.usefixtures("project")
def test_a_stage_of_a_persons_own_that_makes_nothing_damages_no_lock_file() -> None:
    own = "  notify:\n    cmd: ./notify.sh\n    deps:\n    - path: a\n      hash: md5\n      md5: 0\n      size: 1\n"
    Path("dvc.lock").write_text(f"schema: '2.0'\nstages:\n{own}")
    assert list(ailments.lock_file()) == []
    Path("dvc.lock").write_text(f"schema: '2.0'\nstages:\n{own.replace('./notify.sh', 'resblock report digits')}")
    assert "dvc.lock is damaged" in one(ailments.lock_file()).what


@pytest.mark.usefixtures("project")
def test_packages_that_differ_from_the_lock_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ailments, "REQUIREMENTS", Path("lock"))
    here = ailments.version("numpy")
    Path("lock").write_text(
        f"numpy=={here} \\\n    --hash=sha256:0\nclick==0.1\nno-such-package==1\n"
        'pandas==0.1 ; sys_platform == "elsewhere"\n'
    )
    finding = one(ailments.packages())
    assert f"click {ailments.version('click')} instead of 0.1" in finding.what
    for well in ("numpy", "no-such-package", "pandas"):
        assert well not in finding.what


def test_too_little_disk_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ailments.shutil, "disk_usage", lambda _: SimpleNamespace(free=3e8))
    assert "0.3 GB are free here" in one(ailments.disk()).what


@pytest.mark.parametrize(("said", "found"), [("gpu\n", False), ("cpu\n", True)])
def test_a_card_that_jax_does_not_see_is_found(
    said: str, found: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ailments, "FOUND_AT", tmp_path)
    assert list(ailments.card()) == []  # no card
    (tmp_path / "0000:01:00.0").mkdir()
    monkeypatch.setattr(ailments.subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=said))
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert [finding.harmful for finding in ailments.card()] == [True] * found
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    assert [finding.harmful for finding in ailments.card()] == [False] * found


# The study's files.


@pytest.mark.usefixtures("project")
def test_data_that_are_not_what_their_digests_say_are_found(
    digits: dict[SplitName, Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch(find_dataset("digits").source, paths.raw("digits"), say=lambda _: None)
    write_digits(Path(), digits)
    assert list(checkup.data_files()) == []
    file = array_path(paths.splits("digits"), "validation", "images")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    (raw,) = paths.raw("digits").iterdir()
    raw.write_bytes(b"other")
    first, second = checkup.data_files()
    assert "data/raw/digits is not what was published" in first.what
    assert "its validation images are not those of dataset.json" in second.what
    assert "dvc repro --force --single-item preprocess@digits" in second.remedy
    asked: list[list[str]] = []
    monkeypatch.setattr(
        checkup.subprocess, "run", lambda words, **_: asked.append(words) or SimpleNamespace(returncode=0)
    )
    assert mend(second) == "cut them anew"
    failed = SimpleNamespace(returncode=1, stderr="WARNING: old\nERROR: no disk\n")
    monkeypatch.setattr(checkup.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(UserError, match="ERROR: no disk"):
        mend(second)
    assert asked[0][2:] == ["dvc", "repro", "--quiet", "--force", "--single-item", "preprocess@digits"]


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(("recorded", "found"), [(0.001, False), (0.002, True)])
def test_a_training_recorded_with_other_parameters_is_found(recorded: float, found: bool, params: Params) -> None:
    own = params.recipe("digits").tree()
    manifest = paths.run(KEY) / MANIFEST
    write_json(manifest, {"stage": "train", "dataset": "digits", "recipe_name": "base", "recipe": own, "key": "k"})
    entry = {
        "outs": [{"path": str(manifest)}],
        "params": {"params.yaml": {"train.digits": {**own, "learning_rate": recorded}}},
    }
    write_json(Path("dvc.lock"), {"schema": "2.0", "stages": {"train@digits-plain-8-0": entry}})
    assert [finding.what.split()[0] for finding in checkup.recorded_parameters()] == ["train@digits-plain-8-0"] * found


@pytest.mark.usefixtures("project")
def test_a_training_that_dvc_has_not_recorded_yet_is_stale_and_no_finding(params: Params) -> None:
    own = params.recipe("digits").tree()
    manifest = paths.run(KEY) / MANIFEST
    write_json(manifest, {"stage": "train", "dataset": "digits", "recipe_name": "base", "recipe": own, "key": "k"})
    params_then = {"params.yaml": {"train.digits": {**own, "learning_rate": 0.5}}}
    entry = {"outs": [{"path": str(manifest), "md5": "0" * 32}], "params": params_then}
    write_json(Path("dvc.lock"), {"schema": "2.0", "stages": {"train@digits-plain-8-0": entry}})
    assert list(checkup.recorded_parameters()) == []


@pytest.mark.usefixtures("project")
def test_a_manifest_in_conflict_is_found_by_its_name() -> None:
    manifest = paths.run(KEY) / MANIFEST
    manifest.parent.mkdir(parents=True)
    manifest.write_text("<<<<<<< HEAD\n{}\n=======\n{}\n>>>>>>> other\n")
    write_json(Path("dvc.lock"), {"schema": "2.0", "stages": {}})
    (found,) = checkup.recorded_parameters()
    assert found.what == f"{manifest}, line 1: git left the conflict of a merge there"
    assert f"git checkout --ours -- {manifest}" in found.remedy


@pytest.mark.usefixtures("project")
def test_a_recipe_that_differs_is_compared_with_its_difference(params: Params) -> None:
    own, other = params.recipe("digits").tree(), params.recipe("digits", "slow-averages").tree()
    manifest = {"dataset": "digits", "recipe_name": "slow-averages", "recipe": other}
    recorded = {"train.digits": own, "recipes.slow-averages": {"batch_norm_momentum": 0.99}}
    assert checkup.recorded_as_made(recorded, manifest)
    assert not checkup.recorded_as_made({**recorded, "recipes.slow-averages": {}}, manifest)


def leave(*names: str) -> None:
    paths.CHECKPOINTS.mkdir(exist_ok=True)
    for name in names:
        (paths.CHECKPOINTS / name).write_bytes(b"0" * 1000)


def left() -> set[str]:
    return {path.name for path in paths.CHECKPOINTS.iterdir()}


@pytest.mark.usefixtures("project")
def test_what_finished_trainings_left_is_removed_and_what_could_go_on_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup, "_wanted_keys", lambda _: {"wanted"})
    write_json(paths.run(KEY) / MANIFEST, {"stage": "train", "key": "done"})
    (paths.run(KEY) / WEIGHTS).touch()
    git_alone = paths.run(replace(KEY, seed=1)) / MANIFEST  # as `git checkout .` brings it back after a kill
    write_json(git_alone, {"stage": "train", "key": "half"})
    leave("half.npz", "done.npz", ".done.npz.x.partial", "wanted.npz", "orphan.npz", "dead.lock", "alive.npz")
    with exclusive(paths.CHECKPOINTS / "alive.lock"):
        scraps, done, orphans = checkup.checkpoints()
        assert "1 checkpoint (1.0 kB) of trainings that have ended well" in done.what
        assert "2 checkpoints (2.0 kB) that no training of the present study goes on from" in orphans.what
        assert ".checkpoints/orphan.npz" in orphans.remedy
        assert orphans.mend is None  # an edit may be undone
        assert not orphans.harmful
        mend(scraps)
        mend(done)
        assert left() == {"half.npz", "wanted.npz", "orphan.npz", "alive.npz", "alive.lock"}


@pytest.mark.usefixtures("project", "backend")
def test_the_keys_that_trainings_of_the_study_have_are_theirs(params: Params, digits: dict[SplitName, Split]) -> None:
    assert checkup._wanted_keys(params) == set()  # pyright: ignore[reportPrivateUsage]
    write_digits(Path(), digits)
    wanted = checkup._wanted_keys(params)  # pyright: ignore[reportPrivateUsage]
    assert len(wanted) == len(params.keys("digits"))


@pytest.mark.usefixtures("project")
def test_a_store_that_was_half_made_is_put_aside() -> None:
    with closing(sqlite3.connect("mlflow.db")) as database:
        database.execute("CREATE TABLE experiments (id INTEGER)")
    finding = one(checkup.store())
    assert "lacks the tables alembic_version" in finding.what
    assert "mlflow.db.broken-1" in mend(finding)
    assert Path("mlflow.db.broken-1").exists()
    assert not Path("mlflow.db").exists()
    open_store()
    assert list(checkup.store()) == []
    with closing(sqlite3.connect("mlflow.db")) as database:
        database.execute("DELETE FROM alembic_version")
        database.commit()
    assert "does not say which version" in one(checkup.store()).what
    Path("mlflow.db").write_bytes(b"no database" * 1000)
    finding = one(checkup.store())
    assert "is damaged" in finding.what
    assert "mlflow.db.broken-2" in mend(finding)


INTERRUPTED = """
import os, sqlite3
database = sqlite3.connect("mlflow.db")
database.execute("PRAGMA cache_size = 1")  # so that pages of an open transaction reach the file
database.execute("BEGIN")
database.executemany("INSERT INTO tags VALUES (?, ?, 'a')", [(str(n), "x" * 500) for n in range(5000)])
os._exit(9)
"""


@pytest.mark.usefixtures("project")
def test_a_write_that_a_kill_cut_short_leaves_a_store_that_is_whole() -> None:
    """SQLite takes it back by its journal; once the store was put aside without that, and kept half of it."""
    open_store()
    with closing(sqlite3.connect("mlflow.db")) as database:
        database.execute("DROP TABLE tags")
        database.execute("CREATE TABLE tags (key TEXT, value TEXT, run_uuid TEXT)")
    subprocess.run([sys.executable, "-c", INTERRUPTED], check=False)
    assert Path("mlflow.db-journal").exists()
    assert list(checkup.store()) == []
    with closing(sqlite3.connect("mlflow.db")) as database:
        assert database.execute("SELECT count(*) FROM tags").fetchone() == (0,)
    subprocess.run([sys.executable, "-c", INTERRUPTED], check=False)
    health.set_aside(Path("mlflow.db"))
    assert sorted(path.name for path in Path().glob("mlflow.db*")) == [
        "mlflow.db.broken-1",
        "mlflow.db.broken-1-journal",
        "mlflow.db.lock",
    ]


@pytest.mark.parametrize("name", ["c#1", "what?", "100%25", "with space"])
def test_a_store_in_a_folder_of_any_name_is_well(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with closing(sqlite3.connect("mlflow.db")) as database:
        for table in health.TABLES:
            database.execute(f"CREATE TABLE {table} (id TEXT)")
        database.execute("INSERT INTO alembic_version VALUES ('1')")
        database.commit()
    assert health.half_made(Path("mlflow.db")) == ""
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_store_in_a_temporary_folder_is_found(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = project / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(health, "TEMPORARY", ())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{temporary / 'mlflow.db'}")
    open_store()
    assert "lies in a temporary folder" in one(checkup.store()).what
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project / 'mlflow.db'}")
    open_store()
    assert list(checkup.store()) == []


@pytest.mark.usefixtures("project")
def test_runs_of_dead_processes_are_marked_and_those_of_the_living_left(dead: int) -> None:
    assert list(checkup.runs()) == []  # and no store is made by looking
    assert not Path("mlflow.db").exists()
    client = open_store()
    experiment = ensure_experiment(client, "digits", "about").experiment_id
    machine = this_process().split("/")[0]
    client.create_run(experiment, run_name="gone", tags={PROCESS_TAG: f"{machine}/{dead}/1.00"})
    client.create_run(experiment, run_name="here", tags={PROCESS_TAG: this_process()})
    finding = one(checkup.runs())
    assert "1 say RUNNING, and their processes are gone: gone" in finding.what
    mend(finding)
    status = {run.info.run_name: run.info.status for run in client.search_runs([experiment])}
    assert status == {"gone": "KILLED", "here": "RUNNING"}
