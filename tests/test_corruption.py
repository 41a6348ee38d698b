"""Corruptions: the same each time, worse with each severity, and right for digits and colour pictures alike."""

from __future__ import annotations

import numpy as np
import pytest

from resblock.core.splits import Split, SplitName
from resblock.evaluation.corruption import (
    CONTRAST,
    CORRUPTIONS,
    NOISE,
    SEVERITIES,
    Corrupted,
    Robustness,
    apply,
    corrupt,
    mean_by_severity,
)


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """Smooth colour pictures, uint8 (20, 32, 32, 3), away from black and white."""
    across = np.linspace(0.3, 0.7, 32)
    base = across[None, :, None, None] * across[None, None, :, None] * np.array([0.8, 1.0, 1.2])
    return np.repeat((255 * base).astype(np.uint8), 20, axis=0)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_severity_changes_digits_more_than_the_one_before(name: str, digits: dict[SplitName, Split]) -> None:
    images = digits["test"].images
    distances = [np.abs(apply(name, s, images).astype(float) - images).mean() for s in SEVERITIES]
    assert distances[0] > 0
    assert distances == sorted(distances)
    assert len(set(distances)) == len(distances)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruptions_keep_shape_and_type_and_repeat_to_the_byte(name: str, pictures: np.ndarray) -> None:
    worse = apply(name, 3, pictures)
    assert worse.shape == pictures.shape
    assert worse.dtype == np.uint8
    np.testing.assert_array_equal(worse, apply(name, 3, pictures))


def test_noise_has_the_spread_it_says(pictures: np.ndarray) -> None:
    difference = (apply("noise", 2, pictures).astype(float) - pictures) / 255
    assert difference.std() == pytest.approx(NOISE[1], rel=0.05)
    assert abs(difference.mean()) < 0.002


def test_less_contrast_draws_pixels_to_the_mean_and_keeps_it(pictures: np.ndarray) -> None:
    worse = apply("contrast", 4, pictures).astype(float)
    assert worse.mean() == pytest.approx(pictures.mean(), abs=1)
    assert worse[0].std() == pytest.approx(CONTRAST[3] * pictures[0].std(), rel=0.05)


def test_brightness_ends_at_white() -> None:
    images = np.array([0, 100, 250], np.uint8).reshape(3, 1, 1, 1)
    assert apply("brightness", 3, images).ravel().tolist() == [76, 176, 255]  # 0.3 of 255 is 76.5, to even


def test_pixelating_to_half_averages_squares_of_two() -> None:
    images = np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1)
    worse = apply("pixelate", 3, images)[0, ..., 0]
    means = images[0, ..., 0].reshape(4, 2, 4, 2).mean(axis=(1, 3))
    np.testing.assert_array_equal(worse, np.rint(np.kron(means, np.ones((2, 2)))))  # halves to even


def test_blur_spreads_light_and_keeps_its_sum() -> None:
    images = np.zeros((1, 33, 33, 1), np.uint8)
    images[0, 16, 16, 0] = 255
    worse = apply("blur", 1, images)[0, ..., 0].astype(float)
    assert worse[16, 16] == worse.max() < 255
    assert worse.sum() == pytest.approx(255, rel=0.05)
    np.testing.assert_array_equal(worse, worse.T)


def test_a_large_test_split_is_sampled_and_a_small_one_taken_whole(digits: dict[SplitName, Split]) -> None:
    test = digits["test"]
    assert len(corrupt(test, limit=1_000).chosen.labels) == len(test.labels)
    some = corrupt(test, limit=50)
    assert len(some.names) == len(set(some.names)) == 1 + 5 * len(SEVERITIES)
    assert some.names[0] == ("none", 0)
    assert some.chosen.images.shape == (50, 8, 8, 1)
    (untouched,) = some.images("none", 0)
    np.testing.assert_array_equal(untouched, corrupt(test, limit=50).chosen.images)
    for image, label in zip(untouched, some.chosen.labels, strict=True):
        places = np.flatnonzero((test.images == image).all(axis=(1, 2, 3)))
        assert label in test.labels[places]


def test_scores_stand_by_corruption_and_severity(digits: dict[SplitName, Split]) -> None:
    some = corrupt(digits["test"], limit=10)
    labels = some.chosen.labels
    wrong = {("noise", 1)}  # there every image is taken for another
    rows = [some.score("cnn-4", 3, *name, np.eye(10)[(labels + (name in wrong)) % 10]) for name in some.names]
    assert rows[0] == Robustness("cnn-4", 3, "none", 0, 10, 1.0)
    assert rows[1] == Robustness("cnn-4", 3, "noise", 1, 10, 0.0)
    assert mean_by_severity(rows)["cnn-4", 3, 1] == pytest.approx(4 / 5)
    assert mean_by_severity(rows)["cnn-4", 3, 0] == 1


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_images_are_made_worse_alike_however_many_at_once(
    name: str, pictures: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = apply(name, 2, pictures)
    monkeypatch.setattr("resblock.core.backends.batches.MOST_IMAGES", 7)
    labels = np.zeros(len(pictures), np.int32)
    assert [len(part) for part in Corrupted(Split(pictures, labels)).images(name, 2)] == [7, 7, 6]
    np.testing.assert_array_equal(apply(name, 2, pictures), whole)
