"""How a peer's process and the benchmark talk: one JSON document a line, over standard input and output."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

# ru_maxrss counts in kilobytes, on macOS in bytes.
RSS_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class Task:
    """One network, one precision, one way to train it: all that a peer's process is told."""

    network: str  # for instance residual-20
    precision: str  # float32 | mixed_bfloat16
    batch_size: int
    steps: int  # in one turn
    threads: int
    data: str  # folder of the training images
    seed: int  # decides which images make a batch
    learning_rate: float
    momentum: float  # share of batch norm's moving averages kept at each step
    epsilon: float  # added to variances
    device: str = "cpu"  # cpu | cuda
    layout: str = ""  # channels-last, where the peer has a choice
    compiled: bool = False

    def to_json(self) -> str:
        """Return the task as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Task:
        """Return what `to_json` wrote."""
        return cls(**json.loads(text))


class Turns:
    """A peer's side of the conversation.

    It says `ready` when it has warmed up; from then on `begin` waits for its turn and `end` reports how long it took.
    Whatever else the process prints goes to the error stream.
    """

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._began = 0.0

    def ready(self, *, parameters: int, versions: Mapping[str, str], **facts: Any) -> None:
        """Say that turns may come, and what will be timed."""
        self.report({"parameters": parameters, "versions": dict(versions), **facts})

    def begin(self) -> None:
        """Wait for the next turn and start the clock; where there are no more turns, end the process."""
        if not sys.stdin.readline():
            sys.exit()
        self._began = time.perf_counter()

    def end(self) -> None:
        """Stop the clock: the turn's work is done, down to the last weight."""
        seconds = time.perf_counter() - self._began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT
        self.report({"seconds": seconds, "peak_bytes": peak})

    def report(self, document: Mapping[str, Any]) -> None:
        """Write one line of the conversation."""
        self._answers.write(json.dumps(document) + "\n")
        self._answers.flush()
