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
from resblock.study.rebound import (
    CAUSES,
    Rebound,
    averages_share,
    comparable,
    find_rebound,
    find_rebounds,
    pooled,
    rebound_measure,
    rebounding,
    settled_epoch,
)
from tests.planted import rows


def curve(training: Sequence[float], trained: Sequence[float], reestimated: Sequence[float]) -> list[EpochRow]:
    """Losses at each epoch's end: of training images, of validation images as trained and re-estimated."""
    return rows(trained, reestimated, training)


losses = st.lists(st.floats(0.01, 10), min_size=2, max_size=12)
FALLING = [1.0, 0.8, 0.6, 0.4]


def shares(found: Rebound) -> list[float]:
    return [getattr(found, cause) / found.height_trained for cause in CAUSES]


def test_rises_of_each_curve_are_counted_and_added_up() -> None:
    found = find_rebound("plain-8", 3, curve([1.0, 0.8, 0.9, 0.4], [2.0, 1.5, 1.75, 1.25], [2.0, 1.5, 1.6, 1.7]))
    assert (found.variant, found.seed, found.epochs) == ("plain-8", 3, 4)
    assert (found.rises_trained, found.rises_reestimated, found.rises_training) == (1, 2, 1)
    assert found.height_trained == pytest.approx(0.25)
    assert found.height_reestimated == pytest.approx(0.2)
    assert found.height_training == pytest.approx(0.1)
    assert found.largest_trained == pytest.approx(0.25)
    assert found.falls_trained == pytest.approx(1.0)  # 0.5 + 0.5
    assert found.relative == pytest.approx(0.25)


def test_a_rise_that_goes_away_on_reestimation_is_moving_averages() -> None:
    found = find_rebound("plain-8", 0, curve(FALLING, [2.0, 1.5, 1.9, 1.0], FALLING))
    assert shares(found) == [1, 0, 0]


def test_rises_that_re_estimation_brings_are_told_beside_what_it_takes() -> None:
    """Rises of 0.4 and 0.2 as trained; re-estimated 0.1 at the first, none at the second and 0.3 of its own."""
    found = find_rebound("plain-8", 0, curve([1.0] * 5, [2.0, 2.4, 1.0, 1.2, 1.0], [2.0, 2.1, 1.0, 0.9, 1.2]))
    assert (found.moving_averages, found.unshared) == pytest.approx((0.5, 0.3))
    together = averages_share([found])
    assert together is not None
    assert (together.share, together.reverse, together.heights) == pytest.approx((0.5 / 0.6, 0.3 / 0.4, 0.4 / 0.6))
    assert together.beside == (
        "the other way round 75 % of the height of the rises re-estimated is missing from the loss as trained, and all "
        "of them are 67 % as high"
    )


def test_by_chance_alone_both_shares_are_alike_and_rises_as_high() -> None:
    """Two curves with noise of their own, and averages that are right: a third of the rises counts for them."""
    rng = np.random.default_rng(0)
    shared = rng.normal(1, 0.1, (200, 20))
    trained, reestimated = shared + rng.normal(0, 0.05, (2, 200, 20))
    found = averages_share(
        [find_rebound("plain-8", n, rows(trained[n], reestimated[n], shared[n])) for n in range(200)]
    )
    assert found is not None
    assert 0.2 < found.share < 0.5
    assert found.reverse == pytest.approx(found.share, abs=0.03)
    assert found.heights == pytest.approx(1, abs=0.03)


@given(st.data())
def test_late_share_unshared_height_and_ratio_belong_together(data: st.DataObject) -> None:
    trained = data.draw(losses)
    others = st.lists(st.floats(0.01, 10), min_size=len(trained), max_size=len(trained))
    found = find_rebound("plain-8", 0, curve(data.draw(others), trained, data.draw(others)))
    late = found.moving_averages - found.unshared
    assert late == pytest.approx(found.height_trained - found.height_reestimated, abs=1e-9)
    assert found.unshared >= -1e-9


def test_where_no_loss_rises_nothing_is_late() -> None:
    steady = find_rebound("plain-8", 0, curve(FALLING, FALLING, FALLING))
    assert averages_share([steady]) is None
    assert not rebounding([steady])


def test_a_rise_that_training_images_share_is_optimisation() -> None:
    found = find_rebound("plain-8", 0, curve([1.0, 0.8, 1.2, 0.4], [2.0, 1.5, 1.9, 1.0], [2.0, 1.5, 1.9, 1.0]))
    assert shares(found) == pytest.approx([0, 1, 0])


def test_a_rise_is_optimisation_as_far_as_training_images_share_it() -> None:
    found = find_rebound("plain-8", 0, curve([1.0, 0.8, 0.9, 0.4], [2.0, 1.5, 1.9, 1.0], [2.0, 1.5, 1.9, 1.0]))
    assert shares(found) == pytest.approx([0, 0.25, 0.75])


def test_a_rise_while_training_images_get_better_is_overfitting() -> None:
    found = find_rebound("plain-8", 0, curve(FALLING, [2.0, 1.5, 1.7, 1.9], [2.0, 1.5, 1.7, 1.9]))
    assert shares(found) == pytest.approx([0, 0, 1])
    assert found.lasting == pytest.approx(0.4)


def test_what_a_later_epoch_takes_back_does_not_last() -> None:
    # Beside flat training images: up by 0.4, down by 0.3, up by 0.2. Of the first rise 0.1 stays, all of the second.
    losses = [1.0, 1.4, 1.1, 1.3]
    found = find_rebound("plain-8", 0, curve([1.0] * 4, losses, losses))
    assert found.overfitting == pytest.approx(0.6)
    assert found.lasting == pytest.approx(0.3)


def test_planted_causes_get_their_planted_shares() -> None:
    # Rises of 0.4, of which 0.1 stays on re-estimation (training rises), and of 0.6, of which 0.3 stays (it falls).
    found = find_rebound("plain-8", 0, curve([1.0, 1.1, 0.9, 0.8], [2.0, 2.4, 1.0, 1.6], [2.0, 2.1, 1.0, 1.3]))
    assert found.height_trained == pytest.approx(1.0)
    assert shares(found) == pytest.approx([0.6, 0.1, 0.3])
    assert found.weights == pytest.approx(0.4)


def test_a_steady_fall_has_no_rebound_and_no_cause() -> None:
    found = find_rebound("plain-8", 0, curve(FALLING, FALLING, FALLING))
    assert (found.rises_trained, found.height_trained, found.largest_trained, found.relative) == (0, 0, 0, 0)
    assert [getattr(found, cause) for cause in CAUSES] == [0, 0, 0]


def test_the_paper_saw_twenty_epochs() -> None:
    losses = [2.0, 1.0] * 15
    found = find_rebound("plain-8", 0, curve(losses, losses, losses))
    assert (found.height_trained, found.falls_trained) == (14, 15)
    assert (found.early_height, found.early_falls) == (9, 10)  # of twenty epochs


@given(st.data())
def test_the_causes_always_add_up(data: st.DataObject) -> None:
    trained = data.draw(losses)
    others = st.lists(st.floats(0.01, 10), min_size=len(trained), max_size=len(trained))
    found = find_rebound("plain-8", 0, curve(data.draw(others), trained, data.draw(others)))
    assert sum(getattr(found, cause) for cause in CAUSES) == pytest.approx(found.height_trained)
    assert all(getattr(found, cause) >= 0 for cause in CAUSES)
    assert 0 <= found.lasting <= found.overfitting


def test_without_batch_norm_no_statistics_lag() -> None:
    trained = [2.0, 1.5, 1.7, 1.2]
    assert find_rebound("cnn-4", 0, curve(FALLING, trained, trained)).moving_averages == 0


def test_accuracy_settles_at_99_per_cent_of_its_end() -> None:
    climb = np.array([0.1 * n for n in range(1, 8)] + [0.78, 0.7919, 0.7921, 0.795] + [0.8] * 29)
    assert settled_epoch(climb) == 10  # 0.792 is 99 % of 0.8
    dipped = climb.copy()
    dipped[[20, 30]] = 0.75  # it was there, and comes back
    assert settled_epoch(dipped) == pytest.approx(10, abs=1)
    assert settled_epoch(np.full(40, 0.8)) == 1
    assert math.isnan(settled_epoch(climb[:39]))
    assert math.isnan(settled_epoch(np.array([])))


@pytest.mark.parametrize("epochs", [40, 100])
def test_noise_around_a_constant_accuracy_is_no_ascent(epochs: int) -> None:
    rng = np.random.default_rng(0)
    settled = [settled_epoch(0.7 + rng.normal(0, 0.005, epochs)) for _ in range(100)]
    assert np.mean(settled) < 2  # by the last time that it left 1 % around its last value: epochs 36 and 96


def test_a_diverged_curve_counts_up_to_its_last_finite_epoch() -> None:
    epochs = curve([1.0, 0.8, math.nan], [2.0, 2.5, 3.0], [2.0, 2.5, 3.0])
    found = find_rebound("plain-8", 0, epochs)
    assert found.epochs == 2
    assert found.rises_trained == 1
    nothing = find_rebound("plain-8", 1, epochs[2:])
    assert (nothing.epochs, nothing.rises_trained, nothing.height_trained) == (0, 0, 0)
    assert math.isnan(nothing.relative)
    assert math.isnan(nothing.settled)


def test_a_measure_holds_the_trainings_that_have_the_number() -> None:
    spec = ModelSpec.parse("plain-8")
    curves = {spec: {0: curve(FALLING, [2.0, 1.5, 1.9, 1.0], FALLING), 1: curve(FALLING, FALLING, FALLING), 2: []}}
    rebounds = find_rebounds(curves)
    assert len(rebounds) == 3
    assert rebound_measure(rebounds, "moving_averages") == {spec: {0: pytest.approx(0.4), 1: 0.0}}
    assert set(rebound_measure(rebounds, "relative")[spec]) == {0, 1}


def test_a_pooled_ratio_is_that_of_sums_and_its_spread_that_of_its_linearisation() -> None:
    spec = ModelSpec.parse("plain-8")
    rises = {0: 0.5, 1: 1.0, 2: 1.5}  # after falls of 1, 2 and 5
    falls = {0: 1.0, 1: 2.0, 2: 5.0}
    curves = {spec: {n: rows(*[[9.0, 9.0 - falls[n], 9.0 - falls[n] + rises[n]]] * 3) for n in rises}}
    values = pooled(find_rebounds(curves), "height_trained", "falls_trained")
    assert np.mean(list(values.values())) == pytest.approx(3 / 8)
    # By hand: 3/8 + (rise - 3/8 fall) / (8/3)
    assert values == {0: pytest.approx(0.421875), 1: pytest.approx(0.46875), 2: pytest.approx(0.234375)}
    assert pooled(find_rebounds(curves), "optimisation", "moving_averages") == {}
    means = pooled(find_rebounds(curves), "height_trained", None)
    assert means == {seed: pytest.approx(rise) for seed, rise in rises.items()}


def test_modified_networks_and_seeds_that_one_lacks_are_not_comparable() -> None:
    names = ("cnn-4", "plain-8", "plain-8-nobn", "plain-8-w2")
    curves = {ModelSpec.parse(name): {seed: curve(FALLING, FALLING, FALLING) for seed in (0, 1)} for name in names}
    curves[ModelSpec.parse("plain-8")][2] = curve(FALLING, FALLING, FALLING)
    found = find_rebounds(curves)
    assert {(each.variant, each.seed) for each in comparable(found)} == {
        (name, seed) for name in ("cnn-4", "plain-8") for seed in (0, 1)
    }
    assert {each.variant for each in comparable(found, normalized=True)} == {"plain-8"}
    assert len(comparable(found, normalized=True)) == 3
