"""One thing that is not as it should be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """What is wrong, and what to do.

    `mend`, where there is one, loses nothing and returns what it did; it raises an exception where it could not.
    """

    what: str
    remedy: str
    mend: Callable[[], str] | None = None
    harmful: bool = True  # False: good to know
