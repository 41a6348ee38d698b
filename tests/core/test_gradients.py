"""How gradients flow: closed forms, both backends' rules, and a training that does not notice being looked at."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from resblock.core.model.network import Network, build_network
from resblock.core.recipe import Recipe
from resblock.core.spec import ModelSpec
from resblock.core.splits import Split, SplitName
from resblock.core.training.checkpoint import Checkpoint
from resblock.core.training.fit import fit
from resblock.core.training.gradients import Backward, GradientProbe, measure_gradients
from resblock.core.training.run import EpochRow, GradientRow, Run, read_gradients, write_run
from resblock.core.training.trainer import Trainer
from resblock.core.training.watcher import Nobody, Watcher
from tests.core.by_hand import by_hand

WEIGHTS = (0.5, 2.0, 3.0)

pytestmark = pytest.mark.usefixtures("backend")


def chain() -> Network:
    """A network that multiplies one pixel by each of `WEIGHTS`, with logits (that, its negative)."""
    images = keras.Input((1, 1, 1), dtype="uint8")
    x = keras.layers.Rescaling(1.0, name="rescale")(images)
    layers: list[keras.Layer] = []
    for number, weight in enumerate(WEIGHTS, start=1):
        constant = keras.initializers.Constant(weight)
        layer = keras.layers.Conv2D(1, 1, use_bias=False, kernel_initializer=constant, name=f"stage1_conv{number}")
        layers.append(layer)
        x = layer(x)
    x = keras.layers.Flatten()(x)
    signs = keras.initializers.Constant(np.array([[1.0, -1.0]]))
    model = keras.Model(images, keras.layers.Dense(2, kernel_initializer=signs, name="logits")(x))
    return by_hand(model, *layers)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_norms_of_a_chain_are_those_of_the_closed_form(batch_size: int) -> None:
    backward = Backward(chain())
    images, labels = np.array([1, 2], np.uint8).reshape(2, 1, 1, 1), np.array([0, 1])
    rows = measure_gradients(backward, Split(images, labels), batch_size, epoch=7)
    product = math.prod(WEIGHTS)
    # With logits (z, -z), the cross-entropy's derivative by z is -2 sigmoid(-2 z) for the first class.
    slopes = [-2 / (1 + math.exp(2 * product)) / 2, 2 / (1 + math.exp(-2 * 2 * product)) / 2]
    by_weight = [abs(sum(slope * pixel for slope, pixel in zip(slopes, (1, 2), strict=True))) * product / weight
                 for weight in WEIGHTS]  # fmt: skip
    behind = [math.hypot(*slopes) * math.prod(WEIGHTS[number:]) for number in (1, 2, 3)]
    assert [row.norm for row in rows] == pytest.approx([*by_weight, *behind], rel=1e-5)
    assert [(row.of, row.layer, row.position) for row in rows] == [
        (of, f"stage1_conv{number}", number) for of in ("weights", "activations") for number in (1, 2, 3)
    ]
    assert {row.epoch for row in rows} == {7}


@pytest.mark.parametrize("variant", ["cnn-4", "plain-8", "residual-8-nobn", "preact-8-projection", "bottleneck-11"])
def test_rows_name_every_convolution_and_every_block(
    variant: str, make_recipe: Callable[..., Recipe], few_digits: dict[SplitName, Split]
) -> None:
    spec = ModelSpec.parse(variant)
    network = build_network(spec, (8, 8, 1), 10, make_recipe(), 0)
    rows = GradientProbe(network, few_digits["train"], 32, 32, 0).measure(network.weights(), 0)
    convolutions = [row for row in rows if row.of == "weights"]
    assert [row.position for row in convolutions] == list(range(1, spec.depth))
    blocks = [row for row in rows if row.of == "activations"]
    assert len(blocks) == 3 * spec.blocks + (spec.family != "cnn")
    assert blocks[-1].position == spec.depth - 1
    assert all(row.norm > 0 for row in blocks)


def test_norms_are_the_gradients_of_the_loss(
    make_recipe: Callable[..., Recipe], few_digits: dict[SplitName, Split]
) -> None:
    tf = pytest.importorskip("tensorflow")
    network = build_network(ModelSpec.parse("residual-8"), (8, 8, 1), 10, make_recipe(), 0)
    model, weights = network.model, network.weights()
    few = Split(few_digits["train"].images[:32], few_digits["train"].labels[:32])
    with tf.GradientTape() as tape:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(few.labels, model(few.images, training=True))
        loss = tf.reduce_mean(losses)
    kernels = {v.path: v.value for v in model.trainable_variables if v.path.endswith("/kernel")}
    expected = {path: float(tf.norm(gradient)) for path, gradient in tape.gradient(loss, kernels).items()}
    rows = GradientProbe(network, few, len(few.labels), len(few.labels), 0).measure(weights, 0)
    measured = {f"{row.layer}/kernel": row.norm for row in rows if row.of == "weights"}
    assert measured == pytest.approx({path: expected[path] for path in measured}, rel=1e-3)


def trained(folder: Path, recipe: Recipe, digits: dict[SplitName, Split], watcher: Watcher | None = None) -> Run:
    spec = ModelSpec.parse("residual-8-sd")
    trainer = Trainer(spec, digits["train"], classes=10, recipe=recipe, seed=0)
    checkpoint = Checkpoint(folder, "key")
    return fit(trainer, 0, digits["validation"], {}, checkpoint, threads=1, watcher=watcher or Nobody())[0]


def test_looking_changes_nothing(
    tmp_path: Path, make_recipe: Callable[..., Recipe], few_digits: dict[SplitName, Split]
) -> None:
    unseen = trained(tmp_path / "unseen", make_recipe(gradient_epochs=[]), few_digits)
    seen = trained(tmp_path / "seen", make_recipe(gradient_epochs=[0, 1, 2]), few_digits)
    assert not unseen.gradients
    assert sorted({row.epoch for row in seen.gradients}) == [0, 1, 2]
    assert seen.curve == unseen.curve
    for path, values in unseen.weights.items():
        assert values.tobytes() == seen.weights[path].tobytes(), path


class Killed(BaseException):
    """Ends a training where it stands."""


class Killer(Nobody):
    """Ends it after its first epoch."""

    def epoch(self, row: EpochRow) -> None:
        raise Killed


def test_a_resumed_training_has_the_rows_of_one_that_was_not_killed(
    tmp_path: Path, make_recipe: Callable[..., Recipe], few_digits: dict[SplitName, Split]
) -> None:
    recipe = make_recipe(gradient_epochs=[0, 1, 2])
    whole = trained(tmp_path / "whole", recipe, few_digits)
    with pytest.raises(Killed):
        trained(tmp_path / "killed", recipe, few_digits, Killer())
    resumed = trained(tmp_path / "killed", recipe, few_digits)
    assert resumed.gradients == whole.gradients


def test_rows_survive_the_file(tmp_path: Path) -> None:
    rows = [GradientRow(0, "weights", "stem_conv", 1, 1 / 3), GradientRow(1, "activations", "stem", 1, math.nan)]
    write_run(tmp_path, Run({}, "diverged", [], {}, rows))
    first, second = read_gradients(tmp_path)
    assert first == rows[0]
    assert math.isnan(second.norm)
    assert replace(second, norm=0.0) == replace(rows[1], norm=0.0)
