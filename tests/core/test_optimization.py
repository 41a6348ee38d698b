"""Schedules and optimisers against values by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from resblock.core.model.network import build_network
from resblock.core.recipe import Recipe
from resblock.core.spec import ModelSpec
from resblock.core.training.optimization import learning_rate, make_optimizer

pytestmark = pytest.mark.usefixtures("backend")

MakeRecipe = Callable[..., Recipe]
PEAK, STEPS = 0.2, 1000


def rate_at(step: int, recipe: Recipe, steps: int) -> float:
    """Return the learning rate of `step`, counted from 0, in a training of `steps`."""
    rate = learning_rate(recipe, steps)
    return rate if isinstance(rate, int | float) else float(rate(step))


@pytest.mark.parametrize(
    ("schedule", "step", "expected"),
    [
        ("constant", 0, PEAK),
        ("constant", STEPS - 1, PEAK),
        ("step", 0, PEAK),
        ("step", 499, PEAK),
        ("step", 502, PEAK / 10),
        ("step", 749, PEAK / 10),
        ("step", 752, PEAK / 100),
        ("step", STEPS - 1, PEAK / 100),
        ("cosine", 0, PEAK),
        ("cosine", 250, PEAK * (1 + math.sqrt(0.5)) / 2),
        ("cosine", 500, PEAK / 2),
        ("cosine", 750, PEAK * (1 - math.sqrt(0.5)) / 2),
        ("cosine", STEPS, 0),
        ("onecycle", 0, PEAK / 25),
        ("onecycle", 150, (PEAK / 25 + PEAK) / 2),
        ("onecycle", 300, PEAK),
        ("onecycle", 650, PEAK / 2),
        ("onecycle", STEPS, 0),
    ],
)
def test_schedules_have_the_values_by_hand(schedule: str, step: int, expected: float, make_recipe: MakeRecipe) -> None:
    assert rate_at(step, make_recipe(learning_rate=PEAK, schedule=schedule), STEPS) == pytest.approx(
        expected, rel=1e-5, abs=1e-8
    )


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
@pytest.mark.parametrize("schedule", ["constant", "step", "cosine", "onecycle"])
def test_the_shortest_trainings_have_rates_between_zero_and_the_peak(
    schedule: str, steps: int, make_recipe: MakeRecipe
) -> None:
    recipe = make_recipe(learning_rate=PEAK, schedule=schedule)
    values = [rate_at(step, recipe, steps) for step in range(steps)]
    assert all(0 < value <= PEAK * (1 + 1e-6) for value in values)


def moved(optimizer: keras.optimizers.Optimizer, gradients: list[float]) -> list[float]:
    """Return where a variable that starts at 0 stands after each step."""
    variable = keras.Variable(np.zeros(1, np.float32))
    optimizer.build([variable])
    places: list[float] = []
    for gradient in gradients:
        optimizer.apply([tf.constant([gradient])], [variable])
        places.append(float(variable.numpy()[0]))
    return places


def test_sgd_has_the_momentum_asked_for(make_recipe: MakeRecipe) -> None:
    optimizer = make_optimizer(make_recipe(optimizer="sgd", momentum=0.9, nesterov=False, learning_rate=0.1), STEPS)
    # Velocities -0.1, -0.19 and, without a gradient, -0.171.
    assert moved(optimizer, [1, 1, 0]) == pytest.approx([-0.1, -0.29, -0.461])


def test_sgd_without_momentum_takes_plain_steps(make_recipe: MakeRecipe) -> None:
    """Keras keeps no velocities then."""
    for nesterov in (False, True):
        optimizer = make_optimizer(
            make_recipe(optimizer="sgd", momentum=0, nesterov=nesterov, learning_rate=0.1, schedule="constant"), STEPS
        )
        assert moved(optimizer, [1, 1, 0]) == pytest.approx([-0.1, -0.2, -0.2])


@pytest.mark.parametrize("schedule", ["constant", "step", "cosine", "onecycle"])
def test_a_whole_number_is_the_rate_that_it_is_as_a_float(schedule: str, make_recipe: MakeRecipe) -> None:
    """Keras takes a cosine of whole numbers where the peak is one: other rates, or an error."""
    whole, same = (make_recipe(learning_rate=peak, schedule=schedule) for peak in (1, 1.0))
    assert whole.tree() == same.tree()
    assert type(whole.tree()["learning_rate"]) is float
    assert [rate_at(step, whole, 10) for step in range(11)] == [rate_at(step, same, 10) for step in range(11)]


def test_a_schedule_leaves_momentum_as_it_is(make_recipe: MakeRecipe) -> None:
    choices: dict[str, Any] = {"optimizer": "sgd", "nesterov": False, "learning_rate": 2.5, "schedule": "onecycle"}
    # At 2.5 / 25 a step of gradient 1 leaves the velocity -0.1; without looking ahead that is where it ends.
    assert moved(make_optimizer(make_recipe(**choices, momentum=0.9), STEPS), [1]) == pytest.approx([-0.1])
    constant = {**choices, "schedule": "constant", "learning_rate": 0.1}
    halved = make_optimizer(make_recipe(**constant, momentum=0.5), STEPS)
    assert moved(halved, [1, 0, 0]) == pytest.approx([-0.1, -0.15, -0.175])


def test_nesterov_looks_ahead(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(optimizer="sgd", momentum=0.9, nesterov=True, learning_rate=2.5, schedule="onecycle")
    # The first step's rate is 2.5 / 25; Nesterov applies the velocity -0.1 once more, times 0.9.
    assert moved(make_optimizer(recipe, STEPS), [1]) == pytest.approx([-0.19])


def test_adam_has_the_papers_moments(make_recipe: MakeRecipe) -> None:
    optimizer = make_optimizer(make_recipe(optimizer="adam", learning_rate=0.01), STEPS)
    # Kingma & Ba 2015, algorithm 1, with beta 0.9 and 0.999: bias-corrected, two equal gradients move alike;
    # then m = 0.19 * 0.9 / (1 - 0.9^3) and v = 0.001999 * 0.999 / (1 - 0.999^3).
    third = 0.01 * (0.19 * 0.9 / (1 - 0.9**3)) / math.sqrt(0.001999 * 0.999 / (1 - 0.999**3))
    assert moved(optimizer, [1, 1, 0]) == pytest.approx([-0.01, -0.02, -0.02 - third], rel=1e-4)


@pytest.mark.parametrize("name", ["cnn-4", "residual-8"])
def test_weight_decay_pulls_each_kernel_by_its_own_value(name: str, make_recipe: MakeRecipe) -> None:
    decay = 1e-4  # He et al. 2015, section 4.2
    model = build_network(ModelSpec.parse(name), (8, 8, 1), 10, make_recipe(weight_decay=decay), seed=0).model
    with tf.GradientTape() as tape:
        penalty = tf.add_n(model.losses)
    variables = model.trainable_variables
    for variable, gradient in zip(variables, tape.gradient(penalty, variables), strict=True):
        if variable.name == "kernel":
            assert np.allclose(gradient, decay * variable.numpy(), rtol=1e-5), variable.path
        else:
            assert gradient is None, variable.path


def test_no_weight_decay_is_no_penalty(make_recipe: MakeRecipe) -> None:
    model = build_network(ModelSpec.parse("residual-8"), (8, 8, 1), 10, make_recipe(weight_decay=0), seed=0).model
    assert model.losses == []
