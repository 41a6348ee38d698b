"""What a person sees of a run: a table that lives on a terminal, a line for each stage elsewhere, and the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from resblock.stages.terminal import read_epoch_line

PREFIX = "resblock: "  # of a message to a person
FAILED_SHOWN = 5
REFRESHES = 2  # a second


@dataclass
class _Running:
    since: float
    seconds: float  # forecast
    epoch: int = 0
    epochs: int = 0
    accuracy: float | None = None
    first_epoch_at: tuple[int, float] | None = None  # a resumed training begins behind the first

    def left(self, now: float, pace: float) -> float:
        """Return the seconds that it still takes: by its epochs, if two have been seen, else by the forecast."""
        if self.first_epoch_at and self.epoch > self.first_epoch_at[0]:
            begun, at = self.first_epoch_at
            return max(0.0, (self.epochs - self.epoch) * (now - at) / (self.epoch - begun))
        return max(0.0, self.seconds * pace - (now - self.since))


@dataclass
class Board:
    """Hears of stages from any thread. `forecasts` has the seconds of every stage that is to run."""

    forecasts: Mapping[str, float]
    slots: int
    console: Console
    clock: Callable[[], float] = time.monotonic
    failed: dict[str, str] = field(default_factory=dict[str, str], init=False)  # and why
    _running: dict[str, _Running] = field(default_factory=dict[str, _Running], init=False)
    _ended: set[str] = field(default_factory=set[str], init=False)
    _actual: float = field(default=0.0, init=False)  # seconds of what has run to its end
    _expected: float = field(default=0.0, init=False)  # forecast of the same
    _change: Lock = field(default_factory=Lock, init=False)

    def said(self, stage: str, line: str) -> None:
        """Hear a line of a stage."""
        now = self.clock()
        with self._change:
            running = self._running.setdefault(stage, _Running(now, self.forecasts.get(stage, 0.0)))
            if seen := read_epoch_line(line):
                running.epoch, running.epochs, running.accuracy = seen
                running.first_epoch_at = running.first_epoch_at or (running.epoch, now)

    def ended(self, stage: str, well: bool, lines: Sequence[str]) -> None:
        """Hear that a stage is over; what a failed one said is shown whole."""
        with self._change:
            if running := self._running.pop(stage, None):
                self._actual += self.clock() - running.since
                self._expected += running.seconds
            self._ended.add(stage)
            number = len(self._ended)
            if not well:
                self.failed[stage] = reason(lines)
        for line in lines[-1:] if well else lines:
            self._print(f"[{number}/{len(self.forecasts)}] {stage}  {line}")

    @property
    def seconds_left(self) -> float:
        """What all that is left takes, by the forecasts and how they did so far."""
        with self._change:
            return self._seconds_left()

    def _seconds_left(self) -> float:
        now, pace = self.clock(), self._actual / self._expected if self._expected else 1.0
        running = [each.left(now, pace) for each in self._running.values()]
        gone = self._ended | self._running.keys()
        waiting = pace * sum(seconds for stage, seconds in self.forecasts.items() if stage not in gone)
        return max([(waiting + sum(running)) / self.slots, *running])

    def __rich__(self) -> Group:
        with self._change:
            now = self.clock()
            table = Table(box=None, pad_edge=False)
            for name, justify in (("running", "left"), ("epoch", "right"), ("validation", "right"), ("for", "right")):
                table.add_column(name, justify="right" if justify == "right" else "left", no_wrap=True)
            for stage, each in sorted(self._running.items()):
                epoch = f"{each.epoch}/{each.epochs}" if each.epochs else ""
                accuracy = f"{each.accuracy:.1%}" if each.accuracy is not None else ""
                table.add_row(stage, epoch, accuracy, clock_time(now - each.since))
            waiting = len(self.forecasts) - len(self._ended) - len(self._running)
            parts = [
                f"{len(self._running)} running",
                f"{len(self._ended) - len(self.failed)} done",
                f"{len(self.failed)} failed",
                f"{waiting} waiting",
                f"about {clock_time(self._seconds_left())} left",
            ]
            failed = list(self.failed.items())[-FAILED_SHOWN:]
        lines = [
            Text(f"failed: {stage}  {why}", style="red", no_wrap=True, overflow="ellipsis") for stage, why in failed
        ]
        return Group(table, *lines, Text(", ".join(parts), style="bold"))

    def _print(self, line: str) -> None:
        if self.console.is_terminal:
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, file=self.console.file, flush=True)


@contextmanager
def board(forecasts: Mapping[str, float], slots: int, console: Console | None = None) -> Generator[Board]:
    """Show a run for the block, and at its end which stages failed and why."""
    shown = Board(forecasts, slots, console or Console())
    try:
        if shown.console.is_terminal:
            with Live(
                get_renderable=shown.__rich__, console=shown.console, refresh_per_second=REFRESHES, transient=True
            ):
                yield shown
        else:
            yield shown
    finally:
        for line in failures(shown.failed):
            print(line, file=shown.console.file, flush=True)


def failures(failed: Mapping[str, str]) -> list[str]:
    """Return a table of the stages that failed, and why."""
    if not failed:
        return []
    width = max(len(stage) for stage in ("failed", *failed))
    return ["", f"{'failed':<{width}}  why", *(f"{stage:<{width}}  {why}" for stage, why in failed.items())]


def reason(lines: Sequence[str]) -> str:
    """Return why a stage failed: its message to a person if there is one, else the last it said."""
    said = [line.strip() for line in lines if line.strip()]
    messages = [line.removeprefix(PREFIX) for line in said if line.startswith(PREFIX)]
    return (messages or said or ["it said nothing"])[-1]


def clock_time(seconds: float) -> str:
    """Return a duration as a clock shows it: 0:42, 12:07, 3:20:00."""
    hours, rest = divmod(round(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
