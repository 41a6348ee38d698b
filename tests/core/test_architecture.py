"""Networks as data: what follows from a name, and what a family of one's own takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest

from resblock.core.backends import backend
from resblock.core.model.architecture import Architecture, Entry, Place, Stem, design
from resblock.core.model.blocks import BLOCKS
from resblock.core.model.builder import Builder
from resblock.core.model.network import Network, build_network
from resblock.core.recipe import Recipe
from resblock.core.seeds import generator
from resblock.core.spec import FAMILIES, MODIFIER_RULES, DepthRule, Family, ModelSpec
from resblock.core.splits import Split, SplitName
from resblock.core.training.gradients import GradientProbe
from resblock.core.training.inference import cross_entropy
from resblock.core.training.optimization import make_optimizer
from resblock.evaluation.lesions import lesion, removed, respond

# The smallest network of each family, written out.
DIGITS = (8, 8, 1)
ENTRY = Entry(kernel_size=3, stride=1, pooled=False)
STEM = Stem(filters=16, entry=ENTRY)
NAMES = ("stage1_block1", "stage2_block1", "stage3_block1")


def place(name: str, filters: int, number: int, **choices: Any) -> Place:
    """Return the place of the first of a stage's blocks, `number` of three."""
    usual: dict[str, Any] = {
        "stride": 1,
        "entry": None,
        "pooled_before": False,
        "pooled_after": False,
        "opens_stage": True,
    }
    return Place(name, filters, survival=1 - number / 6, **{**usual, **choices})


BLOCKS_OF_THREE = tuple(
    place(name, filters, number, stride=stride)
    for number, (name, filters, stride) in enumerate(zip(NAMES, (16, 32, 64), (1, 2, 2), strict=True), start=1)
)
PLAIN = Architecture(
    stem=STEM,
    block="basic",
    places=BLOCKS_OF_THREE,
    shortcut="none",
    normalized=True,
    preactivated=False,
    stochastic=False,
    head="average",
)
DESIGNS = {
    "cnn-4": Architecture(
        stem=None,
        block="convolution",
        places=tuple(
            place(f"stage{number}_conv1", filters, number, pooled_after=True, entry=ENTRY if number == 1 else None)
            for number, filters in enumerate((32, 64, 128), start=1)
        ),
        shortcut="none",
        normalized=False,
        preactivated=False,
        stochastic=False,
        head="flatten",
    ),
    "plain-8": PLAIN,
    "residual-8": replace(PLAIN, shortcut="padded"),
    "preact-8": replace(PLAIN, block="preactivated", shortcut="padded", preactivated=True),
    "bottleneck-11": replace(PLAIN, block="bottleneck", shortcut="padded", preactivated=True),
}
MODIFIED = {
    "residual-8-nobn": replace(DESIGNS["residual-8"], normalized=False),
    "residual-8-projection": replace(DESIGNS["residual-8"], shortcut="projected"),
    "residual-8-allprojection": replace(DESIGNS["residual-8"], shortcut="all-projected"),
    "residual-8-sd": replace(DESIGNS["residual-8"], stochastic=True),
    "plain-8-maxpool": replace(
        PLAIN,
        places=tuple(replace(each, stride=1, pooled_before=each.stride == 2) for each in BLOCKS_OF_THREE),
    ),
    "plain-8-w3": replace(PLAIN, places=tuple(replace(each, filters=3 * each.filters) for each in BLOCKS_OF_THREE)),
}


@pytest.mark.parametrize("name", [*DESIGNS, *MODIFIED])
def test_a_name_is_a_network_as_data(name: str) -> None:
    assert design(ModelSpec.parse(name), DIGITS) == {**DESIGNS, **MODIFIED}[name]


def test_every_family_and_every_modifier_is_written_out_here() -> None:
    assert {name.partition("-")[0] for name in DESIGNS} == set(FAMILIES)
    assert {name.split("-")[2] for name in MODIFIED} == {*MODIFIER_RULES, "w3"}
    assert {family.block for family in FAMILIES.values()} == set(BLOCKS)


def test_twins_differ_in_the_shortcut_alone() -> None:
    plain, residual = (
        design(ModelSpec(family, 56, frozenset({"maxpool"}), 2), DIGITS) for family in ("plain", "residual")
    )
    assert replace(plain, shortcut="padded") == residual
    assert (plain.adds, residual.adds) == (False, True)


@pytest.mark.parametrize(
    ("side", "expected"),
    [
        (32, Entry(3, 1, pooled=False)),
        (48, Entry(3, 1, pooled=False)),
        (49, Entry(3, 2, pooled=False)),
        (96, Entry(3, 2, pooled=False)),
        (97, Entry(7, 2, pooled=True)),  # He et al. 2015, table 1
    ],
)
def test_the_first_convolution_reduces_larger_images(side: int, expected: Entry) -> None:
    for shape in ((side, side, 3), (side, 8, 3), (8, side, 3)):
        assert design(ModelSpec("residual", 8), shape).stem == Stem(16, expected)
        assert [each.entry for each in design(ModelSpec("cnn", 4), shape).places] == [expected, None, None]


@pytest.mark.parametrize(("side", "pixels"), [(8, 8), (48, 48), (49, 25), (96, 48), (97, 25), (224, 56)])
@pytest.mark.parametrize("name", ["residual-8", "cnn-4"])
def test_the_first_stage_works_at_24_to_56_pixels(
    name: str, side: int, pixels: int, make_recipe: Callable[..., Recipe]
) -> None:
    """224 to 56 pixels: He et al. 2015, table 1. Images below 24 pixels stay as they are."""
    network = build_network(ModelSpec.parse(name), (side, side, 1), 10, make_recipe(), seed=0)
    assert network.parts.all[0].output.shape[1:3] == (pixels, pixels)
    assert side < 24 or 24 <= pixels <= 56


def test_places_of_a_deeper_network_count_within_their_stage() -> None:
    places = design(ModelSpec("residual", 20), DIGITS).places
    assert [each.name for each in places] == [f"stage{s}_block{b}" for s in (1, 2, 3) for b in (1, 2, 3)]
    assert [each.filters for each in places] == [16] * 3 + [32] * 3 + [64] * 3
    assert [each.stride for each in places] == [1, 1, 1, 2, 1, 1, 2, 1, 1]
    assert [each.opens_stage for each in places] == [True, False, False] * 3
    convolutions = design(ModelSpec("cnn", 7), DIGITS).places
    assert [each.name for each in convolutions] == [f"stage{s}_conv{c}" for s in (1, 2, 3) for c in (1, 2)]
    assert [each.pooled_after for each in convolutions] == [False, True] * 3
    assert {each.stride for each in convolutions} == {1}


# A family of one's own: one entry and one block function. It adds one convolution to what it was given.


def single(x: Any, place: Place, net: Builder) -> Any:
    y = net.branch(net.normalize(net.convolve(x, place.filters, "conv", stride=place.stride), "norm"))
    return net.relu(net.add(y, net.shortcut(x, place.filters)) if net.adds else y, "relu")


SINGLE = Family("one convolution a block", DepthRule(3, 2), block="single")


@pytest.fixture
def further(monkeypatch: pytest.MonkeyPatch, backend: int) -> ModelSpec:
    """The smallest network of the new family."""
    monkeypatch.setitem(FAMILIES, "single", SINGLE)
    monkeypatch.setitem(BLOCKS, "single", single)
    return ModelSpec.parse("single-5")


def build(spec: ModelSpec, recipe: Recipe) -> Network:
    return build_network(spec, DIGITS, 10, recipe, seed=0)


def test_a_further_family_has_the_grammar_of_all(further: ModelSpec) -> None:
    assert further.blocks == 1
    assert further.twin is None
    assert ModelSpec.parse("single-8-nobn-projection-w2-sd").blocks == 2
    with pytest.raises(ValueError, match=r"single-6: depth must be 3n\+2, n >= 1; nearest: single-5 and single-8"):
        ModelSpec.parse("single-6")
    expected = replace(DESIGNS["residual-8"], block="single")
    assert design(further, DIGITS) == expected


def test_a_further_family_counts_as_by_hand(further: ModelSpec, make_recipe: Callable[..., Recipe]) -> None:
    network = build(further, make_recipe())
    kernels = 9 * (1 * 16 + 16 * 16 + 16 * 32 + 32 * 64)
    assert network.parameters == kernels + 2 * (16 + 16 + 32 + 64) + 64 * 10 + 10
    work = 9 * (64 * (1 * 16 + 16 * 16) + 16 * 16 * 32 + 4 * 32 * 64)
    assert network.multiply_adds == work + 64 * 10
    assert [part.name for part in network.parts.all] == ["stem", *NAMES]
    assert [part.name for part in network.parts.blocks] == list(NAMES)
    convolutions = ["stem_conv", *(f"{name}_conv" for name in NAMES)]
    assert network.parts.convolutions == {name: number for number, name in enumerate(convolutions, start=1)}


@pytest.mark.parametrize("modifiers", ["", "-nobn", "-projection", "-allprojection", "-maxpool", "-w2", "-sd"])
def test_a_further_family_has_every_modifier_and_trains(
    modifiers: str, further: ModelSpec, make_recipe: Callable[..., Recipe], few_digits: dict[SplitName, Split]
) -> None:
    recipe, train = make_recipe(learning_rate=0.01), few_digits["train"]
    network = build(ModelSpec.parse(f"{further}{modifiers}"), recipe)
    optimizer = make_optimizer(recipe, steps=30)
    optimizer.build(network.model.trainable_variables)
    before = network.weights()
    steps = backend().steps(network.model, optimizer, train)
    batch = np.arange(64, dtype=np.int32)
    ((first, _),) = steps.train([batch], lambda _: None)
    moved = [path for path, values in network.weights().items() if not np.array_equal(values, before[path])]
    assert moved
    (*_, (last, _)) = steps.train([batch] * 29, lambda _: None)
    assert last < first  # the same images again and again


def test_gradients_of_a_further_family_are_measured_at_its_parts(
    further: ModelSpec, make_recipe: Callable[..., Recipe], few_digits: dict[SplitName, Split]
) -> None:
    network = build(further, make_recipe())
    rows = GradientProbe(network, few_digits["train"], 32, 32, seed=0).measure(network.weights(), epoch=0)
    assert [(row.of, row.layer, row.position) for row in rows] == [
        ("weights", "stem_conv", 1),
        *(("weights", f"{name}_conv", number) for number, name in enumerate(NAMES, start=2)),
        ("activations", "stem", 1),
        *(("activations", name, number) for number, name in enumerate(NAMES, start=2)),
    ]
    assert all(row.norm > 0 for row in rows)


def lived(spec: ModelSpec, recipe: Recipe, images: np.ndarray) -> Network:
    """Return a network whose every weight has moved, and whose statistics have seen `images`."""
    network = build(spec, replace(recipe, batch_norm_momentum=0.0))
    for variable in network.model.trainable_variables:
        variable.assign_add(0.1 * generator(0, variable.path).standard_normal(tuple(variable.shape)))
    network.model(images, training=True)
    return network


@pytest.mark.parametrize("modifiers", ["", "-nobn", "-sd"])
def test_blocks_of_a_further_family_can_be_taken_out(
    modifiers: str, further: ModelSpec, make_recipe: Callable[..., Recipe], digits: dict[SplitName, Split]
) -> None:
    spec, test = ModelSpec.parse(f"{further}{modifiers}"), digits["test"].take(np.arange(50))
    network = lived(spec, make_recipe(), test.images)
    before, inference = network.weights(), backend().inference(network.model)
    whole = inference.logits(test.images)
    stem, first, *_ = network.parts.all
    ends = keras.Model(network.model.input, [stem.output, first.output])
    with removed(network, [first.name]):
        given, left = map(keras.ops.convert_to_numpy, ends(test.images, training=False))
        np.testing.assert_allclose(left, given, atol=1e-5)  # what the stem gave is positive: ReLU leaves it
        assert cross_entropy(inference.logits(test.images), test.labels) != cross_entropy(whole, test.labels)
    np.testing.assert_array_equal(inference.logits(test.images), whole)
    rows = lesion(network, inference, test, spec, seed=0, draws=1)
    assert [row.blocks for row in rows if row.removed == 1] == list(NAMES)
    assert [row.block for row in respond(network, test.images, spec, seed=0)] == list(NAMES)
    assert all(np.array_equal(values, before[path]) for path, values in network.weights().items())


def test_a_further_family_may_be_the_plain_twin_of_another(
    further: ModelSpec,
    monkeypatch: pytest.MonkeyPatch,
    make_recipe: Callable[..., Recipe],
    digits: dict[SplitName, Split],
) -> None:
    monkeypatch.setitem(FAMILIES, "bare", replace(SINGLE, shortcut=False, twin="single"))
    monkeypatch.setitem(FAMILIES, "single", replace(SINGLE, twin="bare"))
    spec = ModelSpec.parse("bare-5")
    assert (spec.twin, further.twin) == (further, spec)
    images = digits["test"].images[:50]
    network = lived(spec, make_recipe(), images)
    other = build(further, make_recipe())
    assert set(network.weights()) == set(other.weights())
    stem, first, *_ = network.parts.all
    ends = keras.Model(network.model.input, [stem.output, first.output])
    with removed(network, [first.name]):
        given, left = map(keras.ops.convert_to_numpy, ends(images, training=False))
    np.testing.assert_allclose(left, given, atol=1e-4 * np.abs(given).max())
