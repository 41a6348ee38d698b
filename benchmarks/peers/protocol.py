"""How a peer's process and the benchmark talk: one JSON document a line, over standard input and output."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

# ru_maxrss counts in kilobytes, on macOS in bytes.
RSS_UNIT = 1 if sys.platform == "darwin" else 1024

# What an epoch consists of, in this order. Validation and the sample: loss and accuracy, without augmentation. Who
# cannot tell apart what lies between steps and checkpoint says how long it looks at images.
Part = Literal["train", "validate", "reestimate", "validate_reestimated", "sample", "looks", "checkpoint", "log"]


@dataclass(frozen=True)
class Epoch:
    """How many images each part of an epoch looks at."""

    training: int
    validation: int  # twice: with batch-norm statistics as trained, and re-estimated
    reestimation: int  # training images, in the batches and the mode of training
    sample: int  # training images, always the same ones, with re-estimated statistics


@dataclass(frozen=True)
class Task:
    """One network, one precision, one way to train it: all that a peer's process is told."""

    network: str  # for instance residual-20
    precision: str  # float32 | mixed_bfloat16
    batch_size: int
    steps: int  # in one turn, where that is no epoch
    threads: int
    data: str  # folder of the images
    seed: int  # decides which images make a batch
    learning_rate: float
    momentum: float  # share of batch norm's moving averages kept at each step
    epsilon: float  # added to variances
    device: str = "cpu"  # cpu | cuda
    layout: str = ""  # channels-last, where the peer has a choice
    compiled: bool = False
    epoch: Epoch | None = None  # a turn is a whole one

    @property
    def images(self) -> int:
        """How many images it trains on in one turn."""
        return self.epoch.training if self.epoch else self.batch_size * self.steps

    def to_json(self) -> str:
        """Return the task as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Task:
        """Return what `to_json` wrote."""
        tree: dict[str, Any] = json.loads(text)
        epoch = tree.pop("epoch")
        return cls(**tree, epoch=Epoch(**epoch) if epoch else None)


@dataclass
class Parts:
    """A clock for the parts of one epoch."""

    seconds: dict[str, float] = field(default_factory=dict[str, float])

    @contextmanager
    def timed(self, part: Part) -> Generator[None]:
        """Count what the block takes to `part`."""
        began = time.perf_counter()
        yield
        self.seconds[part] = time.perf_counter() - began


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

    def end(self, parts: Parts | None = None) -> None:
        """Stop the clock: the turn's work is done, down to the last weight. An epoch says what its parts took."""
        seconds = time.perf_counter() - self._began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT
        self.report({"seconds": seconds, "peak_bytes": peak, "parts": parts.seconds if parts else {}})

    def report(self, document: Mapping[str, Any]) -> None:
        """Write one line of the conversation."""
        self._answers.write(json.dumps(document) + "\n")
        self._answers.flush()
