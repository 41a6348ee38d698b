"""The training of resblock, as its training loop takes it: some steps, or whole epochs."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.peers.batches import batch_indices, read_images
from benchmarks.peers.protocol import Epoch, Parts, Task, Turns
from resblock import paths
from resblock.core.backends import backend, start
from resblock.core.recipe import Recipe
from resblock.core.spec import ModelSpec
from resblock.core.splits import Split
from resblock.core.training.checkpoint import Checkpoint, Progress
from resblock.core.training.run import EpochRow
from resblock.core.training.trainer import Trainer
from resblock.core.training.watcher import Nobody
from resblock.params import read_params

DATASET = "cifar10"
CLASSES = 10
ENDLESS = 1000  # epochs: more turns than anybody takes; the recipe's rate is constant


def task_recipe(task: Task, epochs: int = ENDLESS) -> Recipe:
    """Return the recipe of params.yaml at the task's precision and batch size, without looks at gradients."""
    recipe = read_params(paths.PARAMS).recipe(DATASET)
    reestimated = task.epoch.reestimation if task.epoch else recipe.reestimate_images
    return replace(
        recipe,
        epochs=epochs,
        precision="mixed_bfloat16" if task.precision == "mixed_bfloat16" else "float32",
        batch_size=task.batch_size,
        reestimate_images=reestimated,
        gradient_epochs=(),
        threads=task.threads,
    )


def make_trainer(task: Task, train: Split, epochs: int = ENDLESS) -> Trainer:
    """Return what trains the task's network: the one place here that knows how it is made."""
    recipe = task_recipe(task, epochs)
    return Trainer(ModelSpec.parse(task.network), train, classes=CLASSES, recipe=recipe, seed=task.seed)


def facts(trainer: Trainer) -> dict[str, object]:
    """Return what identifies what is timed."""
    return {
        "parameters": trainer.network.parameters,
        "multiply_adds": trainer.network.multiply_adds,
        "versions": {name: version(name) for name in ("keras", backend().name)},
    }


class _TimedCheckpoint(Checkpoint):
    """Knows what it took to write it last."""

    seconds = 0.0

    def save(self, progress: Progress, warn: Callable[[str], None]) -> None:
        began = time.perf_counter()
        super().save(progress, warn)
        self.seconds = time.perf_counter() - began


class _Epochs(Nobody):
    """Makes a turn of each epoch of the training loop, the first one apart, which compiles."""

    def __init__(self, turns: Turns, checkpoint: _TimedCheckpoint, ready: Callable[[], None]) -> None:
        self._turns, self._checkpoint, self._ready = turns, checkpoint, ready
        self._warm = False
        self._began = self._trained = 0.0

    def step(self, epoch: int, done: int, steps: int) -> None:
        self._trained = time.perf_counter()

    def epoch(self, row: EpochRow) -> None:
        print(f"epoch {row.epoch}: loss {row.loss:.3f}", file=sys.stderr)
        if self._warm:
            saved = self._checkpoint.seconds
            looks = time.perf_counter() - self._trained - saved
            self._turns.end(Parts({"train": self._trained - self._began, "looks": looks, "checkpoint": saved}))
        else:
            self._ready()
        self._warm = True
        self._turns.begin()
        self._began = time.perf_counter()


def train_steps(task: Task, turns: Turns) -> None:
    """Take some steps a turn."""
    train = Split(*read_images(task))
    trainer = make_trainer(task, train)
    batches = batch_indices(task, len(train.labels))

    def turn() -> np.ndarray:
        return trainer.steps.train([next(batches) for _ in range(task.steps)], lambda _: None)

    turn()
    turns.ready(**facts(trainer))  # pyright: ignore[reportArgumentType]  (a mapping of all that it asks for)
    while True:
        turns.begin()
        turn()
        turns.end()


def train_epochs(task: Task, epoch: Epoch, turns: Turns) -> None:
    """Take a whole epoch a turn, by the loop that a training runs, checkpoints included."""
    from resblock.core.training.fit import fit

    trainer = make_trainer(task, Split(*read_images(task)))
    validation = Split(*read_images(task, "validation"))
    if epoch.sample != min(epoch.reestimation, epoch.validation):
        raise ValueError("the training loop looks at as many training images as it validates on, at most re-estimates")
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = _TimedCheckpoint(Path(folder), "benchmark")
        watcher = _Epochs(turns, checkpoint, lambda: turns.ready(**facts(trainer)))  # pyright: ignore[reportArgumentType]
        fit(trainer, task.seed, validation, {}, checkpoint, task.threads, watcher)


def main() -> None:
    """Train as the task in the first argument says, in turns."""
    turns, task = Turns(), Task.from_json(sys.argv[1])
    start(task.threads)
    if task.epoch is None:
        train_steps(task, turns)
    else:
        train_epochs(task, task.epoch, turns)


if __name__ == "__main__":
    main()
