"""Means, intervals and paired gaps against values worked by hand and against SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from resblock.evaluation.score import Score, empty_score
from resblock.evaluation.study import Study, t_interval
from resblock.spec import ModelSpec


def finished(variant: str, seed: int, test_accuracy: float) -> Score:
    spec = ModelSpec.parse(variant)
    return Score(spec.name, spec.family, spec.depth, seed, "finished", test_accuracy=test_accuracy)


def test_t_interval_of_a_worked_example() -> None:
    # Values 1, 2, 3: mean 2, standard deviation 1, t(0.975, 2) = 4.3027, so 4.3027 / sqrt(3) = 2.4841.
    interval = t_interval([1.0, 2.0, 3.0])
    assert interval.mean == 2
    assert interval.half_width == pytest.approx(2.4841, abs=1e-4)
    assert interval.n == 3


def test_t_interval_agrees_with_scipy() -> None:
    values = np.random.default_rng(0).normal(0.9, 0.01, size=7)
    interval = t_interval(list(values))
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (interval.low, interval.high) == pytest.approx((low, high))


def test_t_intervals_cover_as_often_as_they_promise() -> None:
    draws = np.random.default_rng(1).normal(5, 2, size=(4000, 3))
    covered = np.mean([(i := t_interval(list(draw))).low <= 5 <= i.high for draw in draws])
    # Binomial standard error at 0.95 and 4,000 draws is 0.0034.
    assert covered == pytest.approx(0.95, abs=4 * 0.0034)


@pytest.mark.parametrize(("values", "mean"), [([], math.nan), ([0.5], 0.5)])
def test_too_few_values_give_no_bounds(values: list[float], mean: float) -> None:
    interval = t_interval(values)
    assert interval.mean == pytest.approx(mean, nan_ok=True)
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


def test_gaps_are_paired_by_seed() -> None:
    # Accuracies vary by 10 points over seeds, yet each pair differs by exactly one: pairing finds it without doubt.
    scores = [finished("plain-20", seed, 0.5 + seed / 10) for seed in range(3)]
    scores += [finished("residual-20", seed, 0.51 + seed / 10) for seed in (2, 0, 1)]
    (gap,) = Study("digits", tuple(scores)).gaps("test_accuracy")
    assert gap.depth == 20
    assert gap.interval.mean == pytest.approx(0.01)
    assert gap.interval.half_width == pytest.approx(0, abs=1e-12)


def test_only_seeds_that_finished_both_twins_enter_a_gap() -> None:
    scores = (
        finished("plain-20", 0, 0.5),
        empty_score(ModelSpec.parse("plain-20"), 1, "diverged"),
        finished("residual-20", 0, 0.7),
        finished("residual-20", 1, 0.9),
        finished("residual-32", 0, 0.9),  # its twin is not in the study
    )
    (gap,) = Study("digits", scores).gaps("test_accuracy")
    assert gap.differences == {0: pytest.approx(0.2)}


def test_a_diverged_run_stays_a_row_and_never_a_zero() -> None:
    spec = ModelSpec.parse("plain-20")
    study = Study(
        "digits", (finished("plain-20", 0, 0.5), empty_score(spec, 1, "diverged"), empty_score(spec, 2, "missing"))
    )
    (summary,) = study.summaries
    assert len(summary.scores) == 3
    assert summary.interval("test_accuracy").mean == 0.5
    assert summary.trouble == "1 diverged, 1 missing"


def test_metrics_name_networks_and_depths() -> None:
    scores = (finished("plain-8", 0, 0.5), finished("residual-8", 0, 0.75), finished("cnn-4", 0, 0.25))
    metrics = Study("digits", scores).metrics()
    assert metrics["test_accuracy"] == {"plain-8": 0.5, "residual-8": 0.75, "cnn-4": 0.25}
    assert metrics["residual_minus_plain"] == {"8": 0.25}
