"""The training step of resblock, as its training loop takes it."""

from __future__ import annotations

import sys
from importlib.metadata import version

import keras
import numpy as np

from benchmarks.peers.batches import batch_indices, read_images
from benchmarks.peers.protocol import Task, Turns
from resblock import paths
from resblock.data.splits import Split
from resblock.model.cost import count_multiply_adds, count_parameters
from resblock.model.network import build_model
from resblock.params import Recipe, read_params
from resblock.spec import ModelSpec
from resblock.training.backend import prepare_backend
from resblock.training.engine import Engine, make_engine
from resblock.training.optimization import make_optimizer

DATASET = "cifar10"
SCHEDULED_STEPS = 7040  # 20 epochs of 352; the recipe's rate is constant


def make_network(task: Task, recipe: Recipe, classes: int = 10) -> keras.Model:
    """Return the network of the task for images of 32x32x3."""
    return build_model(ModelSpec.parse(task.network), (32, 32, 3), classes, recipe, task.seed)


def make_step(model: keras.Model, recipe: Recipe, split: Split) -> Engine:
    """Return what takes the training steps: the one place here that knows how the engine is made."""
    optimizer = make_optimizer(recipe, SCHEDULED_STEPS)
    optimizer.build(model.trainable_variables)
    return make_engine(model, optimizer, split)


def task_recipe(task: Task) -> Recipe:
    """Return the recipe of params.yaml at the task's precision and batch size, with a coin for each axis."""
    recipe = read_params(paths.PARAMS).recipe(DATASET)
    changes = {"precision": task.precision, "batch_size": task.batch_size, "flips": "independent"}
    return recipe.model_copy(update=changes)


def main() -> None:
    """Train as the task in the first argument says, in turns."""
    turns, task = Turns(), Task.from_json(sys.argv[1])
    prepare_backend(task.threads)
    recipe, split = task_recipe(task), Split(*read_images(task))
    model = make_network(task, recipe)
    engine = make_step(model, recipe, split)
    batches = batch_indices(task, len(split.labels))

    def train() -> np.ndarray:
        return engine.train([next(batches) for _ in range(task.steps)], lambda _: None)

    train()
    backend = keras.backend.backend()
    turns.ready(
        parameters=count_parameters(model),
        multiply_adds=count_multiply_adds(model),
        versions={name: version(name) for name in ("keras", backend)},
    )
    while True:
        turns.begin()
        train()
        turns.end()


if __name__ == "__main__":
    main()
