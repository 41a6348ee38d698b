"""Who is told of a training's course."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from resblock.core.training.run import Cost, EpochRow, Run


class Watcher(Protocol):
    """Who is told of a training's course. None of them can change its result."""

    def watch(self, manifest: dict[str, Any]) -> AbstractContextManager[Any]:
        """Return what is held open from before the first epoch until the results are written."""
        ...

    def step(self, epoch: int, done: int, steps: int) -> None:
        """Hear of optimiser steps that have been handed over."""
        ...

    def epoch(self, row: EpochRow) -> None:
        """Hear of an epoch that has ended."""
        ...

    def resumed(self, curve: Sequence[EpochRow]) -> None:
        """Hear of the epochs that an earlier, killed process finished."""
        ...

    def warn(self, message: str) -> None:
        """Hear of what is wrong, and does not end the training."""
        ...

    def written(self, run: Run, cost: Cost) -> None:
        """Hear that the files are there."""
        ...


class Nobody:
    """Hears everything and says nothing: what a watcher may build on."""

    def watch(self, manifest: dict[str, Any]) -> AbstractContextManager[Any]:
        """See `Watcher`."""
        return nullcontext()

    def step(self, epoch: int, done: int, steps: int) -> None:
        """See `Watcher`."""

    def epoch(self, row: EpochRow) -> None:
        """See `Watcher`."""

    def resumed(self, curve: Sequence[EpochRow]) -> None:
        """See `Watcher`."""

    def warn(self, message: str) -> None:
        """See `Watcher`."""

    def written(self, run: Run, cost: Cost) -> None:
        """See `Watcher`."""
