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
from typing import IO, Any, Self, cast

import click

from benchmarks.peers.protocol import Task

ROOT = Path(__file__).resolve().parent.parent
MODULES = {
    "resblock": "benchmarks.peers.ours",
    "keras": "benchmarks.peers.stock_keras",
    "pytorch": "benchmarks.peers.eager_torch",
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
        return MODULES[self.implementation]

    @property
    def configuration(self) -> str:
        """What tells this peer from others of its implementation and precision."""
        return ", ".join(filter(None, (self.task.layout, "compiled" if self.task.compiled else "")))

    def __str__(self) -> str:
        return " ".join(filter(None, (self.implementation, self.task.precision, self.configuration)))


class Worker:
    """A peer's process, warmed up and waiting: a context manager."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the worker)
        self._process = subprocess.Popen(  # noqa: S603
            [peer.python, "-m", peer.module, peer.task.to_json()],
            cwd=ROOT,
            env={**os.environ, **peer.environment},
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

    def turn(self) -> tuple[float, int]:
        """Let it train the task's steps; return the seconds they took and its peak resident memory in bytes."""
        said = cast(IO[str], self._process.stdin)
        with suppress(BrokenPipeError):  # it has died; what it said then is heard below
            said.write("go\n")
            said.flush()
        answer = self._hear()
        return float(answer["seconds"]), int(answer["peak_bytes"])

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

    def _hear(self) -> dict[str, Any]:
        line = cast(IO[str], self._process.stdout).readline()
        if line:
            return json.loads(line)
        self._process.wait()
        self._errors.seek(0)
        words = self._errors.read().decode(errors="replace").strip()
        raise click.ClickException(f"{self.peer} ended with exit code {self._process.returncode}:\n{words[-3000:]}")
