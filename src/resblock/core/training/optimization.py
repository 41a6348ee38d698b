"""Optimisers and learning-rate schedules that a recipe may name."""

from __future__ import annotations

import keras

from resblock.core.backends import backend
from resblock.core.recipe import Recipe

STEP_AT = (0.5, 0.75)  # He et al. 2015, section 4.2: 32k and 48k of 64k iterations
STEP_FACTOR = 0.1
ONECYCLE_RISE = 0.3  # share of training spent rising, as in PyTorch's OneCycleLR
ONECYCLE_START = 1 / 25  # of the peak; likewise


def make_optimizer(recipe: Recipe, steps: int) -> keras.optimizers.Optimizer:
    """Return the recipe's optimiser for a training of `steps` steps. Its state is built by its user."""
    rate = learning_rate(recipe, steps)
    if recipe.optimizer == "adam":
        return backend().adam(rate)
    return backend().sgd(rate, momentum=recipe.momentum, nesterov=recipe.nesterov)


def learning_rate(recipe: Recipe, steps: int) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Return the learning rate as a number or as a function of the step."""
    peak = recipe.learning_rate
    match recipe.schedule:
        case "constant":
            return peak
        case "step":
            boundaries = [round(share * steps) - 1 for share in STEP_AT]  # Keras keeps the old rate at the boundary
            values = [peak * STEP_FACTOR**drops for drops in range(len(STEP_AT) + 1)]
            return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, values)
        case "cosine":
            return keras.optimizers.schedules.CosineDecay(peak, decay_steps=steps)
        case "onecycle":
            rise = round(ONECYCLE_RISE * steps)
            return keras.optimizers.schedules.CosineDecay(
                peak * ONECYCLE_START, decay_steps=max(1, steps - rise), warmup_target=peak, warmup_steps=rise
            )
