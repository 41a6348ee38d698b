"""A run's files, and back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from resblock.core.seeds import generator
from resblock.core.training.run import (
    CURVE,
    GRADIENTS,
    MANIFEST,
    METRICS,
    WEIGHTS,
    Cost,
    EpochRow,
    Run,
    read_cost,
    read_curve,
    read_run,
    write_cost,
    write_run,
)

FIRST = EpochRow(1, 0.001, 1.5, 0.4, 1.6, 0.35, 1.55, 0.375, 1.45, 0.45)
LAST = EpochRow(2, 0.0005, 1 / 3, 0.1 + 0.2, 1e-17, 2 / 3, 123456.789, 0.1, 7 / 9, 0.7)
NAN = float("nan")
DIVERGED = EpochRow(2, 0.0005, NAN, 0.1, *[NAN] * 6)
RUN = Run(
    manifest={"stage": "train@digits-cnn-4-0", "seed": 0, "recipe": {"epochs": 2, "rescale": True}, "key": "abc"},
    status="finished",
    curve=[FIRST, LAST],
    weights={"conv/kernel": np.array([[0.1, -2.5]], np.float32), "conv/bias": np.zeros(2, np.float32)},
)
COST = Cost(
    started="2024-01-02T03:04:05+00:00",
    epoch_seconds=(6.0, 2.0, 2.5),
    images_per_second=640.25,
    parameters=113_738,
    multiply_adds=10_000_000,
    machine="a processor, Linux",
    threads=2,
    versions={"keras": "3.15.0"},
)


def test_a_run_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    write_run(tmp_path, RUN)
    found = read_run(tmp_path)
    assert found.manifest == RUN.manifest
    assert found.status == "finished"
    assert list(found.curve) == [FIRST, LAST]
    assert {name: (array.dtype, array.tolist()) for name, array in found.weights.items()} == {
        name: (array.dtype, array.tolist()) for name, array in RUN.weights.items()
    }


def test_every_run_leaves_the_same_files(tmp_path: Path) -> None:
    write_run(tmp_path / "finished", RUN)
    write_run(tmp_path / "diverged", replace(RUN, status="diverged", curve=[FIRST, DIVERGED]))
    for folder in ("finished", "diverged"):
        assert {path.name for path in (tmp_path / folder).iterdir()} == {WEIGHTS, CURVE, GRADIENTS, METRICS, MANIFEST}


def test_a_diverged_run_comes_back_as_one(tmp_path: Path) -> None:
    write_run(tmp_path, replace(RUN, status="diverged", curve=[FIRST, DIVERGED]))
    found = read_run(tmp_path)
    assert found.status == "diverged"
    assert found.curve[0] == FIRST
    assert str(found.curve[1]) == str(DIVERGED)  # nan is not equal to itself
    assert json.loads((tmp_path / METRICS).read_text()) == {
        "status": "diverged",
        "epochs": 2,
        "learning_rate": 0.0005,
        "loss": None,
        "accuracy": 0.1,
        "validation_loss": None,
        "validation_accuracy": None,
        "validation_loss_reestimated": None,
        "validation_accuracy_reestimated": None,
        "train_loss_reestimated": None,
        "train_accuracy_reestimated": None,
    }


def test_metrics_are_those_of_the_last_epoch(tmp_path: Path) -> None:
    write_run(tmp_path, RUN)
    assert json.loads((tmp_path / METRICS).read_text()) == {
        "status": "finished",
        "epochs": 2,
        "learning_rate": 0.0005,
        "loss": 1 / 3,
        "accuracy": 0.1 + 0.2,
        "validation_loss": 1e-17,
        "validation_accuracy": 2 / 3,
        "validation_loss_reestimated": 123456.789,
        "validation_accuracy_reestimated": 0.1,
        "train_loss_reestimated": 7 / 9,
        "train_accuracy_reestimated": 0.7,
    }


def test_the_curve_is_a_table_any_program_reads(tmp_path: Path) -> None:
    write_run(tmp_path, RUN)
    lines = (tmp_path / CURVE).read_bytes().split(b"\n")
    assert lines[0] == (
        b"epoch,learning_rate,loss,accuracy,validation_loss,validation_accuracy,"
        b"validation_loss_reestimated,validation_accuracy_reestimated,"
        b"train_loss_reestimated,train_accuracy_reestimated"
    )
    assert lines[1] == b"1,0.001,1.5,0.4,1.6,0.35,1.55,0.375,1.45,0.45"
    assert len(lines) == 4
    (tmp_path / WEIGHTS).unlink()
    assert read_curve(tmp_path) == [FIRST, LAST]


def test_any_figures_come_back_to_the_last_bit(tmp_path: Path) -> None:
    draw = generator(0, "figures")
    values = draw.random((500, 9)) * 10.0 ** draw.integers(-12, 12, (500, 9))
    curve = [EpochRow(epoch, *row) for epoch, row in enumerate(values.tolist(), start=1)]
    write_run(tmp_path, replace(RUN, curve=curve))
    assert read_curve(tmp_path) == curve


def test_the_manifest_takes_its_place_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    place = Path.replace

    def record(partial: Path, path: Path) -> Path:
        order.append(path.name)
        return place(partial, path)

    monkeypatch.setattr("pathlib.Path.replace", record)
    write_run(tmp_path, RUN)
    assert order == [WEIGHTS, CURVE, GRADIENTS, METRICS, MANIFEST]


@pytest.mark.parametrize("room_for", [0, 1, 2, 3])
def test_a_full_disk_leaves_the_former_run_whole(
    room_for: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path, RUN)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    synced: list[int] = []

    def sync(handle: int) -> None:
        if len(synced) == room_for:
            raise OSError(28, "No space left on device")
        synced.append(handle)

    monkeypatch.setattr("os.fsync", sync)
    with pytest.raises(OSError, match="No space"):
        write_run(tmp_path, Run({**RUN.manifest, "key": "another"}, "diverged", RUN.curve, RUN.weights))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_costs_come_back(tmp_path: Path) -> None:
    write_cost(tmp_path / "cost.json", COST)
    assert read_cost(tmp_path / "cost.json") == COST
    assert COST.seconds == 10.5
