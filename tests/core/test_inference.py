"""Figures from logits, and what a network says of images at inference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import log_softmax as scipys_log_softmax
from scipy.special import softmax as scipys_softmax
from sklearn.metrics import accuracy_score, log_loss

from resblock.core.backends import backend
from resblock.core.backends.batches import MOST_IMAGES, MOST_PIXELS, small_batches
from resblock.core.model.network import build_network
from resblock.core.recipe import Recipe
from resblock.core.seeds import generator
from resblock.core.spec import ModelSpec
from resblock.core.splits import Split, SplitName
from resblock.core.training.inference import accuracy, cross_entropy, log_softmax, softmax


def test_figures_are_those_by_hand() -> None:
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.25, 0.25, 0.5]], np.float32))
    labels = np.array([0, 1, 1], np.int32)
    assert cross_entropy(logits, labels) == pytest.approx((np.log(2) + np.log(1.25) + np.log(4)) / 3)
    assert accuracy(logits, labels) == pytest.approx(2 / 3)


def test_figures_are_those_of_scikit_learn_and_scipy() -> None:
    draw = generator(0, "logits")
    logits = draw.normal(scale=5, size=(200, 10)).astype(np.float32)
    labels = draw.integers(0, 10, 200)
    wide = logits.astype(np.float64)
    probabilities = scipys_softmax(wide, axis=1)
    assert cross_entropy(logits, labels) == pytest.approx(log_loss(labels, probabilities, labels=range(10)))
    assert accuracy(logits, labels) == accuracy_score(labels, logits.argmax(axis=1))
    assert softmax(logits).dtype == log_softmax(logits).dtype == np.float64
    np.testing.assert_allclose(softmax(logits), probabilities, rtol=1e-12)
    np.testing.assert_allclose(log_softmax(logits), scipys_log_softmax(wide, axis=1), rtol=1e-12, atol=1e-14)


def test_a_very_wrong_prediction_has_a_finite_loss() -> None:
    logits = np.array([[1000.0, 0.0]], np.float32)
    assert cross_entropy(logits, np.array([1])) == 1000
    assert softmax(logits).tolist() == [[1.0, 0.0]]


@pytest.mark.usefixtures("backend")
def test_predictions_are_one_row_of_logits_for_each_image(
    make_recipe: Callable[..., Recipe], digits: dict[SplitName, Split]
) -> None:
    recipe = make_recipe(horizontal_flip=True, vertical_flip=True, crop_padding=1)
    inference = backend().inference(build_network(ModelSpec.parse("residual-8"), (8, 8, 1), 10, recipe, seed=0).model)
    images = digits["train"].images[:600]
    assert len(images) > MOST_IMAGES
    logits = inference.logits(images)
    assert logits.shape == (600, 10)
    assert logits.dtype == np.float32
    alone = inference.logits(images[-3:])
    assert np.allclose(logits[-3:], alone, atol=1e-5)


@pytest.mark.parametrize(("side", "count"), [(8, 1_100), (32, 300), (1_000, 3)])
def test_large_images_pass_in_smaller_batches(side: int, count: int) -> None:
    images = np.zeros((count, side, side, 3), np.uint8)
    images[:, 0, 0, :2] = np.stack(np.divmod(np.arange(count), 256), axis=1)  # each image tells its number
    batches = list(small_batches(images))
    found = np.concatenate([batch[:, 0, 0].astype(int) @ (256, 1, 0) for batch in batches])
    assert np.array_equal(found, np.arange(count))
    first, *others = [len(batch) for batch in batches]
    assert others
    assert set(others[:-1]) <= {first}
    assert others[-1] <= first
    assert first <= MOST_IMAGES
    assert first == 1 or first * side**2 <= MOST_PIXELS
    assert first + 1 > MOST_IMAGES or (first + 1) * side**2 > MOST_PIXELS  # and no smaller than that asks for
