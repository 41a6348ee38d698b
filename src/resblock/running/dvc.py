"""DVC's processes: one runs a group of stages, several run side by side, and what they say is told stage by stage."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, Protocol, Self

from resblock.core.errors import UserError
from resblock.running import recorder

BUSY, BREATH = "is busy, it is being blocked by", 2.0  # how DVC says that another holds its locks; seconds
UNBUFFERED = {"PYTHONUNBUFFERED": "1"}
PATIENCE = 60  # seconds for a stage to end: its MLflow server may not answer

# How the lines of DVC 3 begin that tell of a stage; of those that tell a reader nothing; and why it runs none.
BEGINS = re.compile(r"Running stage '(?P<run>[^']+)':|Stage '(?P<other>[^']+)' (?P<why>is cached|didn't change)")
SPARED = {"is cached": "restored from DVC's cache", "didn't change": "has not changed"}
FAILS = re.compile(r"ERROR: failed to reproduce '(?P<stage>[^']+)'")
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

Ended = tuple[str, bool, list[str]]  # a stage, whether it ended well, and what it said


class Listener(Protocol):
    """Who is told of what DVC's processes say, in any thread."""

    def said(self, stage: str, line: str) -> None:
        """Hear a line while a stage runs."""
        ...

    def ended(self, stage: str, well: bool, lines: Sequence[str]) -> None:
        """Hear that a stage is over, whether it ended well, and all that it said."""
        ...


@dataclass
class Transcript:
    """What one process of DVC says of its stages, one after the other, taken apart as it comes."""

    failed: str = field(default="", init=False)  # the stage at which DVC stopped
    _current: str = field(default="", init=False)
    _lines: list[str] = field(default_factory=list[str], init=False)  # of the current stage
    _aside: list[str] = field(default_factory=list[str], init=False)  # DVC's own

    @property
    def current(self) -> str:
        """The stage that runs; empty where none does."""
        return self._current

    def hear(self, line: str) -> Iterator[Ended]:
        """Take one line in; yield a stage that has ended well by it."""
        if begun := BEGINS.match(line):
            if self._current:
                yield self._over(ended_well=True)
            self._current = begun["run"] or begun["other"]
            self._lines = [SPARED[begun["why"]]] if begun["other"] else []
        elif line.startswith(("WARNING: ", "ERROR: ")):
            self._aside.append(line)
            if found := FAILS.match(line):
                self.failed = found["stage"]
        elif self._current and line.strip() and not line.startswith(CHATTER):
            self._lines.append(line)

    def close(self, code: int) -> Iterator[Ended]:
        """Yield what is left when DVC has ended with `code`: the last stage, and the one at which it stopped."""
        if code and not self.failed:  # cut short in the middle of it
            self.failed = self._current
        if code < 0:
            self._aside.append(f"DVC was ended by {signal.Signals(-code).name}; the same command goes on from there")
        if self._current:
            yield self._over(ended_well=self._current != self.failed)
        elif self.failed:  # it could not be begun
            yield self.failed, False, self.own_words(code)

    def own_words(self, code: int) -> list[str]:
        """Return what DVC said by itself."""
        return self._aside or [f"dvc ended with exit code {code} and without a word"]

    def _over(self, *, ended_well: bool) -> Ended:
        # What DVC itself could not do stands last, where a table of failures looks.
        own = [] if ended_well else [line for line in self._aside if not FAILS.match(line)]
        stage, lines = self._current, [*self._lines, *own] or ([] if ended_well else self._aside)
        self._current, self._lines = "", []
        return stage, ended_well, lines or ["ended without a word"]


class Dvc:
    """DVC's processes in one `environment`, started in any thread; a block that fails ends all that they started."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self._running: set[subprocess.Popen[str]] = set()
        self._idle: list[subprocess.Popen[str]] = []  # among them, that wait for stages
        self._closed = False
        self._change = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        if failure:
            self.end()
        for process in self._idle:
            self._close(process)

    def repro_each(self, stages: Sequence[str], variables: Mapping[str, str], listener: Listener) -> None:
        """Run stages, each after what it depends on; one that fails keeps no other from being tried.

        Their commands are started with `variables` as well. One process of DVC runs them all, since its start takes
        longer than many a stage; after a failure another one goes on. It is not told to keep going, since then it would
        start the next stage when it is interrupted.
        """
        left = list(stages)
        while left:
            heard, code = self._repro(left, variables, listener)
            for ended in heard.close(code):
                listener.ended(*ended)
            if code == 0:
                return
            if heard.failed not in left:  # DVC itself could not begin
                for stage in left:
                    listener.ended(stage, False, heard.own_words(code))
                return
            left = left[left.index(heard.failed) + 1 :]

    def _repro(self, stages: Sequence[str], variables: Mapping[str, str], listener: Listener) -> tuple[Transcript, int]:
        """Run stages until one fails; return what was heard and DVC's exit code, zero if all ended well."""
        heard, word, silent = Transcript(), secrets.token_hex(), True
        request = {
            "arguments": ["--wait-for-lock", "repro", "--single-item", *stages],
            "environment": {**with_this_python(self.environment), **variables, **UNBUFFERED},
            "word": word,
        }
        with self._waiting() as (process, fresh):
            assert process.stdin is not None and process.stdout is not None
            with suppress(BrokenPipeError):  # it was killed: seen below
                print(json.dumps(request), file=process.stdin, flush=True)
            for line in process.stdout:
                if line == f"{word}\n":
                    return heard, 0
                silent = False
                for ended in heard.hear(line.rstrip("\n")):
                    listener.ended(*ended)
                if heard.current:
                    listener.said(heard.current, line.rstrip("\n"))
            code = process.wait() or 1
        # One that waited and was killed meanwhile has begun nothing.
        return self._repro(stages, variables, listener) if silent and not fresh else (heard, code)

    def stale(self, stages: Sequence[str]) -> list[str]:
        """Return which of `stages` DVC would run. It tells all of the project's sooner than it finds some by name."""
        changed = self.changed()
        return [stage for stage in stages if stage in changed]

    def changed(self) -> Mapping[str, Any]:
        """Return what DVC finds changed, by stage; wait for other commands of DVC."""
        waits = False
        while (status := self._call("--wait-for-lock", "status", "--json")).returncode:
            if self._closed:
                raise UserError("interrupted while DVC looked for what has changed")
            if BUSY not in status.stderr:
                print(status.stderr, end="", file=sys.stderr)
                raise UserError("dvc status failed; its message stands above")
            if not waits:
                print("DVC is at work here already, for another command; waiting until it has ended", flush=True)
            waits = True
            time.sleep(BREATH)
        return json.loads(status.stdout or "{}")

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

    def _call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run DVC to its end."""
        with self._change:
            process = self._start(*arguments, stderr=subprocess.PIPE)
        said, told = process.communicate()
        self._running.discard(process)
        return subprocess.CompletedProcess(arguments, process.returncode, said, told)

    @contextmanager
    def _waiting(self) -> Generator[tuple[subprocess.Popen[str], bool]]:
        """Take a process that waits for stages, or start one, and say whether it is fresh; it is kept if it waits on.

        Raises UserError where no more is to be started.
        """
        with self._change:
            for dead in [process for process in self._idle if process.poll() is not None]:
                self._idle.remove(dead)
                self._close(dead)
            fresh = self._closed or not self._idle
            process = self._start(stdin=subprocess.PIPE, variables=UNBUFFERED) if fresh else self._idle.pop()
        yield process, fresh
        with self._change:
            if process.poll() is None:
                self._idle.append(process)
            else:
                self._close(process)

    def _start(
        self,
        *arguments: str,
        stdin: int | None = None,
        stderr: int = subprocess.STDOUT,
        variables: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        """Start DVC so that the stages' `resblock` is this interpreter's, activated environment or not.

        Raises UserError where no more is to be started.
        """
        if self._closed:
            raise UserError("interrupted before it was begun")
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", recorder.__name__, *arguments],
            env={**with_this_python(self.environment), **(variables or {})},
            text=True,
            errors="replace",  # a stage may print anything
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            process_group=0,  # a Ctrl-C reaches it, its stage and no other once: from `end`
        )
        self._running.add(process)
        return process

    def _close(self, process: subprocess.Popen[str]) -> None:
        """Let a process end by the end of its input."""
        with suppress(BrokenPipeError), process:
            self._running.discard(process)


def with_this_python(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which the `resblock` of a stage is that of this interpreter."""
    here = str(Path(sys.executable).parent)
    return {**environment, "PATH": os.pathsep.join(filter(None, (here, environment.get("PATH"))))}


def _signal(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Send a signal to a process that has not ended, and all that it started."""
    with suppress(ProcessLookupError):
        if process.returncode is None:  # else its number may be another's by now
            os.killpg(process.pid, number)
