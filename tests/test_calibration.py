"""Calibration: errors worked by hand, and temperatures that were planted."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from scipy.special import softmax
from sklearn.metrics import log_loss

from resblock.core.splits import Split
from resblock.evaluation.calibration import (
    BINS,
    COLDEST,
    HOTTEST,
    Calibration,
    calibrate,
    calibration_floor,
    expected_calibration_error,
    fit_temperature,
    reliability,
)
from resblock.report.sections.calibration import _at_bounds  # pyright: ignore[reportPrivateUsage]


def logits_of(confidences: list[float]) -> np.ndarray:
    """Return two-class logits, float (n, 2), that give class 0 these probabilities."""
    return np.array([[math.log(p / (1 - p)), 0.0] for p in confidences])


def sampled(temperature: float, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw labels from a model's true probabilities and return its logits times `temperature`, and the labels."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, size=(n, 10))
    labels = np.array([rng.choice(10, p=row) for row in softmax(logits, axis=-1)])
    return logits * temperature, labels


def test_calibration_error_of_a_worked_example() -> None:
    # Four images at 0.9 of which two are right, one at 0.6 that is right: 4/5 |0.5 - 0.9| + 1/5 |1 - 0.6| = 0.40.
    logits = logits_of([0.9, 0.9, 0.9, 0.9, 0.6])
    labels = np.array([0, 0, 1, 1, 0])
    assert expected_calibration_error(*reliability(logits, labels)) == pytest.approx(0.40)


def test_bins_are_of_equal_width_and_hold_their_upper_edge() -> None:
    images, confidence, accuracy = reliability(logits_of([0.6, 10 / 15 - 1e-9, 0.999999]), np.array([0, 1, 0]))
    assert images.shape == (BINS,)
    assert {int(place) + 1 for place in np.flatnonzero(images)} == {9, 10, 15}  # 0.6 = 9/15 belongs to bin 9
    assert accuracy[8] == 1
    assert accuracy[9] == 0
    assert confidence[14] == pytest.approx(0.999999)
    assert np.isnan(confidence[0])


@pytest.mark.parametrize("planted", [0.5, 1.0, 3.0])
def test_a_planted_temperature_is_found(planted: float) -> None:
    logits, labels = sampled(planted, 4000, seed=0)
    assert fit_temperature(logits, labels) == pytest.approx(planted, rel=0.05)


def test_scaling_mends_a_network_that_is_too_sure_and_moves_no_answer() -> None:
    on_validation, on_test = sampled(3.0, 3000, seed=1), sampled(3.0, 3000, seed=2)
    images = np.zeros((3000, 1, 1, 1), np.uint8)
    row, bins = calibrate(
        "cnn-4",
        0,
        "trained",
        validation=Split(images, on_validation[1]),
        test=Split(images, on_test[1]),
        logits=(on_validation[0], on_test[0]),
    )
    assert row.temperature == pytest.approx(3.0, rel=0.05)
    assert row.ece > 0.1
    assert row.ece_scaled < 0.03
    assert 0 < row.ece_floor < 0.03
    assert 0 < row.ece_floor_scaled < 0.03
    assert row.loss_scaled < row.loss
    raw, scaled = ([b for b in bins if b.scaling == scaling] for scaling in ("raw", "scaled"))
    right = [sum(b.images * b.accuracy for b in side if b.images) for side in (raw, scaled)]
    assert right[0] == pytest.approx(right[1])
    assert sum(b.images for b in raw) == 3000


def test_the_floor_is_what_chance_shows_of_a_network_that_is_right_as_often_as_it_says() -> None:
    # One image: |right - c| is 1 - c with probability c and c with 1 - c, so 2 c (1 - c) on average.
    assert calibration_floor(logits_of([0.9])) == pytest.approx(0.18, abs=0.03)
    # A hundred images in one bin: the mean absolute deviation of a binomial share.
    binomial = stats.binom(100, 0.9)
    expected = sum(abs(k / 100 - 0.9) * binomial.pmf(k) for k in range(101))
    assert calibration_floor(logits_of([0.9] * 100)) == pytest.approx(expected, rel=0.08)
    # Four times as many images in each of two bins: the floor falls with the root of their number.
    few, many = (calibration_floor(logits_of([0.7, 0.9] * n)) for n in (50, 200))
    assert many == pytest.approx(few / 2, rel=0.1)


def test_perfectly_calibrated_networks_show_the_floor_and_no_less() -> None:
    found = [sampled(1.0, 360, seed) for seed in range(60)]
    errors = [expected_calibration_error(*reliability(*one)) for one in found]
    floors = [calibration_floor(logits) for logits, _ in found]
    assert np.mean(errors) == pytest.approx(np.mean(floors), rel=0.15)
    assert calibration_floor(found[0][0]) == floors[0]  # the same in every repeat


def test_the_loss_is_scikit_learns() -> None:
    logits, labels = sampled(1.0, 500, seed=3)
    images = np.zeros((500, 1, 1, 1), np.uint8)
    split = Split(images, labels)
    row, _ = calibrate("cnn-4", 0, "trained", validation=split, test=split, logits=(logits, logits))
    assert row.loss == pytest.approx(log_loss(labels, softmax(logits, axis=-1), labels=range(10)))


def test_a_perfect_validation_set_gives_the_coldest_temperature_and_no_failure() -> None:
    assert fit_temperature(np.eye(10) / 2, np.arange(10)) == pytest.approx(COLDEST, rel=0.01)


def test_a_temperature_at_its_bound_is_told() -> None:
    def row(temperature: float) -> Calibration:
        return Calibration("cnn-4", 0, "reestimated", temperature, 0.1, 0.1, 0.1, 0.1, 1.0, 1.0)

    assert _at_bounds([row(0.9), row(1.2)]) == ""
    said = _at_bounds([row(COLDEST * 1.00001), row(1.2), row(HOTTEST * 0.99999)])
    assert "1 of 3 temperatures ended at the coldest allowed, 0.05" in said
    assert "1 of 3 temperatures ended at the hottest allowed, 20" in said
