"""A file that a merge or a disk has damaged is named, whatever reads it, and nothing else is blamed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from resblock import paths
from resblock.cli import main
from resblock.core.errors import UserError
from resblock.core.files import read_arrays, read_json
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.training.run import read_cost, read_curve, read_gradients
from resblock.damage import damage
from resblock.evaluation.score import read_scores
from resblock.params import read_params
from resblock.stages.asked import asked, damaged_file, training_of
from resblock.stages.weights import weights_address

ROOT = Path(__file__).resolve().parent.parent
CONFLICT = "<<<<<<< HEAD\n{ours}=======\n{theirs}>>>>>>> other\n"
KEY = RunKey("digits", ModelSpec("plain", 8), 0)


def in_conflict(text: str, *, after: int = 0) -> str:
    """Return `text` as git leaves it where two branches wrote its lines behind the first `after` ones."""
    lines = text.splitlines(keepends=True)
    ours = "".join(lines[after:])
    return "".join(lines[:after]) + CONFLICT.format(ours=ours, theirs=ours)


def said_of(read: Callable[[], object]) -> str | None:
    try:
        read()
    except Exception as error:
        return damage(error)
    pytest.fail("it was read")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What git holds of the published digits study."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copy(ROOT / "dvc.lock", tmp_path)
    for folder in (paths.run(KEY).parent, paths.cost(KEY).parent, paths.report("digits")):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("*.npz", "predictions"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {  # of each kind of file that git holds
    "manifest": ("run.json", read_json),
    "curve": ("curve.csv", lambda path: read_curve(path.parent)),
    "gradients": ("gradients.csv", lambda path: read_gradients(path.parent)),
}


@pytest.mark.parametrize("after", [0, 1, 2])
@pytest.mark.parametrize("kind", READERS)
@pytest.mark.usefixtures("project")
def test_a_conflict_is_named_with_its_line(kind: str, after: int) -> None:
    name, read = READERS[kind]
    path = paths.run(KEY) / name
    path.write_text(in_conflict(path.read_text(), after=after))
    said = said_of(lambda: read(path))
    assert said is not None
    assert said.startswith(f"{path}, line {after + 1}: git left the conflict of a merge there; ")
    assert f"git checkout --ours -- {path}" in said


@pytest.mark.usefixtures("project")
def test_conflicts_in_costs_scores_and_dvcs_lock_file_are_named() -> None:
    cost, scores, lock = paths.cost(KEY), paths.report("digits") / "scores.csv", Path("dvc.lock")
    for path in (cost, scores, lock):
        path.write_text(in_conflict(path.read_text(), after=1))
    reads: dict[Path, Callable[[], object]] = {
        cost: lambda: read_cost(cost),
        scores: lambda: read_scores(scores.parent),
        lock: lambda: weights_address(KEY),
    }
    for path, read in reads.items():
        assert f"{path}, line 2: git left the conflict" in str(said_of(read))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1, 2"])
def test_what_a_disk_left_is_named_with_the_ways_back(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(content)
    said = said_of(lambda: read_json(path))
    assert said is not None
    assert said.startswith(f"{path}: damaged, or another version's (")
    assert f"git checkout -- {path}" in said
    assert "\n" not in said
    weights = tmp_path / "weights.npz"
    weights.write_bytes(b"PK\x03\x04" + content)
    assert str(said_of(lambda: read_arrays(weights))).startswith(f"{weights}: damaged")


def test_a_fault_of_ours_stays_one() -> None:
    assert said_of(lambda: json.loads("{")) is None
    assert said_of(lambda: [][0]) is None


@pytest.mark.parametrize(
    ("command", "file"),
    [
        (("predict", "picture.png", "--dataset", "digits"), paths.report("digits") / "scores.csv"),
        (("sync", "digits"), Path("dvc.lock")),
    ],
)
@pytest.mark.usefixtures("project")
def test_commands_say_it_in_one_line(command: tuple[str, ...], file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    file.write_text(in_conflict(file.read_text()))
    ended = CliRunner().invoke(main, command)
    assert ended.exit_code == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"resblock: {file}, line 1: git left the conflict")


@pytest.mark.usefixtures("project")
def test_check_names_the_training_and_its_file_that_is_damaged() -> None:
    file = paths.run(KEY) / "run.json"
    file.write_text(in_conflict(file.read_text()))
    ended = CliRunner().invoke(main, ["check"])
    assert f"{paths.stage(KEY)}: {file}, line 1: git left the conflict" in ended.stderr


@pytest.mark.parametrize("name", ["run.json", "score.csv"])
@pytest.mark.usefixtures("project")
def test_a_conflict_in_scores_is_named_by_its_file(name: str) -> None:
    file = paths.scores(KEY) / name
    file.parent.mkdir(parents=True)
    shutil.copy(ROOT / file, file)
    file.write_text(in_conflict(file.read_text(), after=1))
    assert f"{file}, line 2: git left the conflict" in str(damaged_file(KEY))


@pytest.mark.usefixtures("project")
def test_a_conflict_is_no_reason_to_train_anew() -> None:
    file = paths.run(KEY) / "run.json"
    file.write_text(in_conflict(file.read_text()))
    with pytest.raises(UserError, match="line 1: git left the conflict") as caught:
        training_of(asked(read_params(paths.PARAMS), KEY))
    assert "dvc repro" not in str(caught.value)


@pytest.mark.usefixtures("project")
def test_sync_shows_the_rest_and_names_the_file_that_is_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    file = paths.run(KEY) / "curve.csv"
    file.write_text(in_conflict(file.read_text()))
    ended = CliRunner().invoke(main, ["sync", "digits", "--check"])
    assert f"warning: left out: {file}, line 1: git left the conflict" in ended.stderr
    assert "plain-8-0: not in MLflow" not in ended.stdout
    assert "plain-8-1: not in MLflow" in ended.stdout


@pytest.mark.usefixtures("project")
def test_a_seed_that_nobody_trained_is_answered_by_those_that_are_there() -> None:
    ended = CliRunner().invoke(main, ["predict", "picture.png", "--dataset", "digits", "--seed", "7"])
    assert "no training on digits that was asked for has finished; finished are cnn-4, plain-8," in ended.stderr
    assert ended.stderr.endswith(" with seed 0, 1, 2, 3, 4\n")
