"""Batch-norm statistics re-estimated for a while, and put back."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest

from resblock.core.backends import backend
from resblock.core.backends.protocol import BatchStatistics, Inference
from resblock.core.model.layers import StochasticDepth
from resblock.core.model.network import Network, build_network
from resblock.core.recipe import Recipe
from resblock.core.seeds import generator
from resblock.core.spec import ModelSpec
from resblock.core.splits import Split, SplitName
from resblock.core.training.inference import cross_entropy
from resblock.core.training.statistics import aggregate, reestimated, reestimation_images
from resblock.core.training.trainer import Trainer
from tests.core.by_hand import by_hand

pytestmark = pytest.mark.usefixtures("backend")

MakeRecipe = Callable[..., Recipe]


def state(network: Network) -> list[bytes]:
    return [variable.numpy().tobytes() for variable in network.model.variables]


def moving_means(network: Network) -> list[np.ndarray]:
    return [variable.numpy() for variable in network.model.weights if variable.name == "moving_mean"]


@pytest.fixture
def residual(make_recipe: MakeRecipe) -> Network:
    """A network with every random layer there is."""
    recipe = make_recipe(horizontal_flip=True, vertical_flip=True, crop_padding=1)
    return build_network(ModelSpec.parse("residual-8"), (8, 8, 1), 10, recipe, seed=0)


@pytest.fixture
def inference(residual: Network) -> Inference:
    return backend().inference(residual.model)


@pytest.fixture
def images(digits: dict[SplitName, Split]) -> np.ndarray:
    return digits["train"].images[:600]


def test_reestimated_statistics_are_those_of_all_values_together() -> None:
    """Wu & Johnson 2021: with one layer, batches of any size give the mean and variance of all images at once."""
    inputs = keras.Input((4, 4, 3), dtype="uint8")
    floats = keras.layers.Rescaling(1 / 255, dtype="float32", name="rescale")(inputs)
    layer = backend().batch_normalization(momentum=0.99, epsilon=1e-3, name="norm", dtype="float32")
    network = by_hand(keras.Model(inputs, layer(floats)))
    inference = backend().inference(network.model)
    draw = generator(0, "images")
    images = np.clip(draw.normal((60, 120, 200), (5, 20, 40), (1_100, 4, 4, 3)), 0, 255).astype(np.uint8)
    network.model(images[:300], training=True)  # statistics as a training might have left them
    images[:500] //= 2  # so that batches differ
    mean, variance = (images / 255).mean(axis=(0, 1, 2)), (images / 255).var(axis=(0, 1, 2))
    expected = (images[:50] / 255 - mean) / np.sqrt(variance + 1e-3)
    before = inference.logits(images[:50])
    with reestimated(network.model, inference, images, batch_size=64, seed=0):  # the last one counts for less
        assert np.allclose(layer.moving_mean.numpy(), mean, rtol=1e-4)
        assert np.allclose(layer.moving_variance.numpy(), variance, rtol=1e-4)
        assert np.allclose(inference.logits(images[:50]), expected, atol=1e-4)
    assert np.array_equal(inference.logits(images[:50]), before)
    assert not np.allclose(before, expected, atol=0.1)


def test_batches_are_put_together_as_if_they_were_one() -> None:
    draw = generator(0, "values")
    batches = [draw.normal(loc, 1 + loc, (count, 4)) for loc, count in ((0, 300), (3, 300), (1, 7))]
    sizes = np.array([len(batch) for batch in batches])
    seen = BatchStatistics(*(np.stack([getattr(b, name)(axis=0) for b in batches]) for name in ("mean", "var")))
    mean, variance = aggregate(seen, sizes)
    together = np.concatenate(batches)
    assert np.allclose(mean, together.mean(axis=0), rtol=1e-6)
    assert np.allclose(variance, together.var(axis=0), rtol=1e-6)


def test_reestimation_restores_everything(residual: Network, inference: Inference, images: np.ndarray) -> None:
    residual.model(images, training=True)
    before = state(residual)
    normalizations = [layer for layer in residual.model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in normalizations]
    assert momenta
    means = moving_means(residual)
    with reestimated(residual.model, inference, images, 64, seed=0):
        assert not any(np.allclose(now, then) for now, then in zip(moving_means(residual), means, strict=True))
    assert state(residual) == before
    assert [layer.momentum for layer in normalizations] == momenta


def test_reestimation_restores_everything_after_an_error(
    residual: Network, inference: Inference, images: np.ndarray
) -> None:
    before = state(residual)
    with pytest.raises(KeyboardInterrupt), reestimated(residual.model, inference, images, 64, seed=0):
        raise KeyboardInterrupt
    assert state(residual) == before
    with (
        pytest.raises((TypeError, ValueError)),
        reestimated(residual.model, inference, images[:, :, :, [0, 0]], 64, seed=0),
    ):
        pass
    assert state(residual) == before


def test_reestimation_leaves_weights_alone(residual: Network, inference: Inference, images: np.ndarray) -> None:
    weights = [variable.numpy().tobytes() for variable in residual.model.trainable_variables]
    with reestimated(residual.model, inference, images, 64, seed=0):
        assert [variable.numpy().tobytes() for variable in residual.model.trainable_variables] == weights


def test_reestimation_repeats_wherever_training_left_the_random_states(
    residual: Network, inference: Inference, images: np.ndarray
) -> None:
    def predictions(seed: int) -> np.ndarray:
        with reestimated(residual.model, inference, images, 64, seed):
            return inference.logits(images[:20])

    first = predictions(0)
    residual.model.get_layer("horizontal_flip")(images, training=True)
    residual.model.get_layer("crop")(images.astype(np.float32), training=True)
    assert np.array_equal(predictions(0), first)
    assert not np.array_equal(predictions(1), first)


def test_a_network_without_batch_normalisation_has_nothing_to_reestimate(
    images: np.ndarray, make_recipe: MakeRecipe
) -> None:
    recipe = make_recipe(horizontal_flip=True, crop_padding=1)
    network = build_network(ModelSpec.parse("cnn-4"), (8, 8, 1), 10, recipe, seed=0)
    inference = backend().inference(network.model)
    before, predictions = state(network), inference.logits(images)
    with reestimated(network.model, inference, images, 64, seed=0):
        assert state(network) == before
        assert np.array_equal(inference.logits(images), predictions)


def test_images_to_reestimate_from_are_drawn_without_repeats() -> None:
    labels = np.arange(250, dtype=np.int32)
    numbered = Split(labels.astype(np.uint8).reshape(-1, 1, 1, 1), labels)
    chosen, again, other = (reestimation_images(numbered, 50, seed).ravel() for seed in (0, 0, 1))
    assert len(set(chosen.tolist())) == 50
    assert np.array_equal(chosen, again)
    assert not np.array_equal(chosen, other)
    assert np.array_equal(reestimation_images(numbered, 1_000, 0), numbered.images)


def planted(side: int, count: int) -> Split:
    """Made-up pictures, uint8 (count, side, side, 1): waves of four kinds, weak or strong, under noise."""
    draw = generator(0, "planted", side)
    labels = (np.arange(count) % 4).astype(np.int32)
    turn = np.linspace(0, 2 * np.pi, side, endpoint=False)
    waves = np.array([np.sin(kind * turn)[:, None] * np.cos((5 - kind) * turn) for kind in (1, 2, 3, 4)])
    images = 128 + 50 * draw.uniform(0.3, 1, (count, 1, 1)) * waves[labels] + 60 * draw.normal(size=(count, side, side))
    return Split(np.clip(images, 0, 255).astype(np.uint8)[..., None], labels)


@pytest.mark.parametrize("side", [8, 32, 128])
def test_batches_as_in_training_give_the_loss_of_one_exact_batch_at_any_image_size(
    side: int, make_recipe: MakeRecipe
) -> None:
    split = planted(side, 288)
    train, test = split.take(np.arange(192)), split.take(np.arange(192, 288))
    recipe = make_recipe(batch_size=16, learning_rate=0.003, batch_norm_momentum=0.99)
    trainer = Trainer(ModelSpec.parse("residual-8"), train, classes=4, recipe=recipe, seed=0)
    order = [generator(0, "order", epoch).permutation(192).astype(np.int32) for epoch in (1, 2)]
    trainer.steps.train([*order[0].reshape(-1, 16), *order[1].reshape(-1, 16)], lambda _: None)
    model, inference = trainer.network.model, trainer.inference

    def loss() -> float:
        return cross_entropy(keras.ops.convert_to_numpy(model(test.images, training=False)), test.labels)

    as_trained = loss()
    with reestimated(model, inference, train.images, 16, seed=0):
        in_batches = loss()
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0  # a moving average that keeps nothing: the statistics of one batch of all images
    model(train.images, training=True)
    exact = loss()
    assert in_batches == pytest.approx(exact, abs=0.02)
    assert abs(as_trained - exact) > 0.04  # there is something to re-estimate


def test_no_draw_of_stochastic_depth_decides_statistics(images: np.ndarray, make_recipe: MakeRecipe) -> None:
    network = build_network(ModelSpec.parse("residual-8-sd"), (8, 8, 1), 10, make_recipe(), seed=0)
    inference = backend().inference(network.model)
    network.model(images, training=True)
    seen: list[list[bytes]] = []
    for seed in range(4):
        with reestimated(network.model, inference, images, 64, seed):
            seen.append([values.tobytes() for values in network.weights().values()])
    assert all(each == seen[0] for each in seen)
    droppers = [layer for layer in network.model.layers if isinstance(layer, StochasticDepth)]
    assert [layer.drops for layer in droppers] == [True] * 3  # in training they drop as before
