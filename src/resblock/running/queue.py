"""The one queue of a `resblock run`: what is to be run, longest first, for all who ask for work."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from threading import Condition
from typing import Literal

Where = Literal["here", "cluster"]

LONGEST_HAND = 600.0  # seconds, beyond the first unit: sharing what is compiled saves seconds and need not go further

SPARE = 1.25  # what is left for the others is more than their share, since forecasts err


@dataclass(frozen=True)
class Unit:
    """Stages that run one after the other: each needs those before it."""

    stages: tuple[str, ...]
    seconds: float  # forecast of all of them
    needs: tuple[str, ...] = ()  # stages of other units
    network: str = ""  # units of one network share what is compiled, if one worker gets them together
    threads: int | None = None  # that its stages compute with; 0: all there are; None: they need no Keras
    where: Where = "here"
    urgent: bool = False  # others or a person wait for it


class Queue:
    """Hands out units to threads; those that need a stage that failed are never handed out.

    `slots` says how many threads ask for work at each place. Units here take no more than `cores` at once, where that
    is given; one that wants more than there are runs alone.
    """

    def __init__(self, units: Sequence[Unit], slots: Mapping[Where, int], cores: int | None = None) -> None:
        self._waiting = sorted(units, key=lambda unit: (not unit.urgent, -unit.seconds))  # stable: seeds stay in order
        self._slots, self._cores, self._taken = slots, cores, 0
        self._unsettled = {stage for unit in units for stage in unit.stages}  # neither run nor given up
        self._change = Condition()
        self._closed = False

    def take(self, where: Where) -> list[Unit]:
        """Wait for work at a place and return it: units of one network. Nothing at all: there will be no more."""
        with self._change:
            while not self._closed:
                mine = [unit for unit in self._waiting if unit.where == where]
                if not mine:
                    break
                ready = [unit for unit in mine if self._ready(unit) and self._fits(unit)]
                if ready:
                    return self._hand(ready, mine)
                self._change.wait()
            return []

    def settle(self, stage: str, *, well: bool) -> list[tuple[str, str]]:
        """Hear that a stage has ended; return those that will not run for it, each with the one that failed."""
        with self._change:
            lost = [] if well else self._give_up(stage)
            self._unsettled -= {stage, *(name for name, _ in lost)}
            self._change.notify_all()
            return lost

    def release(self, units: Sequence[Unit]) -> None:
        """Give back the cores of units that were taken together and have ended."""
        with self._change:
            self._taken -= self._needed(units[0])
            self._change.notify_all()

    def close(self) -> None:
        """Hand out nothing more."""
        with self._change:
            self._closed = True
            self._change.notify_all()

    def _hand(self, ready: Sequence[Unit], mine: Sequence[Unit]) -> list[Unit]:
        """Take the first unit and as many of its network as leave the others their share of the work."""
        first = ready[0]
        share = sum(unit.seconds for unit in mine) / (SPARE * self._slots[first.where])
        hand, seconds = [first], 0.0
        if first.network:
            for unit in ready[1:]:
                seconds += unit.seconds
                if unit.network == first.network and first.seconds + seconds <= share and seconds <= LONGEST_HAND:
                    hand.append(unit)
                else:
                    break
        self._waiting = [unit for unit in self._waiting if unit not in hand]
        self._taken += self._needed(first)
        return hand

    def _ready(self, unit: Unit) -> bool:
        return self._unsettled.isdisjoint(unit.needs)

    def _fits(self, unit: Unit) -> bool:
        return self._cores is None or not self._taken or self._taken + self._needed(unit) <= self._cores

    def _needed(self, unit: Unit) -> int:
        if self._cores is None or unit.where != "here":
            return 0
        return 1 if unit.threads is None else min(unit.threads or self._cores, self._cores)

    def _give_up(self, failed: str) -> list[tuple[str, str]]:
        """Take out what needs `failed`, and what needs that."""
        lost: list[tuple[str, str]] = []
        causes = [failed]
        while causes:
            cause = causes.pop()
            for unit in [unit for unit in self._waiting if cause in unit.needs]:
                self._waiting.remove(unit)
                lost += [(stage, cause) for stage in unit.stages]
                causes += unit.stages
        return lost


def in_turn(units: Sequence[Unit]) -> list[str]:
    """Return all first stages of units, then all second ones: all trainings share one graph, all evaluations another.

    Units that lack earlier stages, which are not stale, have their last stages at the end.
    """
    longest = max(len(unit.stages) for unit in units)
    padded = [(*[""] * (longest - len(unit.stages)), *unit.stages) for unit in units]
    return [stage for turn in zip(*padded, strict=True) for stage in turn if stage]


def first_stale(stages: Sequence[str], stale: Collection[str]) -> tuple[str, ...]:
    """Return `stages` from the first stale one on: what follows from it may be stale by what it will give."""
    place = next((index for index, stage in enumerate(stages) if stage in stale), len(stages))
    return tuple(stages[place:])
