"""Who computes: the seam behind which a study's stages run on this machine or elsewhere. docs/engines.md.

DVC runs every stage as its command says, here. An engine decides with which environment variables that command is
started; by these it hands its work over to whoever computes, and writes here what comes back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, Self

from resblock.running.queue import Unit, Where


class Engine(Protocol):
    """What `resblock run` asks of whoever computes; used as a context, which ends all that it started."""

    slots: Mapping[Where, int]  # how many units run at once; with `cluster` among them, trainings are units there
    cores: int | None  # that units here share; None: as many units as slots, whatever they compute with

    def prepare(self, units: Sequence[Unit]) -> None:
        """Start what `units`, of which some are asked for soon, need to have started, and do not wait for it."""
        ...

    def seat(self, unit: Unit) -> AbstractContextManager[Mapping[str, str]]:
        """Return the variables that commands of `unit`, and others of its network, are started with."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...
