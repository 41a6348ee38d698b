"""A network with its optimiser and compiled step, ready to be trained: all the state that training changes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from resblock.core.backends import backend
from resblock.core.model.network import Network, build_network
from resblock.core.recipe import Recipe
from resblock.core.spec import ModelSpec
from resblock.core.splits import Split, mean_image
from resblock.core.training.optimization import make_optimizer


class Trainer:
    """The network of `spec`, to be trained on `train` by `recipe`.

    What it computes is compiled once. Several seeds may use it one after the other, with the results of separate
    trainings: `start` puts all that training changes into the state of a new network.
    """

    def __init__(self, spec: ModelSpec, train: Split, *, classes: int, recipe: Recipe, seed: int) -> None:
        self.train, self.recipe = train, recipe
        self._spec, self._classes = spec, classes
        self.images = len(train.labels)
        self.steps_per_epoch = math.ceil(self.images / recipe.batch_size)
        self._mean = mean_image(train.images) if recipe.center == "pixel-mean" else None
        self.network = self.twin(seed)
        self.optimizer = make_optimizer(recipe, recipe.epochs * self.steps_per_epoch)
        self.optimizer.build(self.network.model.trainable_variables)
        self.steps = backend().steps(self.network.model, self.optimizer, train)
        self.inference = backend().inference(self.network.model)
        self._seed = seed
        self._unused_optimizer = [keras.ops.convert_to_numpy(variable) for variable in self.optimizer.variables]
        self._used = False

    def start(self, seed: int) -> None:
        """Forget what was trained: initial weights and random states of `seed`, an optimiser without memory."""
        if self._used or seed != self._seed:
            for variable, initial in zip(self.network.model.variables, self.twin(seed).model.variables, strict=True):
                variable.assign(initial)
            for variable, initial in zip(self.optimizer.variables, self._unused_optimizer, strict=True):
                variable.assign(initial)
        self._used = True

    def twin(self, seed: int) -> Network:
        """Return a new network of `seed`, for whoever wants to look at what is trained without touching it."""
        shape: tuple[int, int, int] = self.train.images.shape[1:]
        return build_network(self._spec, shape, self._classes, self.recipe, seed, mean=self._mean)

    def state(self) -> dict[str, np.ndarray]:
        """Return every variable that the next step reads, by name."""
        return {name: keras.ops.convert_to_numpy(variable) for name, variable in self._named().items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> bool:
        """Put back what `state` returned; refuse, and change nothing, where it does not fit."""
        named = self._named()
        kinds = {name: (tuple(variable.shape), str(variable.dtype)) for name, variable in named.items()}
        if kinds != {name: (value.shape, str(value.dtype)) for name, value in state.items()}:
            return False
        for name, variable in named.items():
            variable.assign(state[name])
        return True

    def rate_at(self, step: int) -> float:
        """Return the learning rate of `step`, counted from 0 over the whole training."""
        schedule = getattr(self.optimizer, "_learning_rate")  # noqa: B009  (the property gives the next step's rate)
        rate = schedule(step) if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule) else schedule
        return float(f"{float(keras.ops.convert_to_numpy(rate)):.6g}")  # what float32 holds of 0.001 is no 0.001

    def _named(self) -> dict[str, Any]:
        """Name weights, moving averages, random states and the optimiser's memory."""
        groups = {"model": self.network.model.variables, "optimizer": self.optimizer.variables}
        return {
            f"{group}/{number}/{variable.name}": variable
            for group, variables in groups.items()
            for number, variable in enumerate(variables)
        }
