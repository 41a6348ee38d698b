"""The same network and training as Keras' own guides write them: its layers, its optimiser, its `fit`, tf.data."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from benchmarks.peers.batches import batch_indices, read_images
from benchmarks.peers.protocol import Task, Turns

ENDLESS = 1_000_000  # epochs: the benchmark ends the process


def make_model(task: Task) -> keras.Model:
    """Return the task's network for uint8 images (batch, 32, 32, 3), under the global precision policy."""
    images = keras.Input((32, 32, 3), dtype="uint8")
    x = layers.Rescaling(1 / 255)(images)
    x = layers.RandomFlip("horizontal")(x)
    x = layers.RandomFlip("vertical")(x)
    family, depth = task.network.split("-")
    x = _convolutional(x, int(depth)) if family == "cnn" else _residual(x, int(depth), task)
    return keras.Model(images, layers.Dense(10, dtype="float32")(x))


def main() -> None:
    """Train as the task in the first argument says: one `fit`, whose epochs wait for their turns."""
    turns, task = Turns(), Task.from_json(sys.argv[1])
    for setting in (
        tf.config.threading.set_intra_op_parallelism_threads,
        tf.config.threading.set_inter_op_parallelism_threads,
    ):
        setting(task.threads)
    keras.mixed_precision.set_global_policy(task.precision)
    model = make_model(task)
    model.compile(
        optimizer=keras.optimizers.Adam(task.learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    callbacks = [_TakeTurns(turns)]
    model.fit(_dataset(task), steps_per_epoch=task.steps, epochs=ENDLESS, verbose=0, callbacks=callbacks)


class _TakeTurns(keras.callbacks.Callback):
    """Holds each epoch until its turn comes; the first, in which TensorFlow builds its graph, is the warm-up."""

    def __init__(self, turns: Turns) -> None:
        super().__init__()
        self.turns = turns

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch:
            self.turns.begin()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch:
            self.turns.end()
            return
        parameters = sum(int(np.prod(variable.shape)) for variable in self.model.trainable_variables)
        self.turns.ready(parameters=parameters, versions={name: version(name) for name in ("keras", "tensorflow")})


def _dataset(task: Task) -> tf.data.Dataset:
    """Return the batches as tf.data gives them fastest: gathered from memory, ahead of the step that needs them."""
    images, labels = (tf.constant(array) for array in read_images(task))

    def indices() -> Iterator[np.ndarray]:
        return batch_indices(task, len(labels))

    chosen = tf.data.Dataset.from_generator(indices, output_signature=tf.TensorSpec([task.batch_size], tf.int32))
    batches = chosen.map(lambda batch: (tf.gather(images, batch), tf.gather(labels, batch)))
    return batches.prefetch(tf.data.AUTOTUNE)


def _convolutional(x: Any, depth: int) -> Any:
    for filters in (32, 64, 128):
        for _ in range((depth - 1) // 3):
            x = layers.Conv2D(filters, 3, padding="same", activation="relu", kernel_initializer="he_normal")(x)
        x = layers.MaxPooling2D(2)(x)
    return layers.Flatten()(x)


def _residual(x: Any, depth: int, task: Task) -> Any:
    def convolve(x: Any, filters: int, stride: int = 1) -> Any:
        options: dict[str, Any] = {"use_bias": False, "kernel_initializer": "he_normal"}
        if stride > 1:  # Keras' own padding is lopsided there
            x = layers.Conv2D(filters, 3, strides=stride, **options)(layers.ZeroPadding2D(1)(x))
        else:
            x = layers.Conv2D(filters, 3, padding="same", **options)(x)
        return layers.BatchNormalization(momentum=task.momentum, epsilon=task.epsilon)(x)

    x = layers.ReLU()(convolve(x, 16))
    for stage, filters in enumerate((16, 32, 64)):
        for block in range((depth - 2) // 6):
            stride = 2 if stage and not block else 1
            y = layers.ReLU()(convolve(x, filters, stride))
            y = convolve(y, filters)
            if stride > 1:
                missing = filters - x.shape[-1]
                x = keras.ops.pad(x[:, ::stride, ::stride, :], ((0, 0), (0, 0), (0, 0), (0, missing)))
            x = layers.ReLU()(layers.Add()([y, x]))
    return layers.GlobalAveragePooling2D()(x)


if __name__ == "__main__":
    main()
