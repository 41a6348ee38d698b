"""Commands that the benchmarks start, away from anybody's tracking store."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from benchmarks.workers import ROOT

REPEATS = 5
PRIVATE = ("MLFLOW_", "DVC_")  # variables that would send a benchmark's runs to somebody's store


def median_seconds(command: Sequence[str], folder: Path = ROOT) -> float:
    """Return the median wall clock of `command`, after one call that brings its files into memory."""
    run(command, folder)
    seconds: list[float] = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        run(command, folder)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def run(command: Sequence[str], folder: Path = ROOT) -> str:
    """Return what `command` says on standard output. Raises ClickException with its words where it fails."""
    ended = subprocess.run(  # noqa: S603
        command, cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )
    if ended.returncode:
        words = (ended.stdout + ended.stderr)[-2000:]
        raise click.ClickException(f"{' '.join(command)} failed:\n{words}")
    return ended.stdout


def environment() -> Mapping[str, str]:
    """Return the environment in which `resblock` and the benchmarks are found, whatever the folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PRIVATE)}
    here = str(Path(sys.executable).parent)
    search = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    return {**kept, "PATH": os.pathsep.join((here, os.environ["PATH"])), "PYTHONPATH": search}
