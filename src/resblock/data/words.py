"""Numbers of things and lists of names, in sentences for a person."""

from __future__ import annotations

from collections.abc import Sequence

NAMED = 5  # in a sentence


def told(number: int, thing: str, one: str, many: str) -> str:
    """Return a sentence about a number of things, for instance ``1 picture was skipped``."""
    return f"{number:,} {thing} {one}" if number == 1 else f"{number:,} {thing}s {many}"


def some(names: Sequence[str]) -> str:
    """Return the first few of `names`, and whether there are more."""
    shown = [name if name.isprintable() else repr(name) for name in names[:NAMED]]
    return ", ".join(shown) + (" …" if len(names) > NAMED else "")
