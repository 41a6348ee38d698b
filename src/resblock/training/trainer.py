"""A network with its optimiser and compiled step, ready to be trained: all the state that training changes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from resblock.data.splits import Split
from resblock.model.network import build_model
from resblock.spec import ModelSpec
from resblock.training.engine import make_engine
from resblock.training.optimization import make_optimizer

if TYPE_CHECKING:
    from resblock.params import Recipe


class Trainer:
    """The network of `spec`, to be trained on `train` by `recipe`.

    Its step is compiled once. Several seeds may use it one after the other, with the results of separate trainings:
    `start` puts all that training changes into the state of a new network.
    """

    def __init__(self, spec: ModelSpec, train: Split, *, classes: int, recipe: Recipe, seed: int) -> None:
        self._spec, self._classes, self._recipe = spec, classes, recipe
        self._image_shape: tuple[int, int, int] = train.images.shape[1:]
        self.images = len(train.labels)
        self.steps = math.ceil(self.images / recipe.batch_size)  # an epoch
        self.model = self._build(seed)
        self.optimizer = make_optimizer(recipe, recipe.epochs * self.steps)
        self.optimizer.build(self.model.trainable_variables)
        self.engine = make_engine(self.model, self.optimizer, train)
        self._seed = seed
        self._unused_optimizer = [keras.ops.convert_to_numpy(variable) for variable in self.optimizer.variables]
        self._used = False

    def start(self, seed: int) -> None:
        """Forget what was trained: initial weights and random states of `seed`, an optimiser without memory."""
        if self._used or seed != self._seed:
            for variable, initial in zip(self.model.variables, self._build(seed).variables, strict=True):
                variable.assign(initial)
            for variable, initial in zip(self.optimizer.variables, self._unused_optimizer, strict=True):
                variable.assign(initial)
        self._used = True

    def twin(self, seed: int) -> keras.Model:
        """Return a new network of `seed`, for whoever wants to look at what is trained without touching it."""
        return self._build(seed)

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

    def weights(self) -> dict[str, np.ndarray]:
        """Return the network's weights, moving statistics included, by variable path."""
        return {variable.path: keras.ops.convert_to_numpy(variable) for variable in self.model.weights}

    def rate_at(self, step: int) -> float:
        """Return the learning rate of `step`, counted from 0 over the whole training."""
        schedule = getattr(self.optimizer, "_learning_rate")  # noqa: B009  (the property gives the next step's rate)
        rate = schedule(step) if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule) else schedule
        return float(f"{float(keras.ops.convert_to_numpy(rate)):.6g}")  # what float32 holds of 0.001 is no 0.001

    def _build(self, seed: int) -> keras.Model:
        return build_model(self._spec, self._image_shape, self._classes, self._recipe, seed)

    def _named(self) -> dict[str, Any]:
        """Name weights, moving averages, random states and the optimiser's memory."""
        groups = {"model": self.model.variables, "optimizer": self.optimizer.variables}
        return {
            f"{group}/{number}/{variable.name}": variable
            for group, variables in groups.items()
            for number, variable in enumerate(variables)
        }
