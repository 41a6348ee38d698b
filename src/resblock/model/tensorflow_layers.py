"""Keras' batch normalisation, ReLU and flips through the TensorFlow operations that cost the least memory traffic.

A training step of these small images waits for memory more than for arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

Gradient = Callable[[Any], Any]


class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` over channels, computed by ``FusedBatchNormV3``.

    Inputs and outputs: float (batch, height, width, channel), any precision the kernel takes; statistics are float32.
    Equal to Keras' layer in training, inference and moving statistics, within float tolerance.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if not (training and self.trainable):
            outputs, _, _ = tf.compat.v1.nn.fused_batch_norm(
                inputs,
                self.gamma.value,
                self.beta.value,
                mean=self.moving_mean.value,
                variance=self.moving_variance.value,
                epsilon=self.epsilon,
                is_training=False,
            )
            return outputs
        outputs, mean, unbiased = tf.compat.v1.nn.fused_batch_norm(
            inputs, self.gamma.value, self.beta.value, epsilon=self.epsilon, is_training=True
        )
        count = tf.cast(tf.size(inputs) // tf.shape(inputs)[-1], tf.float32)
        variance = unbiased * (
            (count - 1) / count
        )  # the kernel applies Bessel's correction, Keras keeps the biased one
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving.value * self.momentum + batch * (1 - self.momentum))
        return outputs


class ReLU(keras.layers.ReLU):
    """`keras.layers.ReLU` of default options, faster under bfloat16 behind a sum.

    TensorFlow's bfloat16 ReLU works through one number at a time. A bfloat16 is positive exactly if its bits, read as a
    signed integer, are: the vectorised int16 maximum gives the same bits.
    """

    def call(self, inputs: Any) -> Any:
        # Behind a batch norm or a bias TensorFlow merges the standard operation into what comes before it.
        follows_sum = getattr(getattr(inputs, "op", None), "type", "") == "AddV2"
        return _bfloat16_relu(inputs) if follows_sum and inputs.dtype == tf.bfloat16 else tf.nn.relu(inputs)


class RandomFlip(keras.layers.RandomFlip):
    """`keras.layers.RandomFlip` that picks whole images by their coins.

    Keras spreads each coin over an image's pixels, and TensorFlow then selects value by value. The images are the same.
    Inputs and outputs: (batch, height, width, channel).
    """

    def transform_images(self, images: Any, transformation: Any, training: bool = True) -> Any:
        images = tf.cast(images, self.compute_dtype)
        if transformation is None:  # at inference
            return images
        axes = {"vertical": [1], "horizontal": [2], "horizontal_and_vertical": [1, 2]}[self.mode]
        coins = tf.reshape(transformation["flips"], [-1])  # (batch,)
        return tf.raw_ops.Select(condition=coins, x=tf.reverse(images, axes), y=images)


@tf.custom_gradient
def _bfloat16_relu(x: Any) -> tuple[Any, Gradient]:
    outputs = tf.bitcast(tf.maximum(tf.bitcast(x, tf.int16), tf.constant(0, tf.int16)), tf.bfloat16)
    return outputs, lambda upstream: tf.raw_ops.ReluGrad(gradients=upstream, features=outputs)
