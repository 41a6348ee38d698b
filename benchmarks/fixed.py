"""What every command costs before it does its work, and what a training costs beside its steps."""

from __future__ import annotations

import json
import math
import os
import pty
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from benchmarks import large
from benchmarks.commands import REPEATS, environment, median_seconds, run
from benchmarks.repro import make_up_to_date_copy
from benchmarks.workers import ROOT
from resblock import paths
from resblock.core.files import read_json
from resblock.params import read_params

DATASET = "cifar10"
MEMORY_LIMIT = 2.5  # GB, of a training


@dataclass(frozen=True)
class FixedCost:
    """One promise, kept or not."""

    what: str
    measured: float
    limit: float
    unit: str


def measure_fixed_costs() -> Iterator[FixedCost]:
    """Yield each cost as it is known. Raises ClickException where what is measured fails."""
    yield FixedCost("`resblock --help`", median_seconds([sys.executable, "-m", "resblock", "--help"]), 0.3, "s")
    with TemporaryDirectory() as scratch:
        make_up_to_date_copy(Path(scratch))
        seconds = median_seconds([sys.executable, "-m", "dvc", "repro"], Path(scratch))
        yield FixedCost("`dvc repro` of the whole study with nothing to do", seconds, 3.0, "s")
    with TemporaryDirectory() as scratch:
        folder = _project(Path(scratch))
        tracked = json.loads(run([sys.executable, "-m", "benchmarks.tracking"], folder))
        first = [_seconds_to_first_step(folder, "residual-20") for _ in range(REPEATS)]
        yield FixedCost(
            "`resblock train cifar10 residual-20 0`, from its start to its first step done",
            statistics.median(first),
            5.0,
            "s",
        )
    training = json.loads(run([sys.executable, "-m", "benchmarks.training", "residual-8"]))
    share = tracked["epoch_seconds"] / training["epoch_seconds"] + tracked["watching"]
    yield FixedCost("MLflow, of an epoch of residual-8 on CIFAR-10", 100 * share, 1.0, "%")
    yield from measure_memory()
    yield from _synchronisation()


def measure_memory() -> Iterator[FixedCost]:
    """Yield the peak resident memory of trainings. Raises ClickException where one fails, or the disk has no room."""
    training = json.loads(run([sys.executable, "-m", "benchmarks.training", "residual-20"]))
    yield FixedCost(
        "peak memory of training residual-20 on CIFAR-10, validation included",
        training["peak_bytes"] / 1e9,
        MEMORY_LIMIT,
        "GB",
    )
    with TemporaryDirectory() as scratch:
        large.write_images(Path(scratch))
        training = json.loads(run([sys.executable, "-m", "benchmarks.large", "residual-20", scratch]))
    shape = " x ".join(str(side) for side in large.SHAPE)
    yield FixedCost(
        f"peak memory of training residual-20 on {large.IMAGES:,} images of {shape}, {large.STEPS} steps",
        training["peak_bytes"] / 1e9,
        MEMORY_LIMIT,
        "GB",
    )


def _synchronisation() -> Iterator[FixedCost]:
    from benchmarks import sync

    rebuilt, whole = sync.measure()
    trainings = len(sync.SPECS) * len(sync.SEEDS)
    yield FixedCost(f"`resblock sync` of {trainings} trainings into an empty store", rebuilt, sync.LIMIT, "s")
    yield FixedCost("`resblock sync` once more, with nothing to do", whole, sync.LIMIT, "s")


def _project(folder: Path) -> Path:
    """Make a project of its own, so that what a benchmark trains and logs is nobody's result."""
    (folder / paths.PARAMS).write_bytes((ROOT / paths.PARAMS).read_bytes())
    (folder / "data").mkdir()
    (folder / "data/splits").symlink_to((ROOT / paths.splits(DATASET)).parent)
    return folder


def _seconds_to_first_step(folder: Path, network: str) -> float:
    """Start a training on a terminal, watch its bar until the first step is done, and end it."""
    sizes = read_json(ROOT / paths.splits(DATASET) / "dataset.json")["sizes"]
    steps = math.ceil(sizes["train"] / read_params(ROOT / paths.PARAMS).recipe(DATASET).batch_size)
    ours, theirs = pty.openpty()
    began = time.perf_counter()
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "resblock", "train", DATASET, network, "0"],
        cwd=folder,
        env={**environment(), "TERM": "xterm", "COLUMNS": "120"},
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = ""
    try:
        while not re.search(rf"[1-9]\d*/{steps}\b", shown):
            shown += os.read(ours, 4096).decode(errors="replace")
        return time.perf_counter() - began
    except OSError:  # the terminal's other end is closed: the training ended before its first step
        raise click.ClickException(f"resblock train {DATASET} {network} 0 failed:\n{shown[-2000:]}") from None
    finally:
        process.terminate()
        os.close(ours)
        process.wait()
