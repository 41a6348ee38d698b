"""What is fast computes what plain Keras does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from resblock.core.backends.tensorflow import BACKEND, TensorFlow
from resblock.core.model.network import build_network
from resblock.core.recipe import Recipe
from resblock.core.seeds import generator
from resblock.core.spec import ModelSpec
from resblock.core.splits import Split, SplitName
from resblock.core.training import optimization

pytestmark = pytest.mark.usefixtures("backend")

STEPS, BATCH = 6, 32


class Plain(TensorFlow):
    """Keras' own layers and optimisers, on TensorFlow."""

    def batch_normalization(self, *, momentum: float, epsilon: float, name: str, dtype: Any) -> Any:
        return keras.layers.BatchNormalization(momentum=momentum, epsilon=epsilon, name=name, dtype=dtype)

    def relu(self, *, name: str, dtype: Any) -> Any:
        return keras.layers.ReLU(name=name, dtype=dtype)

    def random_flip(self, mode: str, *, seed: int, name: str) -> Any:
        return keras.layers.RandomFlip(mode, seed=seed, dtype="float32", name=name)

    def adam(self, learning_rate: Any) -> Any:
        return keras.optimizers.Adam(learning_rate)

    def sgd(self, learning_rate: Any, *, momentum: float, nesterov: bool) -> Any:
        return keras.optimizers.SGD(learning_rate, momentum=momentum, nesterov=nesterov)


def of_ours(model: keras.Model) -> list[keras.Layer]:
    """Return the layers that stand in for Keras' own."""
    return [layer for layer in model.layers if type(layer).__module__ == TensorFlow.__module__]


def trained(
    variant: str, recipe: Recipe, train: Split, monkeypatch: pytest.MonkeyPatch, *, fast: bool
) -> tuple[list[float], keras.Model]:
    """Train for a few steps, by our steps or by Keras' own layers, optimiser and `train_on_batch`."""
    orders = [generator(0, "order", step).permutation(len(train.labels))[:BATCH] for step in range(STEPS)]
    if fast:
        model = build_network(ModelSpec.parse(variant), (8, 8, 1), 10, recipe, seed=0).model
        assert of_ours(model)
        optimizer = optimization.make_optimizer(recipe, STEPS)
        optimizer.build(model.trainable_variables)
        sums = BACKEND.steps(model, optimizer, train).train(
            [order.astype(np.int32) for order in orders], lambda _: None
        )
        return [float(loss) / BATCH for loss, _ in sums], model
    with monkeypatch.context() as patch:
        patch.setattr("resblock.core.model.builder.backend", Plain)
        patch.setattr("resblock.core.training.optimization.backend", Plain)
        model = build_network(ModelSpec.parse(variant), (8, 8, 1), 10, recipe, seed=0).model
        optimizer = optimization.make_optimizer(recipe, STEPS)
    assert not of_ours(model)
    assert type(optimizer).__module__.startswith("keras")
    loss: Any = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, jit_compile=False)
    losses: list[float] = []
    for order in orders:
        images, labels = train.take(order)
        losses.append(float(np.ravel(model.train_on_batch(images, labels))[0]))
        model.reset_metrics()
    return losses, model


@pytest.mark.parametrize(
    ("optimizer", "variant"),
    [
        ("adam", "cnn-4"),
        ("adam", "residual-20"),
        ("adam", "preact-8"),
        ("sgd", "cnn-4"),
        ("sgd", "plain-8"),
        pytest.param("adam", "plain-8", marks=pytest.mark.slow),
        pytest.param("sgd", "residual-20", marks=pytest.mark.slow),
        pytest.param("sgd", "preact-8", marks=pytest.mark.slow),
    ],
)
def test_losses_and_weights_after_several_steps_are_those_of_plain_keras(
    optimizer: str,
    variant: str,
    few_digits: dict[SplitName, Split],
    make_recipe: Callable[..., Recipe],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = make_recipe(optimizer=optimizer, learning_rate=1e-3, schedule="onecycle", batch_size=BATCH)
    ours, fast = trained(variant, recipe, few_digits["train"], monkeypatch, fast=True)
    theirs, plain = trained(variant, recipe, few_digits["train"], monkeypatch, fast=False)
    assert ours == pytest.approx(theirs, rel=2e-3)
    assert ours[0] == pytest.approx(theirs[0], rel=1e-5)
    for found, expected in zip(fast.weights, plain.weights, strict=True):
        assert found.path == expected.path
        moved = keras.ops.convert_to_numpy(found) - keras.ops.convert_to_numpy(expected)
        assert np.abs(moved).mean() < 1e-3, found.path


def test_bfloat16_relu_gives_the_bits_of_tensorflows() -> None:
    numbers = np.concatenate([generator(0, "relu").normal(size=4096), [0.0, -0.0, 1e-40, -1e-40, np.inf, -np.inf]])
    inputs = tf.cast(numbers, tf.bfloat16)
    layer = BACKEND.relu(name="relu", dtype="mixed_bfloat16")

    @tf.function
    def after_a_sum(x: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = layer(x + tf.zeros_like(x))
        return outputs, tape.gradient(outputs, x, output_gradients=tf.ones_like(x))

    outputs, gradient = after_a_sum(inputs)
    assert np.array_equal(tf.cast(outputs, tf.float32), tf.cast(tf.nn.relu(inputs), tf.float32))
    assert np.array_equal(tf.cast(gradient, tf.float32), tf.cast(inputs > 0, tf.float32))
