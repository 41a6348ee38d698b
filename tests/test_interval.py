"""Intervals, p-values and power against values worked by hand, published tables, SciPy, and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from resblock.study.interval import (
    ENOUGH_FOR_A_NUMBER,
    bootstrap_interval,
    holm,
    mcnemar_p_value,
    seeds_in_words,
    seeds_needed,
    smallest_detectable,
    t_interval,
    t_p_value,
)


def within_binomial_error(share: float, promised: float, draws: int) -> bool:
    """Four standard errors: a right promise fails this once in 16,000 seeds, and the seed is fixed."""
    return abs(share - promised) < 4 * math.sqrt(promised * (1 - promised) / draws)


def test_t_interval_of_a_worked_example() -> None:
    # Values 1, 2, 3: mean 2, standard deviation 1, t(0.975, 2) = 4.3027, so 4.3027 / sqrt(3) = 2.4841.
    interval = t_interval([1.0, 2.0, 3.0])
    assert interval.mean == 2
    assert interval.half_width == pytest.approx(2.4841, abs=1e-4)
    assert interval.n == 3


def test_t_interval_and_p_value_agree_with_scipy() -> None:
    values = np.random.default_rng(0).normal(0.01, 0.01, size=7)
    tested = stats.ttest_1samp(values, 0)
    interval = t_interval(list(values))
    assert (interval.low, interval.high) == pytest.approx(tuple(tested.confidence_interval(0.95)))
    assert t_p_value(list(values)) == pytest.approx(tested.pvalue)


@pytest.mark.parametrize("n", [2, 3, 10])
def test_t_intervals_cover_as_often_as_they_promise(n: int) -> None:
    draws = np.random.default_rng(n).normal(5, 2, size=(4000, n))
    covered = np.mean([(i := t_interval(list(draw))).low <= 5 <= i.high for draw in draws])
    assert within_binomial_error(float(covered), 0.95, len(draws))


@pytest.mark.parametrize(("n", "promised"), [(10, 0.91), (40, 0.94)])
def test_bootstrap_intervals_cover_as_often_as_their_docstring_says(n: int, promised: float) -> None:
    # For normal data the bootstrap's mean is close to normal with variance (n - 1) / n s^2 / n: its coverage is known.
    theory = 2 * stats.t.cdf(1.96 * math.sqrt((n - 1) / n), n - 1) - 1
    assert theory == pytest.approx(promised, abs=0.006)
    draws = np.random.default_rng(n).normal(5, 2, size=(600, n))
    covered = np.mean([(i := bootstrap_interval(list(draw))).low <= 5 <= i.high for draw in draws])
    assert within_binomial_error(float(covered), float(theory), len(draws))


def test_three_seeds_bootstrap_to_their_extremes() -> None:
    # Of 27 resamples one is thrice the smallest: 1/27 > 2.5 %, so the interval is the range, and covers 1 - 2/8 = 75 %.
    interval = bootstrap_interval([0.2, 0.5, 0.9])
    assert (interval.low, interval.high) == pytest.approx((0.2, 0.9))
    assert bootstrap_interval([0.2, 0.5, 0.9]) == interval


@pytest.mark.parametrize(("values", "mean"), [([], math.nan), ([0.5], 0.5)])
def test_too_few_values_give_no_bounds(values: list[float], mean: float) -> None:
    for interval in (t_interval(values), bootstrap_interval(values)):
        assert interval.mean == pytest.approx(mean, nan_ok=True)
        assert math.isnan(interval.low)
        assert math.isnan(interval.high)
    assert math.isnan(t_p_value(values))
    assert math.isnan(smallest_detectable(1.0, len(values)))


def test_equal_differences_are_no_certainty() -> None:
    assert math.isnan(t_p_value([0.25, 0.25]))  # nothing is known of the spread
    assert math.isnan(t_p_value([0.1 + 0.2, 0.3]))  # nor where the order of an addition is all that differs
    # One image each, of which rounding is 1/6 of one squared: t = 1 / sqrt(1/12) = 3.4641, p = 2/pi atan(1/t).
    assert t_p_value([1.0, 1.0], rounding=1 / 6) == pytest.approx(2 / math.pi * math.atan(1 / math.sqrt(12)))
    assert t_p_value([0.0, 0.0], rounding=1 / 6) == 1
    assert t_interval([1.0, 1.0], rounding=1 / 6).low == pytest.approx(1 - 12.7062 / math.sqrt(12), abs=1e-4)
    assert bootstrap_interval([0.25, 0.25]).half_width == 0


def test_a_value_may_be_tested_against() -> None:
    values = [0.1, 0.4, 0.3]
    assert t_p_value(values, against=0.5) == pytest.approx(stats.ttest_1samp(values, 0.5).pvalue)


@pytest.mark.parametrize(
    ("needed", "n", "words"),
    [
        (None, 3, "no number of seeds in reach"),
        (4, 3, "perhaps a few more seeds"),
        (5, 3, "perhaps two or three times as many seeds"),
        (11, 5, "perhaps two or three times as many seeds"),  # once "several times as many"
        (10, 3, "perhaps several times as many seeds"),
        (30, 3, "perhaps several times as many seeds"),
        (31, 3, "many times as many seeds, if any number"),
        (55, 10, "about 55 seeds"),
        (4, 10, "about 11 seeds"),
    ],
)
def test_few_seeds_say_in_words_how_many_would_decide(needed: int | None, n: int, words: str) -> None:
    assert seeds_in_words(needed, n) == words


def test_at_three_seeds_the_number_that_would_decide_is_uncertain_by_a_factor_of_ten_and_more() -> None:
    """Why there are words: the seeds needed go with the variance, whose estimate follows chi-square."""
    low, high = (stats.chi2.ppf(share, 2) for share in (0.025, 0.975))
    assert high / low > 100
    low, high = (stats.chi2.ppf(share, ENOUGH_FOR_A_NUMBER - 1) for share in (0.025, 0.975))
    assert high / low < 10


def test_mcnemar_of_worked_examples() -> None:
    # Ten discordant images, one on one side: 2 (1 + 10) / 2^10 = 0.021484375.
    assert mcnemar_p_value(1, 9) == pytest.approx(22 / 1024)
    assert mcnemar_p_value(9, 1) == pytest.approx(22 / 1024)
    assert mcnemar_p_value(4, 4) == 1
    assert mcnemar_p_value(0, 0) == 1


def test_mcnemar_agrees_with_chi_square_where_there_are_many_images() -> None:
    # Edwards' continuity correction: (|b - c| - 1)^2 / (b + c) is nearly chi-square with one degree of freedom.
    for b, c in ((120, 90), (300, 260)):
        assert mcnemar_p_value(b, c) == pytest.approx(stats.chi2.sf((abs(b - c) - 1) ** 2 / (b + c), 1), rel=0.02)


def test_mcnemar_errs_as_rarely_as_it_promises() -> None:
    ours = np.random.default_rng(0).binomial(60, 0.5, size=3000)
    p_values = {b: mcnemar_p_value(b, 60 - b) for b in range(61)}
    # An exact test of a discrete count errs at most as often as promised; 0.0273 is what 60 fair coins allow.
    share = float(np.mean([p_values[int(b)] < 0.05 for b in ours]))
    assert within_binomial_error(share, 0.0273, len(ours))


def test_holm_of_a_worked_example() -> None:
    # Sorted 0.01, 0.02, 0.03, 0.2 times 4, 3, 2, 1 gives 0.04, 0.06, 0.06, 0.2, none below the one before.
    assert holm([0.03, 0.01, 0.2, 0.02]) == pytest.approx([0.06, 0.04, 0.2, 0.06])


def test_holm_counts_what_is_still_to_be_compared_and_never_passes_one() -> None:
    """0.012 is the smallest of four: 0.048. Two more that are planned make it the smallest of six."""
    adjusted = holm([math.nan, 0.012, 0.9, math.nan, 0.4, 0.5])
    assert math.isnan(adjusted[0])
    assert adjusted[1] == pytest.approx(6 * 0.012)
    assert adjusted[2] == 1
    assert holm([0.7, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_holds_the_errors_of_a_family() -> None:
    draws = np.random.default_rng(3).uniform(size=(4000, 6))
    share = float(np.mean([min(holm(list(draw))) < 0.05 for draw in draws]))
    assert within_binomial_error(share, 1 - (1 - 0.05 / 6) ** 6, len(draws))


@pytest.mark.parametrize(("effect", "pairs"), [(0.5, 34), (0.8, 15), (0.2, 199)])
def test_pairs_needed_are_those_of_the_published_tables(effect: float, pairs: int) -> None:
    # Matched pairs, two-sided 0.05, power 0.8: 34, 15 and 199 for Cohen's medium, large and small effect (G*Power).
    assert seeds_needed(1.0, effect) == pairs
    assert smallest_detectable(1.0, pairs) <= effect < smallest_detectable(1.0, pairs - 1)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_the_smallest_detectable_gap_is_found_four_times_in_five(n: int) -> None:
    gap = smallest_detectable(2.0, n)
    draws = np.random.default_rng(n).normal(gap, 2.0, size=(20_000, n))
    found = np.mean(stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05)
    assert within_binomial_error(float(found), 0.8, len(draws))


def test_seeds_needed_says_none_where_no_number_in_reach_would_do() -> None:
    assert seeds_needed(1.0, 0.001) is None
    assert seeds_needed(1.0, 0.0) is None
    assert seeds_needed(math.nan, 0.1) is None
    assert seeds_needed(0.0, 0.1) == 2
