"""How tables are written: their cells, and themselves as Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import cache

import pandas as pd

from resblock.study.interval import Interval
from resblock.study.numbers import NONE, number


def percent(interval: Interval) -> str:
    """Return a mean with its half-width in per cent, for instance ``91.3 ± 0.4``; a dash where there is none."""
    return number(interval, scale=100)


def p_value(p: float) -> str:
    """Return a p-value to two digits, ``< 0.001`` below that; a dash where there is none."""
    if math.isnan(p):
        return NONE
    return "< 0.001" if p < 0.001 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def bounds(prefix: str, interval: Interval) -> dict[str, float]:
    """Return an interval's bounds as columns."""
    return {f"{prefix}_low": interval.low, f"{prefix}_high": interval.high}


def shown_name(name: str, most: int = 24) -> str:
    """Return a class's name as it can stand in a figure: one line, shortened, and no formula for Matplotlib."""
    known = _letters()
    name = "".join(
        letter if ord(letter) in known or not letter.isprintable() else "\N{WHITE SQUARE}" for letter in name
    )
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in name).split())
    end = most // 2  # where names of many classes differ
    short = line if len(line) <= most else f"{line[: most - 1 - end]}…{line[-end:]}"
    return short.replace("$", r"\$")


@cache
def _letters() -> frozenset[int]:
    """Return the letters that the figures' font has."""
    from matplotlib.font_manager import findfont, get_font

    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())


def markdown(frame: pd.DataFrame, left: Sequence[str] = ()) -> str:
    """Return a frame of text as a Markdown table; columns but the first and those in `left` are set to the right."""
    rule = ["---" if index == 0 or column in left else "--:" for index, column in enumerate(frame.columns)]
    rows = [[_cell(cell) for cell in row] for row in (frame.columns, *frame.to_numpy().tolist())]
    return "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:])) + "\n"


def _cell(content: object) -> str:
    """Return a cell as it can stand in a row of Markdown: one line, and no bar that would end it."""
    return re.sub(r"\s*\n\s*", " ", str(content)).replace("|", "\\|")
