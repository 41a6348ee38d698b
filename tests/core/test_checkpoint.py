"""Where a training stood: saved whole, refused when it is anything else."""

from __future__ import annotations

import errno
import math
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resblock.core.errors import UserError
from resblock.core.files import arrays_bytes
from resblock.core.training.checkpoint import KEPT, Checkpoint, Progress
from resblock.core.training.run import EpochRow

ROW = EpochRow(1, 0.001, 1 / 3, 0.4, 1.6, 0.35, 1.55, 0.375, 1.45, 0.45)
PROGRESS = Progress(
    variables={
        "model/0/stem_conv/kernel": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3),
        "model/1/seed_generator_state": np.array([7, 2**32 - 1], np.uint32),
        "optimizer/0/iteration": np.array(4, np.int32),
    },
    started="2024-01-02T03:04:05+00:00",
    curve=[ROW],
    epoch_seconds=[2.5],
    train_seconds=[2.0],
)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return Checkpoint(tmp_path / "checkpoints", "abc")


def load(checkpoint: Checkpoint) -> tuple[Progress | None, list[str]]:
    warnings: list[str] = []
    return checkpoint.load(warnings.append), warnings


def save(checkpoint: Checkpoint, progress: Progress = PROGRESS) -> list[str]:
    warnings: list[str] = []
    checkpoint.save(progress, warnings.append)
    return warnings


def assert_is_as_saved(found: Progress | None) -> None:
    assert found is not None
    assert list(found.variables) == list(PROGRESS.variables)
    for name, value in PROGRESS.variables.items():
        assert found.variables[name].dtype == value.dtype
        assert np.array_equal(found.variables[name], value)
    assert (found.curve, found.epoch_seconds, found.train_seconds) == ([ROW], [2.5], [2.0])


def test_progress_comes_back(checkpoint: Checkpoint) -> None:
    save(checkpoint)
    found, warnings = load(checkpoint)
    assert_is_as_saved(found)
    assert warnings == []
    assert [path.name for path in checkpoint.folder.iterdir()] == ["abc.npz"]


def test_a_diverged_row_comes_back(checkpoint: Checkpoint) -> None:
    nan = EpochRow(2, 0.001, math.nan, 0.1, *[math.nan] * 6)
    save(checkpoint, Progress(PROGRESS.variables, PROGRESS.started, [ROW, nan], [1.0, 1.0], [1.0, 1.0]))
    found, _ = load(checkpoint)
    assert found is not None
    assert str(found.curve[1]) == str(nan)


def test_no_file_is_no_progress_and_no_warning(checkpoint: Checkpoint) -> None:
    assert load(checkpoint) == (None, [])
    checkpoint.remove()
    save(checkpoint)
    checkpoint.remove()
    assert load(checkpoint) == (None, [])


# NumPy leaves the file of an archive that it cannot read to the garbage collector.

DAMAGES = {
    "empty": b"",
    "no archive": b"not an archive",
    "another archive": b"PK\x05\x06" + bytes(18),
    "a pickle": b"\x80\x04N.",
    "arrays of something else": arrays_bytes({"x": np.zeros(3)}),
    "text where the state belongs": arrays_bytes({"state.json": np.frombuffer(b"{}", np.uint8)}),
    "a shape that no memory holds": arrays_bytes({"x": np.zeros(3)}).replace(b"(3,), }  ", b"(99999999999999,), }"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_no_checkpoint_is_reported_and_ignored(damage: str, checkpoint: Checkpoint) -> None:
    checkpoint.folder.mkdir()
    checkpoint.path.write_bytes(DAMAGES[damage])
    found, (warning,) = load(checkpoint)
    assert found is None
    assert str(checkpoint.path) in warning
    assert "starting from the first epoch" in warning


def test_a_checkpoint_cut_anywhere_is_reported_and_ignored(checkpoint: Checkpoint) -> None:
    save(checkpoint)
    whole = checkpoint.path.read_bytes()
    for end in range(0, len(whole), 7):
        checkpoint.path.write_bytes(whole[:end])
        found, warnings = load(checkpoint)
        assert found is None
        assert len(warnings) == 1


def outcome(checkpoint: Checkpoint) -> str:
    try:
        found, warnings = load(checkpoint)
    except Exception as error:
        return f"raised {type(error).__name__}"
    if warnings:
        return "refused" if found is None else "used with a warning"
    assert_is_as_saved(found)
    return "as saved"


def test_a_checkpoint_with_a_flipped_bit_is_refused_unless_the_bit_says_nothing(checkpoint: Checkpoint) -> None:
    save(checkpoint)
    whole = checkpoint.path.read_bytes()
    outcomes: set[str] = set()
    for place in range(len(whole)):
        for bit in range(8) if place % 16 == 0 else [place % 8]:
            flipped = whole[place] ^ 1 << bit
            checkpoint.path.write_bytes(whole[:place] + bytes([flipped]) + whole[place + 1 :])
            outcomes.add(outcome(checkpoint))
    assert outcomes == {"refused", "as saved"}  # dates and the like say nothing


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_checkpoint_with_any_passage_overwritten_is_refused_or_as_saved(
    checkpoint: Checkpoint, data: st.DataObject
) -> None:
    save(checkpoint)
    whole = checkpoint.path.read_bytes()
    start = data.draw(st.integers(0, len(whole) - 1))
    noise = data.draw(st.binary(min_size=1, max_size=200))
    checkpoint.path.write_bytes(whole[:start] + noise + whole[start + len(noise) :])
    assert outcome(checkpoint) in ("refused", "as saved")


def test_another_trainings_checkpoint_is_reported_and_ignored(checkpoint: Checkpoint) -> None:
    other = Checkpoint(checkpoint.folder, "other")
    save(checkpoint)
    checkpoint.path.rename(other.path)
    found, (warning,) = load(other)
    assert found is None
    assert "it belongs to abc" in warning


def test_a_checkpoint_holds_each_variable_once_and_does_not_grow_with_them(checkpoint: Checkpoint) -> None:
    variables = {f"model/{number}/kernel": np.ones((64, 64), np.float32) for number in range(60)}
    save(checkpoint, Progress(variables, PROGRESS.started, [ROW] * 200, [1.0] * 200, [1.0] * 200))
    content = sum(array.nbytes for array in variables.values())
    assert content < checkpoint.path.stat().st_size < content * 1.1


# Held: one process at a time, and a folder that does not grow.


def held(checkpoint: Checkpoint) -> AbstractContextManager[None]:
    return checkpoint.held("digits-cnn-4-0", pytest.fail)


def test_a_held_checkpoint_goes_when_the_block_ends_well(checkpoint: Checkpoint) -> None:
    with held(checkpoint):
        save(checkpoint)
        assert checkpoint.path.exists()
    assert not list(checkpoint.folder.iterdir())


@pytest.mark.parametrize("end", [OSError(28, "No space left on device"), KeyboardInterrupt(), SystemExit(143)])
def test_a_held_checkpoint_stays_when_the_block_does_not_end_well(checkpoint: Checkpoint, end: BaseException) -> None:
    with pytest.raises(type(end)), held(checkpoint):
        save(checkpoint)
        raise end
    assert list(checkpoint.folder.iterdir()) == [checkpoint.path]


def test_a_second_process_of_the_same_training_is_refused(checkpoint: Checkpoint) -> None:
    with held(checkpoint):
        save(checkpoint)
        with (
            pytest.raises(UserError, match=rf"digits-cnn-4-0 is being trained already, by process {os.getpid()}; "),
            held(Checkpoint(checkpoint.folder, checkpoint.key)),
        ):
            pass
        assert_is_as_saved(load(checkpoint)[0])


def test_where_there_are_no_locks_a_training_says_so_and_goes_on(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    checkpoint.folder.mkdir()
    monkeypatch.setattr("fcntl.flock", flock)
    warnings: list[str] = []
    with checkpoint.held("digits-cnn-4-0", warnings.append):
        save(checkpoint)
    (warning,) = warnings
    assert "no locks" in warning


def leave(folder: Path, key: str, age: int) -> list[Path]:
    """Leave what a training killed in its checkpoint's write leaves, `age` seconds ago."""
    files = [folder / name for name in (f"{key}.npz", f"{key}.lock", f".{key}.npz.x1y2.partial")]
    for file in files:
        file.write_bytes(b"left")
        os.utime(file, (1e9 - age, 1e9 - age))
    return files


def test_only_the_newest_checkpoints_of_other_trainings_are_kept(checkpoint: Checkpoint) -> None:
    checkpoint.folder.mkdir()
    notes = checkpoint.folder / "notes.txt"
    notes.write_text("a person's")
    os.utime(notes, (0, 0))
    own = leave(checkpoint.folder, checkpoint.key, age=10_000)[0]
    others = [leave(checkpoint.folder, f"key-{age}", age) for age in range(KEPT + 10)]
    with pytest.raises(KeyboardInterrupt), held(checkpoint):
        raise KeyboardInterrupt
    kept = {file for files in others[:KEPT] for file in files}
    assert kept | {own, notes} <= set(checkpoint.folder.iterdir())
    assert not {file for files in others[KEPT:] for file in files} & set(checkpoint.folder.iterdir())


WAIT = """
import sys, time
from pathlib import Path
from resblock.core.training.checkpoint import Checkpoint
with Checkpoint(Path(sys.argv[1]), "key-old").held("another", print):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_checkpoint_that_a_living_process_uses_is_kept_however_old(checkpoint: Checkpoint) -> None:
    checkpoint.folder.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", WAIT, checkpoint.folder], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        old = checkpoint.folder / "key-old.npz"
        old.write_bytes(b"in use")
        for path in checkpoint.folder.iterdir():
            os.utime(path, (0, 0))
        for age in range(KEPT + 1):
            leave(checkpoint.folder, f"key-{age}", age)
        with held(checkpoint):
            pass
        assert old.exists()
        assert not (checkpoint.folder / f"key-{KEPT}.npz").exists()
        process.kill()
        process.wait()
    with held(checkpoint):
        pass
    assert not old.exists()


# A disk that is full.


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Fill the disk, or free it again."""
    sync = os.fsync

    def fill(full: bool) -> None:
        def fail(_: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr("os.fsync", fail if full else sync)

    return fill


def test_a_first_checkpoint_that_cannot_be_written_ends_the_training(
    checkpoint: Checkpoint, full: Callable[[bool], None]
) -> None:
    checkpoint.folder.mkdir()
    full(True)
    with pytest.raises(OSError, match="No space left") as caught:
        save(checkpoint)
    assert caught.value.filename == str(checkpoint.path)
    assert not list(checkpoint.folder.iterdir())


@pytest.mark.parametrize("resumed", [False, True], ids=["saved by this process", "saved by an earlier one"])
def test_a_later_checkpoint_that_cannot_be_written_is_reported_and_the_former_stands(
    checkpoint: Checkpoint, full: Callable[[bool], None], resumed: bool
) -> None:
    save(checkpoint)
    if resumed:
        checkpoint = Checkpoint(checkpoint.folder, checkpoint.key)
        load(checkpoint)
    full(True)
    two = Progress(PROGRESS.variables, PROGRESS.started, [ROW, replace(ROW, epoch=2)], [1.0, 1.0], [1.0, 1.0])
    (warning,) = save(checkpoint, two)
    assert str(checkpoint.path) in warning
    assert "No space left on device" in warning
    assert "back to epoch 1" in warning
    assert_is_as_saved(load(checkpoint)[0])
    full(False)
    assert save(checkpoint, two) == []
    found, _ = load(checkpoint)
    assert found is not None
    assert len(found.curve) == 2
