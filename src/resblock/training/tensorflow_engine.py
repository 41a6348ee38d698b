"""Steps on TensorFlow: one graph, images gathered inside it, as many steps in a call as half a second takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import keras
import numpy as np
import tensorflow as tf

from resblock.data.splits import Split
from resblock.training.engine import leading_batches

CALL_SECONDS = 0.5  # Python costs a millisecond or two per call; a signal waits for a call's end


class TensorFlowEngine:
    """See `resblock.training.engine.Engine`."""

    def __init__(self, model: keras.Model, optimizer: keras.optimizers.Optimizer, split: Split) -> None:
        images, labels = tf.constant(split.images), tf.constant(split.labels)

        def step(indices: tf.Tensor) -> tf.Tensor:
            batch, answers = tf.gather(images, indices), tf.gather(labels, indices)
            with tf.GradientTape() as tape:
                logits = model(batch, training=True)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(answers, logits)  # (batch,)
                objective = tf.reduce_mean(losses) + tf.add_n(model.losses or [tf.constant(0.0)])
            gradients = tape.gradient(objective, model.trainable_variables)
            optimizer.apply(gradients, model.trainable_variables)
            correct = tf.equal(tf.argmax(logits, axis=-1, output_type=tf.int32), answers)
            return tf.stack([tf.reduce_sum(losses), tf.reduce_sum(tf.cast(correct, tf.float32))])

        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)])
        def steps(batches: tf.Tensor) -> tf.Tensor:
            return tf.map_fn(step, batches, parallel_iterations=1, fn_output_signature=tf.float32)

        self._steps = steps
        self._steps_per_call = 1

    def train(self, batches: Sequence[np.ndarray], moved: Callable[[int], None]) -> np.ndarray:
        sums: list[np.ndarray] = []
        done = 0
        while done < len(batches):
            call = leading_batches(batches[done:], self._steps_per_call)
            began = time.perf_counter()
            sums.append(self._steps(tf.constant(call)).numpy())
            self._steps_per_call = max(1, int(CALL_SECONDS / (time.perf_counter() - began) * len(call)))
            done += len(call)
            moved(done)
        return np.concatenate(sums).astype(np.float64)


def backpropagate(
    segments: Sequence[keras.Model], inputs: np.ndarray, outward: Callable[[np.ndarray], np.ndarray], *, training: bool
) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """See `resblock.training.engine.backpropagate`."""
    weights = [variable for segment in segments for variable in segment.trainable_variables]
    points: list[tf.Tensor] = []
    x = tf.constant(inputs)
    with tf.GradientTape() as tape:
        for segment in segments:
            tape.watch(x)
            points.append(x)
            x = segment(x, training=training)
    # Its type stub knows lists only, of one kind.
    found: list[Any] = cast(Any, tape.gradient)(
        x,
        [*points, *(variable.value for variable in weights)],
        output_gradients=tf.constant(outward(x.numpy())),
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
    )
    arrays = [tf.cast(gradient, tf.float32).numpy() for gradient in found]
    paths = [variable.path for variable in weights]
    return arrays[: len(points)], dict(zip(paths, arrays[len(points) :], strict=True))
