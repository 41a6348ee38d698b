"""What an epoch costs beside its steps: ``python -m benchmarks.looks TASK ROUNDS``.

The training loop does what follows an epoch's steps: it looks whether all weights are finite, takes loss and accuracy
three times, re-estimates statistics, reads the learning rate and writes the checkpoint. In turns with that, as many
images pass forward through a twin of the network, in training mode. Prints, as JSON, the seconds of both in each round.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from benchmarks.peers.batches import read_images
from benchmarks.peers.ours import make_trainer
from benchmarks.peers.protocol import Epoch, Task, Turns
from resblock.core.backends import start
from resblock.core.splits import Split
from resblock.core.training.checkpoint import Checkpoint
from resblock.core.training.fit import fit
from resblock.core.training.run import EpochRow
from resblock.core.training.watcher import Nobody


class Forward:
    """Passes forward in training mode, of so many `images`, taken as steps take them: many batches in one graph."""

    def __init__(self, model: keras.Model, train: Split, images: int, batch_size: int) -> None:
        shape = train.images.shape[1:]
        whole = images - images % batch_size
        many = np.resize(train.images, (images, *shape))  # again from the first, where there are fewer
        parts = [(many[:whole], batch_size), (many[whole:], images - whole)]
        self._calls = [tf.constant(part.reshape(-1, size, *shape)) for part, size in parts if len(part)]

        @tf.function(input_signature=[tf.TensorSpec([None, None, *shape], tf.uint8)])
        def forward(images: tf.Tensor) -> tf.Tensor:
            def one(batch: tf.Tensor) -> tf.Tensor:
                return model(batch, training=True)

            return tf.map_fn(one, images, parallel_iterations=1, fn_output_signature=tf.float32)

        self._forward = forward

    def seconds(self) -> float:
        """Return what the passes take."""
        began = time.perf_counter()
        for images in self._calls:
            self._forward(images).numpy()
        return time.perf_counter() - began


class Rounds(Nobody):
    """Times the end of each epoch, and after it the passes; the first of both, which compile, does not count."""

    def __init__(self, forward: Forward) -> None:
        self._forward = forward
        self._trained = 0.0
        self.after_seconds: list[float] = []
        self.forward_seconds: list[float] = []

    def step(self, epoch: int, done: int, steps: int) -> None:
        self._trained = time.perf_counter()

    def epoch(self, row: EpochRow) -> None:
        after, forward = time.perf_counter() - self._trained, self._forward.seconds()
        if row.epoch > 1:
            self.after_seconds.append(after)
            self.forward_seconds.append(forward)


def measure(task: Task, epoch: Epoch, rounds: int) -> dict[str, object]:
    """Return the images that an epoch of the task looks at after its steps, and the seconds of each round."""
    trainer = make_trainer(task, Split(*read_images(task)), epochs=rounds + 1)
    images = 2 * epoch.validation + epoch.reestimation + epoch.sample
    watcher = Rounds(Forward(trainer.twin(task.seed).model, trainer.train, images, task.batch_size))
    validation = Split(*read_images(task, "validation"))
    with tempfile.TemporaryDirectory() as folder:
        fit(trainer, task.seed, validation, {}, Checkpoint(Path(folder), "benchmark"), task.threads, watcher)
    return {"images": images, "after_seconds": watcher.after_seconds, "forward_seconds": watcher.forward_seconds}


def main() -> None:
    """Measure the task in the first argument for as many rounds as the second says."""
    turns, task = Turns(), Task.from_json(sys.argv[1])
    if task.epoch is None:
        raise SystemExit("this measures whole epochs: its task must say of how many images")
    start(task.threads)
    turns.report(measure(task, task.epoch, int(sys.argv[2])))


if __name__ == "__main__":
    main()
