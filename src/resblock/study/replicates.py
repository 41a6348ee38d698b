"""Seeds and splits apart: what either adds to a number's spread, where each seed was trained on each split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from resblock.study.interval import Interval, t_interval


@dataclass(frozen=True)
class Spread:
    """Standard deviations of one number, by where they come from; zero where chance alone would explain the part."""

    split: float  # between means over seeds, each of one split
    seed: float  # between means over splits, each of one seed
    rest: float  # of one training beyond its split's mean and its seed's


@dataclass(frozen=True)
class Replicated:
    """One number on several splits, trained from the same seeds on each."""

    label: str
    values: Sequence[Sequence[float]]  # [splits][seeds]
    rounding: float = 0.0  # what counting whole images adds to the variance of one value

    @property
    def split_means(self) -> list[float]:
        """The mean over seeds on each split."""
        return [float(np.mean(row)) for row in self.values]

    @property
    def interval(self) -> Interval:
        """The mean with the t-interval that speaks of further splits: its spread is that of the splits' means."""
        return t_interval(self.split_means, rounding=self.rounding / len(self.values[0]))

    @property
    def spread(self) -> Spread:
        """The parts of the spread. Raises ValueError below two splits or two seeds."""
        return parts_of_spread(self.values)


def parts_of_spread(values: Sequence[Sequence[float]]) -> Spread:
    """Return what splits, seeds and the rest add to the spread of `values`, [splits][seeds].

    It is the analysis of variance of a two-way table, both ways random, one value in a cell (Searle, Casella and
    McCulloch 1992, section 4.6). A part whose estimate is negative is zero. Raises ValueError below two of either.
    """
    table = np.asarray(values, np.float64)
    splits, seeds = table.shape
    if min(splits, seeds) < 2:
        raise ValueError(f"got {splits} splits of {seeds} seeds, expected at least two of each")
    by_split, by_seed = table.mean(axis=1), table.mean(axis=0)
    left = table - by_split[:, None] - by_seed[None, :] + table.mean()
    rest = float((left**2).sum()) / ((splits - 1) * (seeds - 1))
    return Spread(
        split=sqrt(max(0.0, float(np.var(by_split, ddof=1)) - rest / seeds)),
        seed=sqrt(max(0.0, float(np.var(by_seed, ddof=1)) - rest / splits)),
        rest=sqrt(rest),
    )
