"""How sure a number is: intervals, p-values, their adjustment, and what so many seeds could have seen at all.

Everything here takes plain numbers; what they mean is said in `summary` and `comparison`.

Accuracies are counts of images. Two seeds may therefore agree to the last digit by luck, and
a spread of zero is no certainty. So tests and intervals add `rounding` to the variance that they see: that of an error
which is uniform over one image, 1/12 of an image squared for an accuracy and 1/6 for a difference of two. What spread
is already seen stays, so they err on the side of caution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import scipy  # which loads its parts when they are asked for: a training asks for none

CONFIDENCE = 0.95
ALPHA = 1 - CONFIDENCE
POWER = 0.8  # the usual choice (Cohen 1988, section 2.4)
RESAMPLES = 9_999
LAST_BITS = 1e-12  # of a number, relative
MOST_SEEDS = 1_000  # beyond that, "more seeds" is no advice
# From ten seeds on, a spread is known to within a factor of 1.8 (95 % of the time, chi-square with nine degrees of
# freedom) and the seeds that it asks for to within 3.3. At three it is a factor of 39: then words must do.
ENOUGH_FOR_A_NUMBER = 10
TIMES_AS_MANY = {  # up to
    1.5: "perhaps a few more seeds",
    3: "perhaps two or three times as many seeds",
    10: "perhaps several times as many seeds",
}


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and an interval around it; NaN bounds where fewer than two seeds finished."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def half_width(self) -> float:
        """Half the interval's length."""
        return (self.high - self.low) / 2

    def within(self, low: float, high: float) -> Interval:
        """Return what of the interval lies between two numbers, beyond which the mean cannot be; NaN bounds stay."""
        return Interval(self.mean, float(np.clip(self.low, low, high)), float(np.clip(self.high, low, high)), self.n)


def spread_of(values: Sequence[float], rounding: float = 0.0) -> float:
    """Return the standard deviation of `values`, `rounding` added to their variance; NaN below two.

    Values that differ in their last bits alone are equal: the order of an addition is no spread.
    """
    if len(values) < 2:
        return math.nan
    equal = float(np.ptp(values)) <= LAST_BITS * float(np.max(np.abs(values)))
    return math.sqrt((0.0 if equal else float(np.var(values, ddof=1))) + rounding)


def t_interval(values: Sequence[float], confidence: float = CONFIDENCE, *, rounding: float = 0.0) -> Interval:
    """Return the mean of `values` with its two-sided t-interval (normal errors, unknown variance)."""
    n = len(values)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    mean = float(np.mean(values))
    if n == 1:
        return Interval(mean, math.nan, math.nan, 1)
    # Student's quantile, as scipy.stats.t.ppf has it, whose import takes a second and 20 MB.
    half = float(scipy.special.stdtrit(n - 1, (1 + confidence) / 2)) * spread_of(values, rounding) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n)


def bootstrap_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Return the mean of `values` with its percentile bootstrap interval: whole seeds are drawn again, with repeats.

    It assumes no distribution, but never reaches past the values seen, and of normal data it covers the mean with a
    probability of about 2 F(z sqrt((n - 1) / n)) - 1, F Student's distribution with n - 1 degrees of freedom: for a
    nominal 95 %, 75 at n = 3, 91 at 10, 94 at 40. So no verdict rests on it; where it and the t-interval part, the
    seeds are skew.
    """
    n = len(values)
    if n < 2:
        return t_interval(values)
    resampled = scipy.stats.bootstrap(
        (np.asarray(values, np.float64),),
        np.mean,
        confidence_level=confidence,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    low, high = resampled.confidence_interval
    return Interval(float(np.mean(values)), float(low), float(high), n)


def t_p_value(values: Sequence[float], *, rounding: float = 0.0, against: float = 0.0) -> float:
    """Return the two-sided p-value of a t-test that the mean of `values` is `against`.

    NaN below two values, and where nothing is known of their spread: all are equal, and not by rounding.
    """
    spread = spread_of(values, rounding)
    if not spread > 0:
        return math.nan
    n = len(values)
    return float(2 * scipy.stats.t.sf(abs(float(np.mean(values)) - against) / (spread / math.sqrt(n)), n - 1))


def mcnemar_p_value(only_first: int, only_second: int) -> float:
    """Return McNemar's exact two-sided p-value for two classifiers on the same images.

    Only images that one got right and the other wrong count; if neither is better, each falls either way with
    probability 1/2 (McNemar 1947; the exact form is the sign test on the discordant pairs).
    """
    discordant = only_first + only_second
    return float(scipy.stats.binomtest(only_first, discordant, 0.5).pvalue) if discordant else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values (Holm 1979): below alpha, with all errors of the family held to alpha together.

    The k-th smallest of m is multiplied by m - k + 1, then made no smaller than those before it. A NaN (a comparison
    that is still to be made) stays one and counts in m: a family is as large as it was planned, at every look.
    """
    known = [index for index, p in enumerate(p_values) if not math.isnan(p)]
    adjusted = [math.nan] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(known, key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def smallest_detectable(spread: float, n: int, alpha: float = ALPHA) -> float:
    """Return the smallest true mean difference that a paired t-test at n pairs finds with probability POWER.

    `spread` is the standard deviation of the paired differences, and the result has its unit. The test is two-sided at
    `alpha`; the statistic follows the noncentral t distribution (Cohen 1988, section 2.3). NaN below two pairs.
    """
    return spread * _detectable_in_spreads(n, alpha) if n >= 2 else math.nan


def seeds_needed(spread: float, difference: float, alpha: float = ALPHA) -> int | None:
    """Return how many pairs a t-test needs to find `difference` with probability POWER; None above MOST_SEEDS."""
    wanted = abs(difference)
    if math.isnan(spread) or math.isnan(wanted) or smallest_detectable(spread, MOST_SEEDS, alpha) > wanted:
        return None
    low, high = 1, MOST_SEEDS  # too few, enough
    while high - low > 1:
        middle = (low + high) // 2
        enough = smallest_detectable(spread, middle, alpha) <= wanted
        low, high = (low, middle) if enough else (middle, high)
    return high


def seeds_in_words(needed: int | None, n: int) -> str:
    """Say how many seeds would decide where `n` did not and `needed` are computed from their mean and spread.

    Below ENOUGH_FOR_A_NUMBER seeds that is a guess, and only its size is told.
    """
    if needed is None:
        return "no number of seeds in reach"
    if n >= ENOUGH_FOR_A_NUMBER:
        return f"about {max(needed, n + 1)} seeds"
    for times, words in TIMES_AS_MANY.items():
        if needed <= times * n:
            return words
    return "many times as many seeds, if any number"


@cache
def _detectable_in_spreads(n: int, alpha: float) -> float:
    degrees, critical = n - 1, float(scipy.stats.t.ppf(1 - alpha / 2, n - 1))

    def lacking(effect: float) -> float:
        # The other tail, significant with the wrong sign, holds less than 1e-4 where the power is 0.8.
        return float(scipy.stats.nct.sf(critical, degrees, effect * math.sqrt(n))) - POWER

    # A test at two pairs is so weak that its detectable effect grows as 1 / alpha.
    return float(scipy.optimize.brentq(lacking, 0.01, 2 / alpha))
