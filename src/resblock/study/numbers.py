"""How numbers are written: with as many digits as it takes that nothing but zero shows as zero."""

from __future__ import annotations

import math
from collections.abc import Sequence

from resblock.study.interval import CONFIDENCE, Interval

NONE = "–"
MORE = 2  # digits that a number may have beyond those that it is asked for
NOTHING = 1e-9  # as shown: what is nearer to zero is a sum's last bit


def enough(values: Sequence[float], digits: int) -> int:
    """Return how many digits behind the point, `digits` or a few more, show none of `values` as zero that is not."""
    smallest = min((abs(value) for value in values if abs(value) > NOTHING), default=1.0)  # NaN is not above it
    return next((many for many in range(digits, digits + MORE) if float(f"{smallest:.{many}f}")), digits + MORE)


def plain(value: float, digits: int) -> str:
    """Return a number without a sign before what is above zero, for instance ``0.04`` for one digit."""
    return f"{value:z.{enough([value], digits)}f}"


def signed(value: float, digits: int) -> str:
    """Return a number with its sign, for instance ``+1.2``; zero has none."""
    return _signed(value, enough([value], digits))


def in_parts(interval: Interval, scale: float, digits: int) -> tuple[str, str, str]:
    """Return mean, low and high, signed and with the same number of digits; bounds that are not there are empty.

    The width does not show as zero either.
    """
    values = [scale * value for value in (interval.mean, interval.low, interval.high)]
    many = enough([*values, scale * interval.half_width], digits)
    mean, low, high = ("" if math.isnan(value) else _signed(value, many) for value in values)
    return mean, low, high


def difference(interval: Interval, scale: float, digits: int) -> str:
    """Return a difference with its interval, signed, for instance ``+1.2 [+0.3, +2.1]``; a dash where there is none."""
    mean, low, high = in_parts(interval, scale, digits)
    return f"{mean} [{low}, {high}]" if low else mean or NONE


def points(interval: Interval) -> str:
    """Return a difference of shares with its interval in percentage points, for instance ``+1.2 [+0.3, +2.1]``."""
    return difference(interval, scale=100, digits=1)


def points_in_words(interval: Interval) -> str:
    """Return the same for a sentence, for instance ``+1.2 points, 95 % interval +0.3 to +2.1``."""
    mean, low, high = in_parts(interval, 100, 1)
    return f"{mean} points, {100 * CONFIDENCE:.0f} % interval {low} to {high}" if low else f"{mean} points"


def number(interval: Interval, scale: float = 1, digits: int = 1) -> str:
    """Return a mean with its half-width, for instance ``91.3 ± 0.4``; a dash where there is none."""
    mean, half = scale * interval.mean, scale * interval.half_width
    if math.isnan(mean):
        return NONE
    if math.isnan(half):
        return plain(mean, digits)
    many = enough([half], digits)
    return f"{mean:z.{many}f} ± {half:z.{many}f}"


def capitalised(words: str) -> str:
    """Return words as a sentence begins, the others as they are."""
    return f"{words[0].upper()}{words[1:]}"


def counted(count: int, name: str) -> str:
    """Return how many there are of something, for instance ``1 seed`` or ``3 seeds``."""
    return f"{count:,} {name}{'' if count == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence has them, for instance ``8, 20 and 32``."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def _signed(value: float, digits: int) -> str:
    return f"{value:+.{digits}f}" if abs(value) > NOTHING else f"{0:.{digits}f}"
