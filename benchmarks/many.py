"""What it costs to run many trainings: ``python -m benchmarks many``.

Trainings that wait, on more workers than a machine has cores, show what the queue adds. A study whose commands do
nothing shows what DVC and the runner take of each stage. Trainings on a Ray cluster of this machine, where Ray is
installed, show what it adds to the runner's own workers.
"""

from __future__ import annotations

import heapq
import io
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self, cast

import click
import numpy as np
import psutil
from rich.console import Console
from ruamel.yaml import YAML

from benchmarks.commands import environment, run
from benchmarks.fixed import FixedCost
from benchmarks.repro import copy_tracked
from benchmarks.workers import ROOT
from resblock import paths
from resblock.core.files import read_json
from resblock.core.seeds import generator
from resblock.core.spec import ModelSpec, RunKey
from resblock.running.board import Board
from resblock.running.dvc import Listener
from resblock.running.queue import Queue, Unit, Where
from resblock.running.study import work_off

NETWORKS, SEEDS, WORKERS = 20, 50, 64
SHORTEST, LONGEST = 0.5, 4.0  # seconds that a made-up training waits
FEW, MANY = 100, 500  # trainings, each with its evaluation
PRETEND = 'cd "$1" 2>/dev/null || { mkdir -p "$1" && cd "$1"; }\nshift\nfor file; do echo "{}" >"$file"; done\n'
NETWORK, MADE = "residual-8", "made"
IMAGES, EPOCHS = 9_000, 6  # of trainings on Ray
LOOK_EVERY = 0.2  # seconds


def measure_many() -> Iterator[FixedCost]:
    """Yield each cost as it is known. Raises ClickException where a command fails."""
    what = f"{NETWORKS * SEEDS:,} trainings that wait, on {WORKERS} workers: time beyond a schedule at no cost"
    yield FixedCost(what, 100 * waiting(), 5.0, "%")
    for trainings in (FEW, MANY):
        stages, seconds, peak = _study_of_nothing(trainings)
        yield FixedCost(f"`resblock run` of {stages:,} stages that do nothing, each", seconds / stages, 1.0, "s")
        yield FixedCost(f"`resblock run` of {stages:,} stages, peak memory of the runner", peak / 1e6, 300.0, "MB")
    if find_spec("ray"):
        yield from _on_ray()


def waiting() -> float:
    """Return by what share trainings that wait take longer than a schedule at no cost, the longest first."""
    units = list(_units())
    seconds = {unit.stages[0]: unit.seconds for unit in units}
    engine = Workers()
    queue = Queue(units, engine.slots)
    began = time.perf_counter()
    shown = Board(seconds, WORKERS, Console(file=io.StringIO()))
    work_off(cast(Any, Waiting(seconds)), engine, queue, shown, len(units))
    return (time.perf_counter() - began) / at_no_cost(list(seconds.values()), WORKERS) - 1


def _units() -> Iterator[Unit]:
    draws = generator(0, "trainings that wait")
    for network, seconds in enumerate(np.geomspace(SHORTEST, LONGEST, NETWORKS).tolist()):
        for seed in range(SEEDS):
            own = seconds * draws.uniform(0.9, 1.1)
            yield Unit((f"train@made-{network}-{seed}",), own, network=str(network), where="cluster")


def at_no_cost(seconds: Sequence[float], workers: int) -> float:
    """Return when the last of so many workers ends, each of which takes the longest that is left, at no cost."""
    ends = [0.0] * workers
    for each in sorted(seconds, reverse=True):
        heapq.heappush(ends, heapq.heappop(ends) + each)
    return max(ends)


class Workers:
    """An engine of WORKERS slots, where nothing is started."""

    cores: int | None = None
    slots: Mapping[Where, int] = {"cluster": WORKERS}

    def prepare(self, units: Sequence[Unit]) -> None:
        """See `Engine`."""

    @contextmanager
    def seat(self, unit: Unit) -> Generator[Mapping[str, str]]:
        """See `Engine`."""
        yield {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


@dataclass(frozen=True)
class Waiting:
    """Stands for DVC: a stage is to wait."""

    seconds: Mapping[str, float]

    def repro_each(self, stages: Sequence[str], variables: Mapping[str, str], listener: Listener) -> None:
        """See `Dvc`."""
        for stage in stages:
            listener.said(stage, f"Running stage '{stage}':")
            time.sleep(self.seconds[stage])
            listener.ended(stage, True, ["waited"])


def _study_of_nothing(trainings: int) -> tuple[int, float, int]:
    """Return how many stages a study has whose trainings and evaluations do nothing, its seconds and peak memory."""
    with TemporaryDirectory() as scratch:
        folder = _project(Path(scratch), ["plain-8", "residual-8"], trainings // 2)
        yaml = YAML()  # which keeps the order of axes, and so the stages' names
        pipeline = yaml.load(folder / "dvc.yaml")
        for stage in (pipeline["stages"][name] for name in ("train", "evaluate")):
            outs = [Path(out if isinstance(out, str) else next(iter(out))) for out in (*stage["outs"], *stage["plots"])]
            stage["cmd"] = " ".join(("sh pretend", str(outs[0].parent), *(out.name for out in outs)))
        yaml.dump(pipeline, folder / "dvc.yaml")
        (folder / "pretend").write_text(PRETEND)
        run([sys.executable, "-m", "resblock", "run", "preprocess@digits"], folder)
        seconds, peak = _run(folder, "train@digits-*", "evaluate@digits-*")
        return 2 * trainings, seconds, peak


def _on_ray() -> Iterator[FixedCost]:
    """Yield what Ray adds to trainings as long as the published ones of NETWORK on CIFAR-10."""
    published = _published_seconds()
    with TemporaryDirectory() as scratch:
        folder = _project(Path(scratch), [NETWORK], 2)
        _add_made_images(folder)
        for jobs in (1, 2):
            own, ray = (_walls(folder, jobs, *engine) for engine in ((), ("--ray", "local")))
            longer = (ray.beside - own.beside) / published + ray.epoch / own.epoch - 1
            what = f"`--ray local` with {jobs} one-core worker{'s' * (jobs > 1)}, time beyond the local runner's"
            yield FixedCost(f"{what}, of trainings of {published:,.0f} s", 100 * longer, 5.0, "%")


@dataclass(frozen=True)
class Wall:
    """What trainings side by side took."""

    epoch: float  # seconds, the median
    beside: float  # all the seconds that the longest training's epochs do not account for


def _walls(folder: Path, jobs: int, *engine: str) -> Wall:
    """Run so many trainings anew, all at once."""
    keys = [RunKey(MADE, ModelSpec.parse(NETWORK), seed) for seed in range(jobs)]
    run(["rm", "-rf", f"results/{MADE}/trainings", ".dvc/cache/runs"], folder)
    seconds, _ = _run(folder, *map(paths.stage, keys), "--jobs", str(jobs), *engine)
    costs = [read_json(folder / paths.own_cost(key))["epoch_seconds"] for key in keys]
    epochs = [each for cost in costs for each in cost[1:]]  # the first one compiles
    return Wall(statistics.median(epochs), seconds - max(map(sum, costs)))


def _published_seconds() -> float:
    costs = sorted((ROOT / f"results/cifar10/costs/base/{NETWORK}").glob("*.json"))
    return statistics.median(sum(read_json(cost)["epoch_seconds"]) for cost in costs)


def _add_made_images(folder: Path) -> None:
    """Make up a data set of IMAGES images of ten classes, as large as CIFAR-10's."""
    draws = generator(0, "made-up images")
    images = draws.integers(0, 256, (IMAGES, 32, 32, 3), np.uint8)
    np.savez(folder / "made.npz", x_train=images, y_train=np.arange(IMAGES) % 10)
    run([sys.executable, "-m", "resblock", "data", "add", MADE, "made.npz"], folder)
    text = (folder / paths.PARAMS).read_text("utf-8")
    start = text.index(f"\n  {MADE}:", text.index("\ntrain:"))
    text = text[:start] + re.sub(r"epochs: \d+", f"epochs: {EPOCHS}", text[start:], count=1)
    (folder / paths.PARAMS).write_text(text, "utf-8")
    run([sys.executable, "-m", "resblock", "run", f"preprocess@{MADE}"], folder)


def _project(folder: Path, variants: Sequence[str], seeds: int) -> Path:
    """Copy what git has of this project, but for results, and let it study so much."""
    copy_tracked(folder)
    run(["rm", "-rf", "results", "dvc.lock"], folder)
    text = (folder / paths.PARAMS).read_text("utf-8")
    for key, value in (
        ("datasets", ["digits"]),
        ("variants", list(variants)),
        ("seeds", list(range(seeds))),
        ("recipes", []),
    ):
        shown = ", ".join(map(str, value))
        text = re.sub(rf"^  {key}: \[.*?\]", f"  {key}: [{shown}]", text, count=1, flags=re.MULTILINE)
    (folder / paths.PARAMS).write_text(text, "utf-8")
    return folder


def _run(folder: Path, *arguments: str) -> tuple[float, int]:
    """Return the seconds that `resblock run` takes, and the peak resident memory of the runner itself in bytes."""
    with (folder / "run.log").open("w+") as log:
        began, peak = time.perf_counter(), 0
        command = [sys.executable, "-m", "resblock", "run", *arguments]
        process = subprocess.Popen(command, cwd=folder, env=environment(), stdout=log, stderr=log)  # noqa: S603
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, watched.memory_info().rss)
            time.sleep(LOOK_EVERY)
        seconds = time.perf_counter() - began
        if process.returncode:
            log.seek(0)
            raise click.ClickException(f"{' '.join(command)} failed:\n{log.read()[-2000:]}")
    return seconds, peak
