"""A small study in a folder of its own, who is at work in it, and how its runner is started."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil

from tests.chaos.nodes import Nodes
from tests.pipeline.conftest import STORE, copy_project
from tests.test_faults import Server

STUDY = """\
study:
  datasets: [digits]
  variants: [plain-8, residual-8]
  seeds: {seeds}

ablation:
  dataset: digits
  recipes: []
  variants: [residual-8]
  seeds: {seeds}

"""
EPOCHS = 4
RUN = ("resblock", "run", "digits", "--jobs", "2")
WORKER = "RESBLOCK_WORKER"
# What a server that fails may cost, so that a round does not spend its time on waiting.
IMPATIENT = {
    "RESBLOCK_TRACKING_PATIENCE": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "1",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
}


def make_project(root: Path, seeds: Sequence[int]) -> None:
    """Make a project in `root` whose study takes half a minute for each seed."""
    root.mkdir(parents=True)
    workspace = copy_project(root)
    text = (root / "params.yaml").read_text()
    text = text[: text.index("study:")] + STUDY.format(seeds=list(seeds)) + text[text.index("data:  #") :]
    text = re.sub(r"epochs: 2  #", f"epochs: {EPOCHS}  #", text)
    for share in ("corrupted", "response", "lesion"):
        text = text.replace(f"{share}_images: 60", f"{share}_images: 20")
    (root / "params.yaml").write_text(text)
    workspace.run("git", "-c", "user.name=Test", "-c", "user.email=test@example.org", "commit", "-qam", "The study")


@dataclass(frozen=True)
class Launch:
    """How a runner is started: commands before it, options, and variables. None of these: as a person does."""

    before: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass
class Scene:
    """The project in `root`, what runs in it, and the dice."""

    root: Path
    dice: random.Random
    server: Server
    said: IO[str]  # what all its commands say
    nodes: Nodes | None = None
    runner: psutil.Popen | None = None
    again: Launch | None = None  # how the next runner starts, where a fault decides it
    others: list[psutil.Popen] = field(default_factory=list[psutil.Popen])
    _due: list[tuple[float, Callable[[], object]]] = field(
        default_factory=list[tuple[float, Callable[[], object]]], init=False
    )

    def start(self, command: Sequence[str] = RUN, launch: Launch | None = None) -> psutil.Popen:
        """Start a command in a session of its own, as a terminal would."""
        launch = launch or Launch()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        return psutil.Popen(
            [*launch.before, *command, *launch.options],
            cwd=self.root,
            env={**environment, **launch.variables},
            stdin=subprocess.DEVNULL,
            stdout=self.said,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def call(self, *command: str, patience: float = 1200) -> int:
        """Run a command to its end; return its exit code."""
        process = self.start(command)
        self.others.append(process)
        return int(process.wait(patience))

    def later(self, seconds: float, act: Callable[[], object]) -> None:
        """Let `act` be done after so many seconds, by `tick`, or as soon as all is to be settled."""
        self._due.append((time.monotonic() + seconds, act))

    def tick(self, *, settle: bool = False) -> None:
        """Do what is due; with `settle` all that is left."""
        now = time.monotonic()
        due = [entry for entry in self._due if settle or entry[0] <= now]
        self._due = [entry for entry in self._due if entry not in due]
        for _, act in due:
            act()

    def at_work(self) -> Iterator[tuple[psutil.Process, list[str]]]:
        """Yield every living process in the project, with its command line."""
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()) == self.root:
                    yield process, process.cmdline()

    def dvc(self) -> list[psutil.Process]:
        """Return the processes of DVC."""
        return [
            process
            for process, words in self.at_work()
            if words[1:3] in (["-m", "dvc"], ["-m", "resblock.running.recorder"])
        ]

    def workers(self, stage: str) -> list[psutil.Process]:
        """Return the processes that compute a stage now: warm workers, or its own where it has none."""
        found, places = [], set[str]()
        everything = list(self.at_work())
        for process, words in everything:
            called = words[2:] if words[1:2] == ["-m"] else words[1:]  # in a copy the command starts the copy's code so
            if len(called) > 1 and Path(called[0]).name == "resblock" and called[1] == stage:
                with suppress(psutil.Error):
                    place = process.environ().get(WORKER)
                    if place and Path(place).exists():
                        places.add(place)
                    else:
                        found.append(process)
        return found + [process for process, words in everything if words and words[-1] in places and "work" in words]

    def end_all(self) -> None:
        """Kill whatever is at work in the project; wait until it is gone."""
        while left := [process for process, _ in self.at_work()]:
            for process in left:
                with suppress(psutil.Error):
                    process.send_signal(signal.SIGKILL)
            psutil.wait_procs(left, timeout=10)
        for process in (self.runner, *self.others):
            if process is not None:
                with suppress(psutil.Error, subprocess.TimeoutExpired):
                    process.wait(10)  # or it stays a zombie
        self.others.clear()

    def begin_anew(self, pristine: Path) -> None:
        """Forget all that was run."""
        self.end_all()
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(pristine, self.root, symlinks=True)


def store_of(root: Path) -> str:
    """Return the address of a project's own MLflow store."""
    return f"sqlite:///{root / STORE}"
