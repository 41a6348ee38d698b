"""Blocks taken out by editing weights: what is left is the network without them, and afterwards nothing has changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from resblock.core.backends import backend
from resblock.core.model.network import Network, build_network
from resblock.core.recipe import Recipe
from resblock.core.spec import ModelSpec
from resblock.core.splits import Split, SplitName
from resblock.evaluation.lesions import choices, lesion, removed, respond

pytestmark = pytest.mark.usefixtures("backend")

VARIANTS = [
    "plain-14", "plain-14-nobn", "plain-14-maxpool", "residual-14", "residual-14-nobn", "residual-14-projection",
    "preact-14", "preact-14-sd", "bottleneck-20",
]  # fmt: skip
ODD = ["plain-14-maxpool", "residual-14"]  # those whose strides and pools differ where a side is odd
QUICK = ["plain-14-maxpool", "residual-14-nobn", "preact-14-sd", "bottleneck-20"]


def lived(variant: str, make_recipe: Callable[..., Recipe], images: np.ndarray) -> Network:
    """A network whose every weight has moved, and whose statistics have seen images."""
    network = build_network(ModelSpec.parse(variant), images.shape[1:], 10, make_recipe(batch_norm_momentum=0.0), 0)
    draws = np.random.default_rng(0)
    for variable in network.model.trainable_variables:
        variable.assign_add(0.1 * draws.standard_normal(tuple(variable.shape)))
    network.model(images, training=True)
    return network


def state(network: Network) -> list[bytes]:
    return [keras.ops.convert_to_numpy(variable).tobytes() for variable in network.model.variables]


def predict(network: Network, images: np.ndarray) -> np.ndarray:
    return backend().inference(network.model).logits(images)


@pytest.mark.parametrize(
    ("variant", "size"),
    [
        *((variant, 8) for variant in QUICK),
        *((variant, 7) for variant in ODD),
        *(pytest.param(variant, 8, marks=pytest.mark.slow) for variant in VARIANTS if variant not in QUICK),
        *(pytest.param(variant, 7, marks=pytest.mark.slow) for variant in VARIANTS if variant not in ODD),
    ],
)
def test_a_removed_block_passes_on_its_input(
    variant: str, size: int, make_recipe: Callable[..., Recipe], digits: dict[SplitName, Split]
) -> None:
    images = digits["test"].images[:16, :size, :size]
    network = lived(variant, make_recipe, images)
    before, whole = state(network), predict(network, images)
    ends = {part.name: part.output for part in network.parts.all}
    outputs = keras.Model(network.model.input, list(ends.values()))
    places = list(ends)
    for number, block in enumerate(places[1:], start=1):
        with removed(network, [block]):
            values = dict(zip(places, outputs(images, training=False), strict=True))
            gone = predict(network, images)
        given, left = (keras.ops.convert_to_numpy(values[places[number - offset]]) for offset in (1, 0))
        assert not np.allclose(gone, whole)
        if "projection" in variant and given.shape != left.shape:
            continue  # a convolution is left, and tests of the network hold it
        stage_opens = block.endswith("block1")
        if variant.startswith(("preact", "bottleneck")) and stage_opens:
            continue  # there the shortcut starts behind normalisation and ReLU
        if "maxpool" in variant and stage_opens:
            given = keras.ops.convert_to_numpy(keras.ops.max_pool(given, 2, padding="same")) if number > 2 else given
        stride = 2 if given.shape[1] != left.shape[1] else 1
        expected = np.zeros_like(left)
        expected[..., : given.shape[-1]] = given[:, ::stride, ::stride]
        np.testing.assert_allclose(left, expected, atol=1e-4 * np.abs(expected).max())
    assert state(network) == before
    np.testing.assert_array_equal(predict(network, images), whole)


def test_lesions_are_scored_and_the_network_left_alone(
    make_recipe: Callable[..., Recipe], digits: dict[SplitName, Split]
) -> None:
    few = Split(digits["test"].images[:50], digits["test"].labels[:50])
    spec = ModelSpec.parse("residual-14")
    network = lived("residual-14", make_recipe, few.images)
    before = state(network)
    rows = lesion(network, backend().inference(network.model), few, spec, seed=3, draws=2)
    assert state(network) == before
    assert [(row.removed, row.draw) for row in rows] == [
        (0, 0), *((1, number) for number in range(6)), (2, 0), (2, 1), (4, 0), (4, 1)
    ]  # fmt: skip
    assert rows[0].accuracy == (predict(network, few.images).argmax(axis=-1) == few.labels).mean()
    with removed(network, rows[-1].blocks.split("+")):
        assert rows[-1].accuracy == (predict(network, few.images).argmax(axis=-1) == few.labels).mean()
    assert {(row.variant, row.seed, row.images) for row in rows} == {("residual-14", 3, 50)}


def test_choices_are_the_same_for_twins_and_never_repeat_a_block() -> None:
    blocks = [f"b{number}" for number in range(9)]
    found = list(choices(blocks, 5))
    assert found == list(choices(blocks, 5))
    assert [len(gone) for _, gone in found] == [0] + [1] * 9 + [2] * 5 + [4] * 5 + [8] * 5
    assert all(len(set(gone)) == len(gone) for _, gone in found)
    assert len({tuple(gone) for _, gone in found if len(gone) == 4}) > 1


def test_responses_are_what_comes_before_the_addition(
    make_recipe: Callable[..., Recipe], digits: dict[SplitName, Split]
) -> None:
    images = digits["test"].images[:16]
    network = lived("residual-8", make_recipe, images)
    model = network.model
    norm = keras.Model(model.input, model.get_layer("stage2_block1_norm2").output)
    expected = keras.ops.convert_to_numpy(norm(images, training=False)).std()
    rows = respond(network, images, ModelSpec.parse("residual-8"), 0)
    assert [row.block for row in rows] == ["stage1_block1", "stage2_block1", "stage3_block1"]
    assert rows[1].deviation == pytest.approx(expected, rel=1e-5)
    plain = lived("plain-8", make_recipe, images)
    last = keras.Model(plain.model.input, plain.model.get_layer("stage3_block1_norm2").output)
    expected = keras.ops.convert_to_numpy(last(images, training=False)).std()
    assert respond(plain, images, ModelSpec.parse("plain-8"), 0)[-1].deviation == pytest.approx(expected, rel=1e-5)


def test_responses_are_the_same_however_many_images_pass_at_once(
    make_recipe: Callable[..., Recipe], digits: dict[SplitName, Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, spec = digits["test"].images[:16], ModelSpec.parse("residual-8")
    network = lived("residual-8", make_recipe, images)
    whole = [row.deviation for row in respond(network, images, spec, 0)]
    monkeypatch.setattr("resblock.core.backends.batches.MOST_PIXELS", 5 * 8 * 8)
    passed: list[int] = []
    original = keras.Model.__call__

    def call(model: keras.Model, batch: np.ndarray, **options: Any) -> Any:
        passed.append(len(batch))
        return original(model, batch, **options)

    monkeypatch.setattr(keras.Model, "__call__", call)
    assert [row.deviation for row in respond(network, images, spec, 0)] == pytest.approx(whole, rel=1e-5)
    assert passed == [5, 5, 5, 1]


def test_a_cnn_has_no_blocks(make_recipe: Callable[..., Recipe], digits: dict[SplitName, Split]) -> None:
    network = lived("cnn-4", make_recipe, digits["test"].images[:16])
    inference = backend().inference(network.model)
    assert not respond(network, digits["test"].images[:16], ModelSpec.parse("cnn-4"), 0)
    assert not lesion(network, inference, digits["test"], ModelSpec.parse("cnn-4"), 0, 2)
