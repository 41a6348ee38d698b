"""Compiled steps against the same steps by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from resblock.core.backends import backend
from resblock.core.backends.tensorflow import Steps
from resblock.core.model.network import build_network
from resblock.core.recipe import Recipe
from resblock.core.seeds import generator
from resblock.core.spec import ModelSpec
from resblock.core.splits import Split, SplitName
from resblock.core.training.inference import accuracy, cross_entropy
from resblock.core.training.optimization import make_optimizer

pytestmark = pytest.mark.usefixtures("backend")

RATE, DECAY = 0.1, 1e-2
INDICES = np.array([3, 141, 59, 26, 5, 35], np.int32)


def test_steps_of_one_call_are_those_of_many(
    few_digits: dict[SplitName, Split], make_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    """How many steps a call takes depends on the clock, so no bit may depend on it."""
    monkeypatch.setattr("resblock.core.backends.tensorflow.CALL_SECONDS", 3600.0)
    recipe = make_recipe(horizontal_flip=True, vertical_flip=True, crop_padding=1, schedule="onecycle")
    train = few_digits["train"]
    order = np.random.default_rng(0).permutation(len(train.labels)).astype(np.int32)
    batches = [order[start : start + 32] for start in range(0, len(order), 32)]  # the last one is smaller
    assert len(batches[-1]) < 32

    def trained(calls: list[list[np.ndarray]]) -> tuple[list[bytes], bytes, list[int]]:
        keras.utils.clear_session()
        model = build_network(ModelSpec.parse("residual-8-sd"), (8, 8, 1), 10, recipe, seed=0).model
        optimizer = make_optimizer(recipe, len(batches))
        optimizer.build(model.trainable_variables)
        steps = backend().steps(model, optimizer, train)
        told: list[int] = []
        steps.train(batches[:1], lambda _: None)  # the first call is of one step, whatever comes
        sums = [steps.train(call, told.append) for call in calls]
        state = [keras.ops.convert_to_numpy(variable).tobytes() for variable in model.variables]
        return state, np.concatenate(sums).tobytes(), told

    one_by_one = trained([[batch] for batch in batches])
    together = trained([batches])
    assert one_by_one[:2] == together[:2]
    assert (one_by_one[2], together[2]) == ([1] * len(batches), [len(batches) - 1, len(batches)])


@pytest.fixture
def step(few_digits: dict[SplitName, Split], make_recipe: Callable[..., Recipe]) -> Callable[..., list[np.ndarray]]:
    """Train a network for a few steps; return its weights."""

    def step(name: str, count: int, *, images: np.ndarray | None = None, **choices: Any) -> list[np.ndarray]:
        keras.utils.clear_session()
        train = few_digits["train"]
        train = train if images is None else Split(images, train.labels)
        recipe = make_recipe(crop_padding=0 if choices else 1)
        model = build_network(ModelSpec.parse(name), (8, 8, 1), 10, recipe, seed=0).model
        optimizer = make_optimizer(recipe, count)
        optimizer.build(model.trainable_variables)
        order = generator(0, "order").permutation(len(train.labels)).astype(np.int32)
        Steps(model, optimizer, train, **choices).train(list(order[: 32 * count].reshape(count, 32)), lambda _: None)
        return [keras.ops.convert_to_numpy(variable) for variable in model.weights]

    return step


def test_images_streamed_from_a_file_give_the_weights_of_those_in_memory(
    step: Callable[..., list[np.ndarray]], few_digits: dict[SplitName, Split], tmp_path: Path
) -> None:
    np.save(tmp_path / "images.npy", few_digits["train"].images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    resident, streamed = step("residual-8", 7), step("residual-8", 7, images=mapped)
    assert [values.tobytes() for values in streamed] == [values.tobytes() for values in resident]


@pytest.mark.slow
def test_xla_takes_the_steps_that_tensorflow_takes(step: Callable[..., list[np.ndarray]]) -> None:
    """What a graphics card runs, on the processor."""
    for found, expected in zip(step("plain-8", 3, xla=True), step("plain-8", 3, xla=False), strict=True):
        assert np.allclose(found, expected, rtol=1e-3, atol=1e-3)
        assert np.abs(found - expected).mean() < 1e-4


def test_a_step_is_gradient_descent_on_the_images_asked_for(
    few_digits: dict[SplitName, Split], make_recipe: Callable[..., Recipe]
) -> None:
    train = few_digits["train"]
    recipe = make_recipe(weight_decay=DECAY)
    spec = ModelSpec.parse("residual-8")
    stepped, by_hand = (build_network(spec, (8, 8, 1), 10, recipe, seed=0).model for _ in range(2))
    optimizer = keras.optimizers.SGD(RATE)
    optimizer.build(stepped.trainable_variables)
    ((loss, correct),) = backend().steps(stepped, optimizer, train).train([INDICES], lambda _: None)

    images, labels = train.take(INDICES)
    kernels = [variable for variable in by_hand.trainable_variables if variable.name == "kernel"]
    with tf.GradientTape() as tape:
        logits = by_hand(images, training=True)
        objective = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        objective += DECAY / 2 * tf.add_n([tf.reduce_sum(kernel.value**2) for kernel in kernels])
    assert loss == pytest.approx(len(INDICES) * cross_entropy(logits.numpy(), labels), rel=1e-5)
    assert correct == len(INDICES) * accuracy(logits.numpy(), labels)
    gradients = tape.gradient(objective, by_hand.trainable_variables)
    for variable, start, gradient in zip(
        stepped.trainable_variables, by_hand.trainable_variables, gradients, strict=True
    ):
        assert np.allclose(variable.numpy(), start.numpy() - RATE * gradient, rtol=1e-4, atol=1e-6), variable.path
    for found, expected in zip(stepped.non_trainable_variables, by_hand.non_trainable_variables, strict=True):
        assert np.allclose(found.numpy(), expected.numpy(), rtol=1e-4, atol=1e-6), found.path
