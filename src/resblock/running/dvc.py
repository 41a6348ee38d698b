"""DVC's processes: one runs a group of stages, several run side by side, and what they say is told stage by stage."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Self

from resblock.core.errors import UserError
from resblock.running.warm import Worker

PATIENCE = 60  # seconds for a stage to end: its MLflow server may not answer

# How the lines of DVC 3 begin that tell of a stage; of those that tell a reader nothing; and why it runs none.
BEGINS = re.compile(r"Running stage '(?P<run>[^']+)':|Stage '(?P<other>[^']+)' (?P<why>is cached|didn't change)")
SPARED = {"is cached": "restored from DVC's cache", "didn't change": "has not changed"}
FAILS, SUMS_UP = "WARNING: failed to run: ", "ERROR: failed to reproduce"
NAMES = re.compile(r"'([^']+)'")
CHATTER = (
    "> ",
    "Updating lock file",
    "Generating lock file",
    "To track the changes",
    "\tgit add",
    "To enable auto staging",
    "\tdvc config",
    "Use `dvc push`",
)


@dataclass
class Transcript:
    """What one process of DVC says of `stages`, one after the other, taken apart as it comes."""

    stages: Sequence[str]
    _current: str = field(default="", init=False)
    _lines: list[str] = field(default_factory=list[str], init=False)  # of the current stage
    _aside: list[str] = field(default_factory=list[str], init=False)  # DVC's, of no stage that it has begun
    _failed: list[str] = field(default_factory=list[str], init=False)
    _told: dict[str, bool] = field(default_factory=dict[str, bool], init=False)  # whether it ended well

    def hear(self, line: str) -> Iterator[tuple[str, bool, list[str]]]:
        """Take one line in; yield a stage that is over by it, whether it ended well, and what it said."""
        if begun := BEGINS.match(line):
            yield from self._over()
            self._current = begun["run"] or begun["other"]
            self._lines = [SPARED[begun["why"]]] if begun["other"] else []
        elif line.startswith(FAILS):
            self._failed.append(self._current)
        elif line.startswith(SUMS_UP):
            self._failed += NAMES.findall(line)
        elif line.startswith(("WARNING: ", "ERROR: ")):
            self._aside.append(line)
        elif self._current and line.strip() and not line.startswith(CHATTER):
            self._lines.append(line)

    def close(self, code: int) -> Iterator[tuple[str, bool, list[str]]]:
        """Yield the last stage, and those that DVC, which ended with `code`, could not begin or not conclude."""
        if code and not self._failed:  # DVC was cut short
            self._failed.append(self._current)
        yield from self._over()
        if not code:
            return
        said = self._aside or [f"dvc ended with exit code {code} and without a word of it"]
        for stage in self.stages:
            unexplained = stage not in self._told and not any(self._failed)
            if self._told.get(stage, True) and (stage in self._failed or unexplained):
                yield stage, False, said

    def _over(self) -> Iterator[tuple[str, bool, list[str]]]:
        if self._current:
            self._told[self._current] = self._current not in self._failed
            yield self._current, self._told[self._current], self._lines or ["ended without a word"]
        self._current, self._lines = "", []


class Dvc:
    """DVC's processes in one environment, started in any thread; a block that fails ends all that they started."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._running: set[subprocess.Popen[str]] = set()
        self._closed = False
        self._change = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        if failure:
            self.end()

    def repro(self, target: str) -> None:
        """Bring one target up to date; its stages' words are shown as they come."""
        if self._call("repro", "--quiet", target).returncode:
            raise UserError(f"dvc repro {target} failed; its message stands above")

    def repro_each(self, stages: Sequence[str], worker: Worker, tell: Callable[[str, bool, list[str]], None]) -> None:
        """Run stages, each after what it depends on, by `worker`; one that fails keeps no other from being tried.

        `tell` hears of each that ran as it ends: its name, whether it ended well, and what it said. One process of DVC
        runs them all, since its start takes longer than many a stage.
        """
        command = ("--wait-for-lock", "repro", "--single-item", "--keep-going", *stages)
        heard = Transcript(stages)
        with self._started(*command, variables={**worker.environment, "PYTHONUNBUFFERED": "1"}) as process:
            assert process.stdout is not None
            with process.stdout as said:
                for line in said:
                    for ended in heard.hear(line.rstrip("\n")):
                        tell(*ended)
        for ended in heard.close(process.returncode):
            tell(*ended)

    def stale(self, stages: Sequence[str]) -> list[str]:
        """Return which of `stages` DVC would run. It tells all of the project's sooner than it finds some by name."""
        status = self._call("status", "--json", stdout=subprocess.PIPE)
        if status.returncode:
            raise UserError("dvc status failed; its message stands above")
        changed = json.loads(status.stdout or "{}")
        return [stage for stage in stages if stage in changed]

    def end(self) -> None:
        """Start no more, and end what runs as Ctrl-C would: DVC waits for its stage and gives back its locks."""
        with self._change:
            self._closed = True
            running = set(self._running)
        for process in running:
            _signal(process, signal.SIGINT)
        for process in running:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                _signal(process, signal.SIGKILL)

    def _call(self, *arguments: str, stdout: int | None = None) -> subprocess.CompletedProcess[str]:
        """Run DVC to its end."""
        with self._started(*arguments, stdout=stdout, stderr=None) as process:
            said, _ = process.communicate()
        return subprocess.CompletedProcess(arguments, process.returncode, said)

    @contextmanager
    def _started(
        self,
        *arguments: str,
        stdout: int | None = subprocess.PIPE,
        stderr: int | None = subprocess.STDOUT,
        variables: Mapping[str, str] | None = None,
    ) -> Generator[subprocess.Popen[str]]:
        """Start DVC so that the stages' `resblock` is this interpreter's, activated environment or not, and await it.

        Raises UserError where no more is to be started.
        """
        here = str(Path(sys.executable).parent)
        with self._change:
            if self._closed:
                raise UserError("interrupted before it was begun")
            process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "dvc", *arguments],
                env={
                    **self._environment,
                    "PATH": os.pathsep.join((here, self._environment["PATH"])),
                    **(variables or {}),
                },
                text=True,
                stdout=stdout,
                stderr=stderr,
                process_group=0,  # a Ctrl-C reaches it, its stage and no other once: from `end`
            )
            self._running.add(process)
        yield process
        process.wait()
        with self._change:
            self._running.discard(process)


def _signal(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Send a signal to a process and all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
