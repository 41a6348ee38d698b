"""Curves with known rises: what is counted, how deep, and whose fault."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resblock.core.spec import ModelSpec
from resblock.core.training.run import EpochRow
from resblock.study.rebound import SHARES, find_rebound, find_rebounds, rebound_measure, settled_epoch


def curve(
    training: Sequence[float],
    trained: Sequence[float],
    reestimated: Sequence[float],
    accuracy: Sequence[float] | None = None,
) -> list[EpochRow]:
    accuracies = accuracy or [0.5] * len(training)
    rows = zip(training, trained, reestimated, accuracies, strict=True)
    return [EpochRow(n, 0.1, t, 0.5, v, a, r, a, t, 0.5) for n, (t, v, r, a) in enumerate(rows, start=1)]


FALLING = [1.0, 0.8, 0.6, 0.4]


def test_rises_of_each_curve_are_counted_and_added_up() -> None:
    found = find_rebound("plain-8", 3, curve(FALLING, [2.0, 1.5, 1.75, 1.25], [2.0, 1.5, 1.6, 1.7]))
    assert (found.variant, found.seed, found.epochs) == ("plain-8", 3, 4)
    assert (found.rises_trained, found.rises_reestimated, found.rises_training) == (1, 2, 0)
    assert found.depth_trained == pytest.approx(0.25)
    assert found.depth_reestimated == pytest.approx(0.2)
    assert found.largest_trained == pytest.approx(0.25)
    assert found.relative == pytest.approx(0.25)  # 0.25 up, 0.5 + 0.5 down


def test_a_rise_that_goes_away_on_reestimation_is_lagging_statistics() -> None:
    found = find_rebound("plain-8", 0, curve(FALLING, [2.0, 1.5, 1.9, 1.0], FALLING))
    assert (found.lagging_statistics, found.optimisation, found.overfitting) == (1, 0, 0)


def test_a_rise_that_training_loss_shares_is_optimisation() -> None:
    found = find_rebound("plain-8", 0, curve([1.0, 0.8, 0.9, 0.4], [2.0, 1.5, 1.9, 1.0], [2.0, 1.5, 1.9, 1.0]))
    assert (found.lagging_statistics, found.optimisation, found.overfitting) == (0, 1, 0)


def test_a_rise_while_training_loss_falls_is_overfitting() -> None:
    found = find_rebound("plain-8", 0, curve(FALLING, [2.0, 1.5, 1.7, 1.9], [2.0, 1.5, 1.7, 1.9]))
    assert (found.lagging_statistics, found.optimisation, found.overfitting) == (0, 0, 1)


def test_planted_causes_get_their_planted_shares() -> None:
    # Rises of 0.4, of which 0.1 stays on re-estimation (training rises), and of 0.6, of which 0.3 stays (it falls).
    found = find_rebound("plain-8", 0, curve([1.0, 1.1, 0.9, 0.8], [2.0, 2.4, 1.0, 1.6], [2.0, 2.1, 1.0, 1.3]))
    assert found.depth_trained == pytest.approx(1.0)
    assert [getattr(found, share) for share in SHARES] == pytest.approx([0.6, 0.1, 0.3])


def test_a_steady_fall_has_no_rebound_and_no_cause() -> None:
    found = find_rebound("plain-8", 0, curve(FALLING, FALLING, FALLING))
    assert (found.rises_trained, found.depth_trained, found.largest_trained, found.relative) == (0, 0, 0, 0)
    assert all(math.isnan(getattr(found, share)) for share in SHARES)


losses = st.lists(st.floats(0.01, 10), min_size=2, max_size=12)


@given(st.data())
def test_the_causes_always_add_up(data: st.DataObject) -> None:
    trained = data.draw(losses)
    others = st.lists(st.floats(0.01, 10), min_size=len(trained), max_size=len(trained))
    found = find_rebound("plain-8", 0, curve(data.draw(others), trained, data.draw(others)))
    if found.depth_trained:
        assert sum(getattr(found, share) for share in SHARES) == pytest.approx(1)
        assert all(0 <= getattr(found, share) <= 1 for share in SHARES)


def test_without_batch_norm_no_statistics_lag() -> None:
    trained = [2.0, 1.5, 1.7, 1.2]
    assert find_rebound("cnn-4", 0, curve(FALLING, trained, trained)).lagging_statistics == 0


@pytest.mark.parametrize(
    ("accuracies", "epoch"),
    [
        ([0.5, 0.6, 0.795, 0.805, 0.8], 3),
        ([0.8, 0.8, 0.8], 1),
        ([0.8, 0.5, 0.8], 3),  # it was there, left, and came back
        ([0.1, 0.2, 0.9], 3),
        ([], 0),
    ],
)
def test_accuracy_settles_where_it_stays_within_one_per_cent(accuracies: list[float], epoch: int) -> None:
    assert settled_epoch(np.array(accuracies)) == epoch


def test_a_diverged_curve_counts_up_to_its_last_finite_epoch() -> None:
    rows = curve([1.0, 0.8, math.nan], [2.0, 2.5, 3.0], [2.0, 2.5, 3.0])
    found = find_rebound("plain-8", 0, rows)
    assert found.epochs == 2
    assert found.rises_trained == 1
    nothing = find_rebound("plain-8", 1, rows[2:])
    assert (nothing.epochs, nothing.rises_trained, nothing.settled) == (0, 0, 0)
    assert math.isnan(nothing.relative)


def test_a_measure_holds_the_trainings_that_have_the_number() -> None:
    spec = ModelSpec.parse("plain-8")
    curves = {spec: {0: curve(FALLING, [2.0, 1.5, 1.9, 1.0], FALLING), 1: curve(FALLING, FALLING, FALLING), 2: []}}
    rebounds = find_rebounds(curves)
    assert len(rebounds) == 3
    assert rebound_measure(rebounds, "lagging_statistics") == {spec: {0: 1.0}}
    assert set(rebound_measure(rebounds, "relative")[spec]) == {0, 1}
