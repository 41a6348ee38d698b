"""How fast this machine trains: what earlier trainings took on it, or a measurement of seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

from resblock import paths
from resblock.core.backends.machine import processor
from resblock.core.files import read_json
from resblock.core.recipe import Recipe
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.training.run import MANIFEST, Cost
from resblock.costs import own_first
from resblock.startup import start_keras

BATCHES = 8  # that a measurement shows again and again
AT_LEAST = 3.0  # seconds of steps that a measurement takes


@dataclass(frozen=True)
class Shape:
    """What of a data set decides how long an epoch takes."""

    images: int  # to train on
    image_shape: tuple[int, int, int]  # height, width, channel
    classes: int


CIFAR10 = Shape(45_000, (32, 32, 3), 10)  # taken for what is not prepared yet


@dataclass(frozen=True)
class Past:
    """A training that this machine has done."""

    key: RunKey
    cost: Cost
    precision: str

    @property
    def epoch(self) -> float:
        """Seconds of an epoch like most, what is measured after it included."""
        return median(self.cost.epoch_seconds)

    @property
    def beginning(self) -> float:
        """Seconds that the first epoch took beyond another: graphs are built and compiled in it."""
        return max(0.0, self.cost.epoch_seconds[0] - self.epoch)

    @property
    def work_per_second(self) -> float:
        """Multiply-adds of forward passes over training images in a second of an epoch."""
        return self.cost.multiply_adds * shape_of(self.key.dataset).images / self.epoch


def shape_of(dataset: str) -> Shape:
    """Return the shape of a data set that has been prepared, here or by those whose results these are."""
    file = paths.manifest("preprocess", dataset)
    tree: dict[str, Any] = read_json(file) if file.is_file() else {}
    if not tree.keys() >= {"sizes", "image_shape", "classes"}:
        return CIFAR10
    height, width, channels = tree["image_shape"]
    return Shape(tree["sizes"]["train"], (height, width, channels), len(tree["classes"]))


def past_trainings() -> Iterator[Past]:
    """Yield every training here whose cost file names this machine's processor."""
    for dataset in paths.datasets():
        for key in paths.timed(dataset):
            taken = own_first(key)
            if taken and taken.cost.machine == processor() and taken.cost.epoch_seconds:
                manifest = paths.run(key) / MANIFEST
                recipe: dict[str, Any] = read_json(manifest).get("recipe", {}) if manifest.is_file() else {}
                yield Past(key, taken.cost, recipe.get("precision", "float32"))


def count(dataset: str, spec: ModelSpec, recipe: Recipe) -> tuple[int, int]:
    """Return the multiply-adds of one image and the parameters of a network, which is built for that."""
    start_keras(recipe.threads)
    from resblock.core.model.network import build_network  # Keras, now quiet

    shape = shape_of(dataset)
    network = build_network(spec, shape.image_shape, shape.classes, recipe, seed=0)
    return network.multiply_adds, network.parameters


def measure(dataset: str, spec: ModelSpec, recipe: Recipe) -> tuple[float, float]:
    """Train on random images for some seconds; return multiply-adds a second, and the seconds of the first steps."""
    import numpy as np

    start_keras(recipe.threads)
    from resblock.core.splits import Split
    from resblock.core.training.trainer import Trainer  # Keras, now quiet

    shape, dice = shape_of(dataset), np.random.default_rng(0)
    images = BATCHES * recipe.batch_size
    split = Split(
        dice.integers(0, 256, (images, *shape.image_shape), np.uint8),
        dice.integers(0, shape.classes, images).astype(np.int32),
    )
    trainer = Trainer(spec, split, classes=shape.classes, recipe=recipe, seed=0)
    batches = list(np.arange(images, dtype=np.int32).reshape(BATCHES, -1))
    begin = time.perf_counter()
    trainer.steps.train(batches, lambda _: None)
    compiled = time.perf_counter()
    rounds = 0
    while time.perf_counter() - compiled < AT_LEAST:
        trainer.steps.train(batches, lambda _: None)
        rounds += 1
    work = trainer.network.multiply_adds * images * rounds
    return work / (time.perf_counter() - compiled), compiled - begin
