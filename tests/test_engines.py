"""Who computes: which worker a unit gets here, and the engine of docs/engines.md, whose jobs are processes here."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from resblock import paths
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.splits import Split, SplitName
from resblock.core.training.job import Job, Workshop
from resblock.core.training.run import EpochRow
from resblock.core.training.watcher import Nobody
from resblock.running.engines import local
from resblock.running.engines.local import Local
from resblock.running.queue import Unit
from resblock.startup import start_keras
from tests.conftest import ROOT, write_digits

# submitit's executor hands back futures as Python's does.
SUBMITIT = """
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

class AutoExecutor(ProcessPoolExecutor):
    def __init__(self, folder):
        super().__init__(1, get_context("spawn"))

    def update_parameters(self, **parameters):
        assert parameters["slurm_partition"] == "short"
"""


class Noting(Nobody):
    def __init__(self) -> None:
        self.epochs: list[EpochRow] = []
        self.ended = 0

    def epoch(self, row: EpochRow) -> None:
        self.epochs.append(row)

    def written(self, run: Any, cost: Any) -> None:
        self.ended += 1


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of the page, importable here and in the processes that it starts."""
    code = re.search(r"```python\n(.*?)```", (ROOT / "docs/engines.md").read_text(), re.DOTALL)
    assert code
    (tmp_path / "slurm_engine.py").write_text(code[1])
    (tmp_path / "submitit.py").write_text(SUBMITIT)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    return importlib.import_module("slurm_engine")


def test_the_slurm_engine_of_the_page_trains_as_a_workshop_does(
    slurm: Any, tmp_path: Path, digits: dict[SplitName, Split], make_recipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_digits(tmp_path, digits)
    key = RunKey("digits", ModelSpec.parse("cnn-4"), 0)
    places = {name: tmp_path / name for name in ("results", "cost", "checkpoints")}
    job = Job(key, make_recipe(epochs=3), splits=tmp_path / paths.splits("digits"), **places)
    unit = Unit(("train@digits-cnn-4-0",), 1.0, where="cluster")
    with slurm.Slurm("short", 2, [1]) as engine, engine.seat(unit) as variables:
        assert engine.slots["cluster"] == 2
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
    watcher = Noting()
    theirs = slurm.SlurmWorkshop().train(job, watcher)
    assert [row.epoch for row in watcher.epochs] == [1, 2, 3]
    assert watcher.ended == 1
    ours = replace(job, results=tmp_path / "serial")
    Workshop(start_keras).train(ours, Nobody())
    assert theirs.status == "finished"
    assert {path.name: path.read_bytes() for path in job.results.iterdir()} == {
        path.name: path.read_bytes() for path in ours.results.iterdir()
    }


class Hand:
    """A worker without a process."""

    started = 0

    def __init__(self, *_: object) -> None:
        Hand.started += 1
        self.environment, self.lives, self.ended = {"HAND": str(Hand.started)}, True, False

    @classmethod
    def start(cls, *_: object) -> Hand:
        return cls()

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        self.ended = True


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Local]:
    """An engine with two places, whose workers are no processes."""
    monkeypatch.setattr(local, "Worker", Hand)
    monkeypatch.setattr(Hand, "started", 0)
    with Local(2, [1]) as engine:
        yield engine


CUT = Unit(("preprocess@digits",), 1.0)


def computing(threads: int) -> Unit:
    return Unit(("train@digits-cnn-4-0",), 1.0, threads=threads)


def hand(engine: Local, unit: Unit) -> str:
    """Return which worker a unit gets; none at all: it runs by itself."""
    with engine.seat(unit) as variables:
        return variables.get("HAND", "")


def test_workers_are_there_before_what_needs_them_and_do_for_what_needs_none(engine: Local) -> None:
    engine.prepare([CUT, *[computing(1)] * 5])
    assert Hand.started == 2
    with engine.seat(CUT) as first, engine.seat(computing(1)) as second:
        assert {first["HAND"], second["HAND"]} == {"1", "2"}
    assert hand(engine, computing(2)) == first["HAND"]  # which has computed nothing yet
    assert Hand.started == 2


def test_what_computes_nothing_starts_no_worker(engine: Local) -> None:
    engine.prepare([CUT])
    assert hand(engine, CUT) == ""
    assert hand(engine, computing(1)) == "1"
    assert hand(engine, CUT) == "1"
    assert hand(engine, computing(1)) == "1"  # as many threads as before


def test_a_worker_makes_room_for_other_threads_and_a_dead_one_for_any(engine: Local) -> None:
    with engine.seat(computing(1)), engine.seat(computing(1)):
        pass
    ((_, first), (_, second)) = engine._free  # pyright: ignore[reportPrivateUsage]
    assert hand(engine, computing(2)) == "3"
    assert (first.ended, second.ended) == (True, False)  # pyright: ignore[reportAttributeAccessIssue]
    second.lives = False  # pyright: ignore[reportAttributeAccessIssue]
    assert hand(engine, computing(1)) == "4"
    assert second.ended  # pyright: ignore[reportAttributeAccessIssue]
