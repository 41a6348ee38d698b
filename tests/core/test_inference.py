"""Figures from logits, and batch-norm statistics re-estimated for a while."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import keras
import numpy as np
import pytest
from resblock.core.model.kernels import batch_normalization
from scipy.special import softmax
from sklearn.metrics import accuracy_score, log_loss

from resblock.core.model.network import build_model
from resblock.core.seeds import generator
from resblock.core.spec import ModelSpec
from resblock.core.splits import Split, SplitName
from resblock.core.training.inference import (
    MOST_IMAGES,
    accuracy,
    cross_entropy,
    predict,
    reestimated,
    reestimation_images,
)
from resblock.params import Recipe

pytestmark = pytest.mark.usefixtures("backend")

MakeRecipe = Callable[..., Recipe]


def state(model: keras.Model) -> list[bytes]:
    return [variable.numpy().tobytes() for variable in model.variables]


def moving_means(model: keras.Model) -> list[np.ndarray]:
    return [variable.numpy() for variable in model.weights if variable.name == "moving_mean"]


@pytest.fixture
def residual(make_recipe: MakeRecipe) -> keras.Model:
    """A network with every random layer there is."""
    recipe = make_recipe(horizontal_flip=True, vertical_flip=True, crop_padding=1)
    return build_model(ModelSpec.parse("residual-8"), (8, 8, 1), 10, recipe, seed=0)


@pytest.fixture
def images(digits: dict[SplitName, Split]) -> np.ndarray:
    return digits["train"].images[:600]


def test_figures_are_those_by_hand() -> None:
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.25, 0.25, 0.5]], np.float32))
    labels = np.array([0, 1, 1], np.int32)
    assert cross_entropy(logits, labels) == pytest.approx((np.log(2) + np.log(1.25) + np.log(4)) / 3)
    assert accuracy(logits, labels) == pytest.approx(2 / 3)


def test_figures_are_those_of_scikit_learn() -> None:
    draw = generator(0, "logits")
    logits = draw.normal(scale=5, size=(200, 10)).astype(np.float32)
    labels = draw.integers(0, 10, 200)
    probabilities = softmax(logits.astype(np.float64), axis=1)
    assert cross_entropy(logits, labels) == pytest.approx(log_loss(labels, probabilities, labels=range(10)))
    assert accuracy(logits, labels) == accuracy_score(labels, logits.argmax(axis=1))


def test_a_very_wrong_prediction_has_a_finite_loss() -> None:
    assert cross_entropy(np.array([[1000.0, 0.0]], np.float32), np.array([1])) == 1000


def test_predictions_are_one_row_of_logits_for_each_image(residual: keras.Model, images: np.ndarray) -> None:
    assert len(images) > MOST_IMAGES
    logits = predict(residual, images)
    assert logits.shape == (600, 10)
    assert logits.dtype == np.float32
    alone = predict(residual, images[-3:])
    assert np.allclose(logits[-3:], alone, atol=1e-5)


def test_large_images_pass_in_smaller_batches() -> None:
    sizes: list[int] = []

    def model(batch: np.ndarray, training: bool) -> np.ndarray:
        assert not training
        sizes.append(len(batch))
        return np.zeros((len(batch), 2), np.float32)

    for side, count in ((8, 1_100), (32, 300), (1_000, 3)):
        predict(cast(Any, model), np.zeros((count, side, side, 3), np.uint8))
    assert sizes == [500, 500, 100, 125, 125, 50, 1, 1, 1]


def test_reestimated_statistics_are_mean_batch_statistics() -> None:
    inputs = keras.Input((4, 4, 3), dtype="uint8")
    floats = keras.layers.Rescaling(1 / 255, dtype="float32")(inputs)
    layer = batch_normalization(momentum=0.99, epsilon=1e-3, name="norm", dtype="float32")
    model = keras.Model(inputs, layer(floats))
    draw = generator(0, "images")
    images = np.clip(draw.normal((60, 120, 200), (5, 20, 40), (1_100, 4, 4, 3)), 0, 255).astype(np.uint8)
    model(images[:300], training=True)  # statistics as a training might have left them
    batches = [images[start : start + MOST_IMAGES] / 255 for start in range(0, len(images), MOST_IMAGES)]
    assert len({len(batch) for batch in batches}) == 2  # the last one counts for less
    sizes = [len(batch) for batch in batches]
    mean = np.average([batch.mean(axis=(0, 1, 2)) for batch in batches], axis=0, weights=sizes)
    variance = np.average([batch.var(axis=(0, 1, 2)) for batch in batches], axis=0, weights=sizes)
    expected = (images[:50] / 255 - mean) / np.sqrt(variance + 1e-3)
    before = predict(model, images[:50])
    with reestimated(model, images, seed=0):
        assert np.allclose(layer.moving_mean.numpy(), mean, rtol=1e-4)
        assert np.allclose(layer.moving_variance.numpy(), variance, rtol=1e-4)
        assert np.allclose(predict(model, images[:50]), expected, atol=1e-4)
    assert np.array_equal(predict(model, images[:50]), before)
    assert not np.allclose(before, expected, atol=0.1)


def test_reestimation_restores_everything(residual: keras.Model, images: np.ndarray) -> None:
    residual(images, training=True)
    before = state(residual)
    momenta = [layer.momentum for layer in residual.layers if isinstance(layer, keras.layers.BatchNormalization)]
    means = moving_means(residual)
    with reestimated(residual, images, seed=0):
        assert not any(np.allclose(now, then) for now, then in zip(moving_means(residual), means, strict=True))
    assert state(residual) == before
    assert momenta == [
        layer.momentum for layer in residual.layers if isinstance(layer, keras.layers.BatchNormalization)
    ]


def test_reestimation_restores_everything_after_an_error(residual: keras.Model, images: np.ndarray) -> None:
    before = state(residual)
    with pytest.raises(KeyboardInterrupt), reestimated(residual, images, seed=0):
        raise KeyboardInterrupt
    assert state(residual) == before
    with pytest.raises(ValueError, match="shape"), reestimated(residual, images[:, :, :, [0, 0]], seed=0):
        pass
    assert state(residual) == before


def test_reestimation_leaves_weights_alone(residual: keras.Model, images: np.ndarray) -> None:
    weights = [variable.numpy().tobytes() for variable in residual.trainable_variables]
    with reestimated(residual, images, seed=0):
        assert [variable.numpy().tobytes() for variable in residual.trainable_variables] == weights


def test_reestimation_repeats_wherever_training_left_the_random_states(
    residual: keras.Model, images: np.ndarray
) -> None:
    def predictions(seed: int) -> np.ndarray:
        with reestimated(residual, images, seed):
            return predict(residual, images[:20])

    first = predictions(0)
    residual.get_layer("horizontal_flip")(images, training=True)
    residual.get_layer("crop")(images.astype(np.float32), training=True)
    assert np.array_equal(predictions(0), first)
    assert not np.array_equal(predictions(1), first)


def test_a_network_without_batch_normalisation_has_nothing_to_reestimate(
    images: np.ndarray, make_recipe: MakeRecipe
) -> None:
    recipe = make_recipe(horizontal_flip=True, crop_padding=1)
    model = build_model(ModelSpec.parse("cnn-4"), (8, 8, 1), 10, recipe, seed=0)
    before, predictions = state(model), predict(model, images)
    with reestimated(model, images, seed=0):
        assert state(model) == before
        assert np.array_equal(predict(model, images), predictions)


def test_images_to_reestimate_from_are_drawn_without_repeats(few_digits: dict[SplitName, Split]) -> None:
    labels = np.arange(250, dtype=np.int32)
    numbered = Split(labels.astype(np.uint8).reshape(-1, 1, 1, 1), labels)
    chosen, again, other = (reestimation_images(numbered, 50, seed).ravel() for seed in (0, 0, 1))
    assert len(set(chosen.tolist())) == 50
    assert np.array_equal(chosen, again)
    assert not np.array_equal(chosen, other)
    assert np.array_equal(reestimation_images(numbered, 1_000, 0), numbered.images)
