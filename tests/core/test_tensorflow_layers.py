"""The fused batch normalisation and the flips against Keras' own."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from resblock.core.backends.tensorflow import BACKEND
from resblock.core.seeds import generator

pytestmark = pytest.mark.usefixtures("backend")

MOMENTUM, EPSILON = 0.9, 1e-3
CHANNELS = 5


def features(count: int, purpose: str | int) -> np.ndarray:
    """Features far from normalised, float32 (count, height, width, channel)."""
    draw = generator(0, "features", purpose)
    scale, offset = np.array([0.1, 1, 3, 10, 0.5]), np.array([0, -2, 5, 1, 0.1])
    return (draw.normal(size=(count, 3, 4, CHANNELS)) * scale + offset).astype(np.float32)


@pytest.fixture
def layers() -> tuple[keras.layers.BatchNormalization, keras.layers.BatchNormalization]:
    """The layer of the networks and Keras' own, with the same scales and offsets."""
    ours = BACKEND.batch_normalization(momentum=MOMENTUM, epsilon=EPSILON, name="ours", dtype="float32")
    keras_own = keras.layers.BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON, name="keras")
    assert type(ours) is not type(keras_own)
    draw = generator(0, "scales")
    scales = [draw.uniform(0.5, 2, CHANNELS), draw.normal(size=CHANNELS)]
    for layer in (ours, keras_own):
        layer.build((None, 3, 4, CHANNELS))
        for variable, value in zip((layer.gamma, layer.beta), scales, strict=True):
            variable.assign(value)
    return ours, keras_own


def close(found: Any, expected: Any) -> bool:
    return np.allclose(keras.ops.convert_to_numpy(found), keras.ops.convert_to_numpy(expected), rtol=1e-4, atol=1e-5)


def test_fused_normalization_equals_keras_own_over_several_steps(
    layers: tuple[keras.layers.BatchNormalization, keras.layers.BatchNormalization],
) -> None:
    ours, keras_own = layers
    for step, count in enumerate((8, 8, 7, 1)):  # the last batches of an epoch may be odd and small
        inputs = features(count, step)
        assert close(ours(inputs, training=True), keras_own(inputs, training=True))
        assert close(ours.moving_mean, keras_own.moving_mean)
        assert close(ours.moving_variance, keras_own.moving_variance)
        assert close(ours(inputs, training=False), keras_own(inputs, training=False))


def test_a_tiny_epsilon_is_taken_as_given() -> None:
    inputs = 1e-4 * features(8, "small")
    ours = BACKEND.batch_normalization(momentum=MOMENTUM, epsilon=1e-7, name="ours", dtype="float32")
    keras_own = keras.layers.BatchNormalization(momentum=MOMENTUM, epsilon=1e-7, name="keras")
    assert np.allclose(ours(inputs, training=True), keras_own(inputs, training=True), rtol=1e-2, atol=1e-3)


def test_moving_statistics_are_averages_of_biased_moments(
    layers: tuple[keras.layers.BatchNormalization, keras.layers.BatchNormalization],
) -> None:
    mean, variance = np.zeros(CHANNELS), np.ones(CHANNELS)
    for step in range(3):
        inputs = features(2, step)
        layers[0](inputs, training=True)
        mean = MOMENTUM * mean + (1 - MOMENTUM) * inputs.mean(axis=(0, 1, 2), dtype=np.float64)
        variance = MOMENTUM * variance + (1 - MOMENTUM) * inputs.var(axis=(0, 1, 2), dtype=np.float64)
    assert close(layers[0].moving_mean, mean)
    assert close(layers[0].moving_variance, variance)


@pytest.mark.parametrize("training", [True, False])
def test_fused_gradients_equal_keras_own(
    training: bool, layers: tuple[keras.layers.BatchNormalization, keras.layers.BatchNormalization]
) -> None:
    gradients: list[list[Any]] = []
    weighting = features(6, "weighting")  # a loss that depends on every output differently
    for layer in layers:
        layer(features(8, "before"), training=True)
        inputs = tf.constant(features(6, "inputs"))
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            loss = tf.reduce_sum(weighting * layer(inputs, training=training))
        gradients.append(tape.gradient(loss, [inputs, layer.gamma.value, layer.beta.value]))
    for ours, keras_own in zip(*gradients, strict=True):
        assert np.abs(ours).max() > 0.1
        assert np.allclose(ours, keras_own, rtol=1e-3, atol=1e-3 * np.abs(keras_own).max())


def test_a_frozen_layer_normalises_as_at_inference(
    layers: tuple[keras.layers.BatchNormalization, keras.layers.BatchNormalization],
) -> None:
    ours, _ = layers
    ours.trainable = False
    inputs = features(8, "frozen")
    assert np.array_equal(ours(inputs, training=True), ours(inputs, training=False))
    assert np.array_equal(keras.ops.convert_to_numpy(ours.moving_mean), np.zeros(CHANNELS))


def test_bfloat16_features_keep_float32_statistics(
    layers: tuple[keras.layers.BatchNormalization, keras.layers.BatchNormalization],
) -> None:
    ours, _ = layers
    inputs = tf.cast(features(8, "bfloat16"), tf.bfloat16)
    outputs = ours(inputs, training=True)
    assert outputs.dtype == ours(inputs, training=False).dtype == tf.bfloat16
    assert {variable.dtype for variable in ours.variables} == {"float32"}
    # Statistics of the inputs as given, summed in float32: bfloat16's 8 bits would miss this by a hundredfold.
    exact = tf.cast(inputs, tf.float32).numpy().astype(np.float64)
    assert np.allclose(ours.moving_mean, 0.1 * exact.mean(axis=(0, 1, 2)), rtol=1e-4, atol=1e-6)
    assert np.allclose(ours.moving_variance, 0.9 + 0.1 * exact.var(axis=(0, 1, 2)), rtol=1e-4)


@pytest.mark.parametrize("mode", ["horizontal", "vertical", "horizontal_and_vertical"])
def test_flips_are_keras_own_to_the_bit(mode: str) -> None:
    ours, keras_own = BACKEND.random_flip(mode, seed=3, name="ours"), keras.layers.RandomFlip(mode, seed=3)
    assert type(ours) is not type(keras_own)
    for step, count in enumerate((64, 64, 7, 1)):
        inputs = features(count, step)
        flipped = np.asarray(ours(inputs, training=True))
        assert flipped.tobytes() == np.asarray(keras_own(inputs, training=True)).tobytes()
        assert count == 1 or 0 < (flipped != inputs).any(axis=(1, 2, 3)).mean() < 1
        assert np.array_equal(ours(inputs, training=False), inputs)
