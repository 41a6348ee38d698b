"""The peers' processes: started, given their turns, ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self, cast

import click

from benchmarks.peers.protocol import Task

ROOT = Path(__file__).resolve().parent.parent
MODULES = {
    "resblock": "benchmarks.peers.ours",
    "keras": "benchmarks.peers.stock_keras",
    "pytorch": "benchmarks.peers.torch_steps",
}
EPOCH_MODULES = {
    "resblock": "benchmarks.peers.ours",
    "pytorch": "benchmarks.peers.torch_epoch",
}


@dataclass(frozen=True)
class Peer:
    """One way to train a network."""

    implementation: str  # resblock | keras | pytorch
    task: Task
    python: str = sys.executable
    environment: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def module(self) -> str:
        """The module that is the peer's process."""
        return (EPOCH_MODULES if self.task.epoch else MODULES)[self.implementation]

    @property
    def configuration(self) -> str:
        """What tells this peer from others of its implementation and precision."""
        return ", ".join(filter(None, (self.task.layout, "compiled" if self.task.compiled else "")))

    def __str__(self) -> str:
        return " ".join(filter(None, (self.implementation, self.task.precision, self.configuration)))


class Turn(NamedTuple):
    """What a peer says of its turn."""

    seconds: float
    peak_bytes: int  # resident, since the process began
    parts: dict[str, float]  # seconds of an epoch's parts


class Worker:
    """A peer's process, warmed up and waiting: a context manager."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the worker)
        # Compilers keep what they made among temporary files: in a folder of its own, each peer pays for its compiling.
        self._scratch = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._process = subprocess.Popen(  # noqa: S603
            [peer.python, "-m", peer.module, peer.task.to_json()],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": self._scratch.name, **peer.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        try:
            self.facts = self._hear()  # what it said when it was ready
        except BaseException:
            self.close()
            raise

    def turn(self) -> Turn:
        """Let it train for one turn and return what it says of it."""
        self.begin()
        return self.end()

    def begin(self) -> None:
        """Let it train for one turn, and do not wait for it."""
        said = cast(IO[str], self._process.stdin)
        with suppress(BrokenPipeError):  # it has died; what it said then is heard below
            said.write("go\n")
            said.flush()

    def end(self) -> Turn:
        """Wait until the turn that has begun is over."""
        answer = self._hear()
        return Turn(float(answer["seconds"]), int(answer["peak_bytes"]), answer.get("parts", {}))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the process, whatever it is at."""
        self._process.terminate()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            with suppress(BrokenPipeError):
                cast(IO[str], stream).close()
        self._scratch.cleanup()

    def _hear(self) -> dict[str, Any]:
        line = cast(IO[str], self._process.stdout).readline()
        if line:
            return json.loads(line)
        self._process.wait()
        self._errors.seek(0)
        words = self._errors.read().decode(errors="replace").strip()
        raise click.ClickException(f"{self.peer} ended with exit code {self._process.returncode}:\n{words[-3000:]}")
