"""The campaign's judge: what ended otherwise, was recorded wrongly or left behind is found."""

from __future__ import annotations

import io
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from resblock.core.files import digest_file, write_json
from resblock.params import Params
from tests.chaos.campaign import Campaign, Event, shuffled_deck, table
from tests.chaos.kinds import KINDS, SHORT
from tests.chaos.scene import Scene
from tests.chaos.state import EndState, differences, files_of, misrecorded
from tests.test_faults import serving

Pretend = Callable[..., subprocess.Popen[bytes]]

EXPECTED = EndState({"train a": "1", "train b": "2"}, {"train k": {"status": "FINISHED"}})


def test_a_study_that_ended_alike_differs_in_nothing() -> None:
    assert differences(EXPECTED, EXPECTED) == []


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (EndState({"train a": "1"}, EXPECTED.shown), "outs: train b is missing"),
        (EndState({**EXPECTED.outs, "train c": "3"}, EXPECTED.shown), "outs: train c is too many"),
        (EndState({**EXPECTED.outs, "train b": "3"}, EXPECTED.shown), 'outs: train b is "3", undisturbed "2"'),
        (EndState(EXPECTED.outs, {}), "MLflow: train k is missing"),
        (EndState(EXPECTED.outs, {"train k": {"status": "KILLED"}}), "MLflow: train k is {"),
    ],
)
def test_what_ended_otherwise_is_told(found: EndState, words: str) -> None:
    (said,) = differences(found, EXPECTED)
    assert said.startswith(words)


@pytest.mark.parametrize("place", ["dvc.lock", "run cache"])
@pytest.mark.parametrize("rate", [0.001, 0.002])
def test_a_training_recorded_under_other_parameters_is_told(
    place: str, rate: float, tmp_path: Path, params: Params
) -> None:
    own = params.recipe("digits").tree()
    write_json(tmp_path / "training/run.json", {"dataset": "digits", "recipe_name": "base", "recipe": own})
    entry = {
        "cmd": "resblock train digits plain-8 0",
        "outs": [{"path": "training/run.json", "md5": "0" * 32}, {"path": "weights.npz", "md5": "1" * 32}],
        "params": {"params.yaml": {"train.digits": {**own, "learning_rate": rate}}},
    }
    write_json(tmp_path / "dvc.lock", {"stages": {"train@digits-plain-8-0": entry} if place == "dvc.lock" else {}})
    if place == "run cache":
        (tmp_path / ".dvc/cache/runs/ab/key").mkdir(parents=True)
        (tmp_path / ".dvc/cache/runs/ab/key/value").write_text(json.dumps(entry))
    assert [said.split(",")[0] for said in misrecorded(tmp_path)] == ([place] if rate == 0.002 else [])


def test_a_deck_holds_each_kind_equally_often_and_follows_from_its_seed() -> None:
    deck = shuffled_deck(list(KINDS), 2 * len(KINDS), random.Random(1))
    assert {deck.count(kind) for kind in KINDS} == {2}
    assert deck == shuffled_deck(list(KINDS), 2 * len(KINDS), random.Random(1))
    assert deck != shuffled_deck(list(KINDS), 2 * len(KINDS), random.Random(2))


def test_the_full_campaign_has_more_than_twelve_kinds_and_the_short_one_eight() -> None:
    assert len(KINDS) >= 12
    assert len(set(SHORT) & KINDS.keys()) == 8
    assert all(bool(kind.act) != bool(kind.start) for kind in KINDS.values())


def test_the_digests_are_those_of_the_files_whatever_dvc_lock_says(tmp_path: Path) -> None:
    for name, content in (("weights.npz", "w"), ("data/a.csv", "a"), ("index.html", "12:30")):
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_text(content)
    outs = [f"out/{name}" for name in ("weights.npz", "data", "index.html", "gone.csv")]
    stage = {"cmd": "x", "outs": [{"path": path, "md5": "0" * 32} for path in outs]}
    write_json(tmp_path / "dvc.lock", {"stages": {"report@digits": stage}})
    found = dict(files_of(tmp_path))
    assert found["report@digits out/weights.npz"] == "0" * 32
    assert found["out/weights.npz"] == digest_file(tmp_path / "out/weights.npz")
    assert found["out/gone.csv"] == "missing"
    assert not any("index.html" in name for name in found)
    (tmp_path / "out/data/a.csv").write_text("b")
    assert {name for name, digest in files_of(tmp_path).items() if found[name] != digest} == {"out/data/a.csv"}


def test_a_campaign_goes_on_from_the_rounds_that_were_finished(scene: Scene) -> None:
    campaign = Campaign(scene, Path("pristine"), EXPECTED, ["DVC killed", "DVC killed", "node lost"], io.StringIO())
    log = [
        {"round": 1, "second": 2.0, "kind": "DVC killed", "what": "x"},
        {"round": 1, "second": 9.0, "ended": ["it was lost"]},
        {"round": 2, "second": 12.0, "kind": "node lost", "what": "y"},  # whose study was not brought to its end
    ]
    campaign.go_on(map(json.dumps, log))
    assert campaign.deck == ["DVC killed", "node lost"]
    assert [event.what for event in campaign.events] == ["x"]
    assert campaign.wrong == ["round 1: it was lost"]
    assert 9 <= campaign.seconds < 20


def test_the_table_counts_what_happened() -> None:
    events = [Event(1, 0.0, "DVC killed", "x"), Event(2, 1.0, "DVC killed", "y")]
    lines = list(table(events, []))
    assert "| DVC killed | SIGKILL to a process of DVC | 2 |" in lines
    assert "| **1 kinds** | in 2 studies | **2** |" in lines
    assert "Wrong at the end: nothing." in lines
    assert "- it was lost" in list(table(events, ["it was lost"]))


# Faults, against processes that look like those of a study.


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    (tmp_path / "project").mkdir()
    with serving(200, 0.0) as server:
        scene = Scene(tmp_path / "project", random.Random(0), server, io.StringIO())
        yield scene
        scene.end_all()


@pytest.fixture
def pretend(scene: Scene) -> Iterator[Pretend]:
    """What starts a process of the project, its command line ending with the words given; it ends with the test."""
    script, started = scene.root / "resblock", ExitStack()

    def start(*words: str) -> subprocess.Popen[bytes]:
        script.write_text("input()\n")
        process = subprocess.Popen([sys.executable, script, *words], cwd=scene.root, stdin=subprocess.PIPE)
        started.enter_context(process)
        started.callback(process.kill)
        return process

    with started:
        yield start


def within_seconds(holds: Callable[[], bool]) -> bool:
    """Wait until it holds: a new process has its parent's command line, a signal has not arrived, for a moment."""
    for _ in range(200):
        if holds():
            return True
        time.sleep(0.05)
    return False


def seen(scene: Scene, stage: str) -> bool:
    return within_seconds(lambda: bool(scene.workers(stage)))


def test_a_fault_hits_its_stage_and_no_other(scene: Scene, pretend: Pretend) -> None:
    training, report = pretend("train", "digits"), pretend("report", "digits")
    assert seen(scene, "train")
    assert seen(scene, "report")
    act = KINDS["training killed"].act
    assert act is not None
    assert "SIGKILL" in (act(scene) or "")
    training.communicate()
    assert training.returncode == -signal.SIGKILL
    assert report.poll() is None
    assert act(scene) is None  # nobody trains any more
    report.kill()
    report.communicate()


def test_a_runner_is_found_that_runs_the_code_of_its_own_folder(scene: Scene) -> None:
    """In a project with sources `resblock run` starts itself anew as `python -m resblock run`."""
    package = scene.root / "resblock"
    package.mkdir()
    (package / "__main__.py").write_text("input()\n")
    command = [sys.executable, "-m", "resblock", "run", "digits"]
    with subprocess.Popen(command, cwd=scene.root, stdin=subprocess.PIPE) as runner:
        assert seen(scene, "run")
        act = KINDS["runner killed"].act
        assert act is not None
        assert "SIGKILL" in (act(scene) or "")
        assert runner.wait(20) == -signal.SIGKILL


def test_a_stopped_process_goes_on_when_all_is_settled(scene: Scene, pretend: Pretend) -> None:
    training = pretend("train", "digits")
    assert seen(scene, "train")
    act = KINDS["training stopped"].act
    assert act is not None
    assert "SIGCONT after" in (act(scene) or "")
    (process,) = scene.workers("train")
    assert within_seconds(lambda: process.status() == "stopped")
    scene.tick(settle=True)
    training.communicate(b"\n")
    assert training.returncode == 0


def test_an_edit_is_undone_to_the_byte(scene: Scene, root: Path) -> None:
    file = scene.root / "params.yaml"
    file.write_bytes((root / "params.yaml").read_bytes())
    act = KINDS["parameters edited"].act
    assert act is not None
    assert act(scene)
    assert file.read_bytes() != (root / "params.yaml").read_bytes()
    assert act(scene) is None  # one at a time
    scene.tick(settle=True)
    assert file.read_bytes() == (root / "params.yaml").read_bytes()


@pytest.mark.parametrize("name", ["split truncated", "byte flipped"])
def test_splits_are_damaged_where_there_are_any(name: str, scene: Scene) -> None:
    act = KINDS[name].act
    assert act is not None
    assert act(scene) is None
    file = scene.root / "data/splits/digits/train_images.npy"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"0" * 1000)
    assert act(scene)
    assert file.read_bytes() != b"0" * 1000
