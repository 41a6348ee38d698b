"""Where a training stood: saved whole, refused when it is anything else."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from resblock.training.checkpoint import Checkpoint, Progress
from resblock.training.run import EpochRow

ROW = EpochRow(1, 0.001, 1 / 3, 0.4, 1.6, 0.35, 1.55, 0.375)
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


def assert_is_as_saved(found: Progress | None) -> None:
    assert found is not None
    assert list(found.variables) == list(PROGRESS.variables)
    for name, value in PROGRESS.variables.items():
        assert found.variables[name].dtype == value.dtype
        assert np.array_equal(found.variables[name], value)
    assert (found.curve, found.epoch_seconds, found.train_seconds) == ([ROW], [2.5], [2.0])


def test_progress_comes_back(checkpoint: Checkpoint) -> None:
    checkpoint.save(PROGRESS)
    found, warnings = load(checkpoint)
    assert_is_as_saved(found)
    assert warnings == []
    assert [path.name for path in checkpoint.folder.iterdir()] == ["abc.npz"]


def test_a_diverged_row_comes_back(checkpoint: Checkpoint) -> None:
    nan = EpochRow(2, 0.001, math.nan, 0.1, math.nan, math.nan, math.nan, math.nan)
    checkpoint.save(Progress(PROGRESS.variables, PROGRESS.started, [ROW, nan], [1.0, 1.0], [1.0, 1.0]))
    found, _ = load(checkpoint)
    assert found is not None
    assert str(found.curve[1]) == str(nan)


def test_no_file_is_no_progress_and_no_warning(checkpoint: Checkpoint) -> None:
    assert load(checkpoint) == (None, [])
    checkpoint.remove()
    checkpoint.save(PROGRESS)
    checkpoint.remove()
    assert load(checkpoint) == (None, [])


# NumPy leaves the file of an archive that it cannot read to the garbage collector.

DAMAGES = {
    "empty": b"",
    "no archive": b"not an archive",
    "another archive": b"PK\x05\x06" + bytes(18),
    "a pickle": b"\x80\x04N.",
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
    checkpoint.save(PROGRESS)
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
    checkpoint.save(PROGRESS)
    whole = checkpoint.path.read_bytes()
    outcomes: set[str] = set()
    for place in range(len(whole)):
        flipped = whole[place] ^ 1 << place % 8
        checkpoint.path.write_bytes(whole[:place] + bytes([flipped]) + whole[place + 1 :])
        outcomes.add(outcome(checkpoint))
    assert outcomes == {"refused", "as saved"}  # dates and the like say nothing


def test_another_trainings_checkpoint_is_reported_and_ignored(checkpoint: Checkpoint) -> None:
    other = Checkpoint(checkpoint.folder, "other")
    checkpoint.save(PROGRESS)
    checkpoint.path.rename(other.path)
    found, (warning,) = load(other)
    assert found is None
    assert "it belongs to abc" in warning
