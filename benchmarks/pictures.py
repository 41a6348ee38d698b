"""How long folders of pictures take to become splits, and how much memory: ``python -m benchmarks pictures``."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
import psutil
from PIL import Image

from benchmarks.commands import environment, run
from benchmarks.fixed import FixedCost
from benchmarks.workers import ROOT
from resblock import paths
from resblock.core.seeds import generator

NAME, CLASSES = "pictures", 10
COARSE = 8  # pixels of a side that are drawn; the rest lies between them, as in a photograph
LOOK_EVERY = 0.1  # seconds


@dataclass(frozen=True)
class Folder:
    """A folder of pictures, and what its splits may cost."""

    images: int
    side: int  # pixels
    ending: str
    seconds: float
    gigabytes: float

    @property
    def words(self) -> str:
        """What is measured."""
        return f"{self.images:,} {self.ending.upper()} files of {self.side} x {self.side} pixels to splits"


FOLDERS = (Folder(60_000, 32, "png", 60.0, 1.0), Folder(100_000, 64, "jpg", 300.0, 1.0))


def measure_pictures() -> Iterator[FixedCost]:
    """Yield seconds and memory of each of FOLDERS. Raises ClickException where a command fails."""
    for folder in FOLDERS:
        with TemporaryDirectory() as scratch:
            project, pictures = Path(scratch) / "project", Path(scratch) / "pictures"
            write_pictures(pictures, folder)
            project.mkdir()
            (project / paths.PARAMS).write_bytes((ROOT / paths.PARAMS).read_bytes())
            (project / "dvc.yaml").write_bytes((ROOT / "dvc.yaml").read_bytes())
            run(
                [sys.executable, "-m", "resblock", "data", "add", NAME, str(pictures), "--size", str(folder.side)],
                project,
            )
            began = time.perf_counter()
            peak = max(_peak(stage, project) for stage in ("download", "preprocess"))
            yield FixedCost(folder.words, time.perf_counter() - began, folder.seconds, "s")
            yield FixedCost(f"{folder.words}, peak memory of all processes", peak / 1e9, folder.gigabytes, "GB")


def write_pictures(root: Path, folder: Folder) -> None:
    """Make up pictures of ten classes in `root`, as smooth as photographs are."""
    draws = generator(0, "made-up pictures")
    for number in range(folder.images):
        place = root / f"class-{number % CLASSES}"
        if number < CLASSES:
            place.mkdir(parents=True)
        coarse = draws.integers(0, 256, (COARSE, COARSE, 3), np.uint8)
        picture = Image.fromarray(coarse).resize((folder.side, folder.side), Image.Resampling.BICUBIC)
        picture.save(place / f"{number:06}.{folder.ending}")


def _peak(stage: str, project: Path) -> int:
    """Run a stage; return the largest sum of its processes' own memory, in bytes."""
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "resblock", stage, NAME],
        cwd=project,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    watched, peak = psutil.Process(process.pid), 0
    while process.poll() is None:
        peak = max(peak, _memory(watched))
        time.sleep(LOOK_EVERY)
    _, words = process.communicate()
    if process.returncode:
        raise click.ClickException(f"resblock {stage} {NAME} failed:\n{words[-2000:]}")
    return peak


def _memory(process: psutil.Process) -> int:
    """Return the unshared memory of a process and of those that it started, and what they share once."""
    total = shared = 0
    try:
        for each in (process, *process.children(recursive=True)):
            memory = each.memory_info()
            total += memory.rss - memory.shared
            shared = max(shared, memory.shared)
    except psutil.NoSuchProcess:  # ended meanwhile
        return 0
    return total + shared
