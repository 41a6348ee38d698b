"""Networks before training: input gradients along lines, in closed form and against depth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from resblock.core.model.network import build_network
from resblock.core.recipe import Recipe
from resblock.core.spec import ModelSpec
from resblock.core.splits import DatasetDescription, Split, SplitName
from resblock.core.training.gradients import Backward
from resblock.evaluation.untrained import probe, shattering
from resblock.params import Probing
from tests.core.by_hand import by_hand

pytestmark = pytest.mark.usefixtures("backend")

DESCRIPTION = DatasetDescription("digits", tuple("0123456789"), (8, 8, 1), {}, {}, "test")
PROBING = Probing(variants=["plain-8"], seeds=[0], images=64, lines=3, line_points=9)


def network(activation: str) -> Backward:
    """One pixel times one weight, through `activation`, to logits (it, its double)."""
    images = keras.Input((1, 1, 1), dtype="uint8")
    x = keras.layers.Rescaling(1.0, name="rescale")(images)
    ones, doubles = keras.initializers.Constant(1.0), keras.initializers.Constant(np.array([[1.0, 2.0]]))
    weight = keras.layers.Conv2D(1, 1, activation=activation, kernel_initializer=ones, name="stage1_conv1")
    x = keras.layers.Flatten()(weight(x))
    logits = keras.layers.Dense(2, kernel_initializer=doubles, name="logits")(x)
    return Backward(by_hand(keras.Model(images, logits), weight))


def ends(first: int, second: int) -> Split:
    return Split(np.array([first, second], np.uint8).reshape(2, 1, 1, 1), np.array([1, 0]))


def test_the_gradients_of_a_linear_network_all_point_one_way() -> None:
    found = shattering(network("linear"), ends(0, 8), points=9)
    assert [lag for lag, _ in found] == [1 / 8, 2 / 8, 4 / 8, 1.0]
    assert [cosine for _, cosine in found] == pytest.approx([1.0] * 4)


class Turning(Backward):
    """Has gradients that point one way below 4, and the other way from there on."""

    def gradients(
        self, inputs: np.ndarray, outward: Callable[[np.ndarray], np.ndarray], *, training: bool
    ) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
        return [np.where(inputs < 4, -1.0, 1.0)], {}


def test_gradients_that_turn_in_the_middle_disagree_over_longer_lags() -> None:
    images = keras.Input((1, 1, 1), dtype="uint8")
    x = keras.layers.Rescaling(1.0, name="rescale")(images)
    weight = keras.layers.Conv2D(1, 1, name="stage1_conv1")
    turning = Turning(by_hand(keras.Model(images, keras.layers.Flatten()(weight(x))), weight))
    # The turn parts one of the 8 pairs at lag 1, two of the 7 at lag 2, four of the 5 at lag 4, and the two ends.
    expected = {1 / 8: 6 / 8, 2 / 8: 3 / 7, 4 / 8: -3 / 5, 1.0: -1.0}
    assert dict(shattering(turning, ends(0, 8), points=9)) == pytest.approx(expected)


def test_lines_are_the_same_however_many_points_pass_at_once(
    make_recipe: Callable[..., Recipe], digits: dict[SplitName, Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    built = build_network(ModelSpec.parse("plain-8"), (8, 8, 1), 10, make_recipe(), seed=0)
    two = digits["train"].take(np.arange(2))
    whole = dict(shattering(Backward(built), two, points=9))
    monkeypatch.setattr("resblock.core.backends.batches.MOST_IMAGES", 4)
    passed: list[int] = []
    original = Backward.gradients

    def gradients(backward: Backward, images: np.ndarray, *arguments: Any, **options: Any) -> Any:
        passed.append(len(images))
        return original(backward, images, *arguments, **options)

    monkeypatch.setattr(Backward, "gradients", gradients)
    assert dict(shattering(Backward(built), two, points=9)) == pytest.approx(whole, abs=1e-5)
    assert passed == [4, 4, 1]


def test_probing_twice_gives_the_same_and_seeds_differ(
    make_recipe: Callable[..., Recipe], digits: dict[SplitName, Split]
) -> None:
    spec, recipe = ModelSpec.parse("plain-8"), make_recipe()
    first = probe(spec, 0, digits["train"], DESCRIPTION, recipe, PROBING)
    assert probe(spec, 0, digits["train"], DESCRIPTION, recipe, PROBING) == first
    assert probe(spec, 1, digits["train"], DESCRIPTION, recipe, PROBING) != first
    assert all(-1 <= row.cosine <= 1 for row in first[1])


def test_statistics_are_those_of_training_images(
    make_recipe: Callable[..., Recipe], digits: dict[SplitName, Split]
) -> None:
    """With the averages of a new network, zero and one, normalisation would do nothing at all."""
    with_it, without = (
        probe(ModelSpec.parse(variant), 0, digits["train"], DESCRIPTION, make_recipe(), PROBING)[1]
        for variant in ("plain-8", "plain-8-nobn")
    )
    assert abs(with_it[0].cosine - without[0].cosine) > 0.01


def test_depth_shatters_plain_networks_and_residual_ones_less(
    make_recipe: Callable[..., Recipe], digits: dict[SplitName, Split]
) -> None:
    """What Balduzzi et al. 2017 found, on the networks of this project."""

    def neighbours(variant: str) -> float:
        _, cosines = probe(ModelSpec.parse(variant), 0, digits["train"], DESCRIPTION, make_recipe(), PROBING)
        return cosines[0].cosine

    shallow, plain, residual = (neighbours(variant) for variant in ("plain-8", "plain-32", "residual-32"))
    assert plain < residual
    assert plain < shallow
