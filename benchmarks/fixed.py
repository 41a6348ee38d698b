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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from benchmarks.workers import ROOT
from resblock import paths
from resblock.files import read_json
from resblock.params import read_params

DATASET = "cifar10"
REPEATS = 5
PRIVATE = ("MLFLOW_", "DVC_")  # variables that would send a benchmark's runs to somebody's store


@dataclass(frozen=True)
class FixedCost:
    """One promise, kept or not."""

    what: str
    measured: float
    limit: float
    unit: str


def measure_fixed_costs(say: Callable[[str], None]) -> Iterator[FixedCost]:
    """Yield each cost as it is known; `say` what is left out. Raises ClickException where what is measured fails."""
    yield FixedCost("`resblock --help`", _median_seconds([sys.executable, "-m", "resblock", "--help"]), 0.3, "s")
    if (targets := _up_to_date()) is None:
        say("dvc repro with nothing to do: left out, since no report is up to date; dvc repro report@digits first")
    else:
        seconds = _median_seconds([sys.executable, "-m", "dvc", "repro", *targets])
        yield FixedCost(f"`{' '.join(('dvc', 'repro', *targets))}` with nothing to do", seconds, 3.0, "s")
    with TemporaryDirectory() as scratch:
        folder = _project(Path(scratch))
        tracked = json.loads(_run([sys.executable, "-m", "benchmarks.tracking"], folder))
        first = [_seconds_to_first_step(folder, "residual-20") for _ in range(REPEATS)]
        yield FixedCost(
            "`resblock train cifar10 residual-20 0`, from its start to its first step done",
            statistics.median(first),
            8.0,
            "s",
        )
    training = json.loads(_run([sys.executable, "-m", "benchmarks.training", "residual-8"]))
    share = tracked["epoch_seconds"] / training["epoch_seconds"] + tracked["watching"]
    yield FixedCost("MLflow, of an epoch of residual-8 on CIFAR-10", 100 * share, 1.0, "%")
    training = json.loads(_run([sys.executable, "-m", "benchmarks.training", "residual-20"]))
    yield FixedCost(
        "peak memory of training residual-20 on CIFAR-10, validation included", training["peak_bytes"] / 1e9, 2.5, "GB"
    )
    yield from _synchronisation()


def _up_to_date() -> list[str] | None:
    """Return which targets have nothing to do here: an empty list for all of the study, None where there is none."""
    datasets = read_params(ROOT / paths.PARAMS).study.datasets
    targets = [f"report@{dataset}" for dataset in datasets]
    command = [sys.executable, "-m", "dvc", "status", "--json", "--with-deps"]
    fresh = [target for target in targets if not json.loads(_run([*command, target]) or "{}")]
    return [] if fresh == targets else fresh or None


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
        env={**_environment(), "TERM": "xterm", "COLUMNS": "120"},
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


def _median_seconds(command: Sequence[str]) -> float:
    """Return the median wall clock of `command`, after one call that brings its files into memory."""
    _run(command)
    seconds: list[float] = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        _run(command)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def _run(command: Sequence[str], folder: Path = ROOT) -> str:
    ended = subprocess.run(  # noqa: S603
        command, cwd=folder, env=_environment(), capture_output=True, text=True, check=False
    )
    if ended.returncode:
        words = (ended.stdout + ended.stderr)[-2000:]
        raise click.ClickException(f"{' '.join(command)} failed:\n{words}")
    return ended.stdout


def _environment() -> Mapping[str, str]:
    """Return the environment in which `resblock` and the benchmarks are found, whatever the folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PRIVATE)}
    here = str(Path(sys.executable).parent)
    search = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    return {**kept, "PATH": os.pathsep.join((here, os.environ["PATH"])), "PYTHONPATH": search}
