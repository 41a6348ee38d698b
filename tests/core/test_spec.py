"""The one grammar of variants and runs."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resblock.core.spec import FAMILIES, MODIFIER_RULES, ModelSpec, Modifier, RunKey

# The depth rules and the modifiers of each family, written out once more so that a slip in the code's tables shows.
STEPS: dict[str, tuple[int, int]] = {
    "cnn": (3, 1),
    "plain": (6, 2),
    "residual": (6, 2),
    "preact": (6, 2),
    "bottleneck": (9, 2),
}
FITTING: dict[str, set[Modifier]] = {
    "cnn": set(),
    "plain": {"nobn", "maxpool"},
    "residual": {"nobn", "projection", "allprojection", "maxpool", "sd"},
    "preact": {"nobn", "projection", "allprojection", "maxpool", "sd"},
    "bottleneck": {"nobn", "projection", "allprojection", "maxpool", "sd"},
}
ORDER = ["nobn", "projection", "allprojection", "maxpool", "w", "sd"]

families = st.sampled_from(sorted(STEPS))
blocks = st.integers(min_value=1, max_value=500)
modifiers = st.frozensets(st.sampled_from(sorted(MODIFIER_RULES)))
widths = st.integers(min_value=1, max_value=20)


def possible(family: str, chosen: frozenset[Modifier]) -> bool:
    return chosen <= FITTING[family] and not {"projection", "allprojection"} <= chosen


@st.composite
def specs(draw: st.DrawFn) -> ModelSpec:
    """Every network there is, up to 500 blocks a stage and 20 times the width."""
    family = draw(families)
    step, offset = STEPS[family]
    chosen = draw(modifiers.filter(lambda drawn: possible(family, drawn)))
    return ModelSpec(family, step * draw(blocks) + offset, chosen, draw(widths))


@given(families, blocks)
def test_names_and_specs_are_inverse(family: str, n: int) -> None:
    step, offset = STEPS[family]
    depth = step * n + offset
    spec = ModelSpec(family, depth)
    assert spec.name == str(spec) == f"{family}-{depth}"
    assert ModelSpec.parse(spec.name) == spec
    assert spec.blocks == n


@given(specs())
def test_names_with_modifiers_and_specs_are_inverse(spec: ModelSpec) -> None:
    assert ModelSpec.parse(spec.name) == spec
    written = [part.rstrip("0123456789") if part.startswith("w") else part for part in spec.name.split("-")[2:]]
    assert written == [part for part in ORDER if part in written]  # one order, nothing twice


@given(specs(), st.randoms())
def test_a_network_has_one_spelling(spec: ModelSpec, random: Random) -> None:
    family, depth, *parts = spec.name.split("-")
    shuffled = random.sample(parts, len(parts))
    name = "-".join((family, depth, *shuffled))
    if shuffled == parts:
        assert ModelSpec.parse(name) == spec
    else:
        with pytest.raises(ValueError, match=rf"^{name}: write {spec.name}$"):
            ModelSpec.parse(name)


@given(families, blocks, modifiers, widths)
def test_impossible_combinations_are_refused_naming_possible_ones(
    family: str, n: int, chosen: frozenset[Modifier], width: int
) -> None:
    step, offset = STEPS[family]
    depth = step * n + offset
    if possible(family, chosen):
        assert ModelSpec(family, depth, chosen, width).modifiers == chosen
        return
    with pytest.raises(ValueError, match=rf"^{family}-{depth}-.*; nearest: ") as caught:
        ModelSpec(family, depth, chosen, width)
    for name in str(caught.value).partition("nearest: ")[2].split(" and "):
        assert ModelSpec.parse(name).width == width


@pytest.mark.parametrize(
    ("name", "reason", "nearest"),
    [
        ("plain-20-projection", "a plain network has no shortcut (-projection)", "plain-20 and residual-20-projection"),
        ("cnn-4-allprojection", "a cnn network has no shortcut (-allprojection)", "cnn-4 and residual-8-allprojection"),
        (
            "plain-20-nobn-sd",
            "a plain network has no residual branch to drop (-sd)",
            "plain-20-nobn and residual-20-nobn-sd",
        ),
        ("cnn-4-nobn", "a cnn network has no batch normalisation to leave out (-nobn)", "cnn-4 and plain-8-nobn"),
        ("cnn-7-maxpool-w2", "a cnn network pools already (-maxpool)", "cnn-7-w2 and plain-8-maxpool-w2"),
        (
            "preact-20-projection-allprojection",
            "projection and allprojection exclude each other",
            "preact-20-projection and preact-20-allprojection",
        ),
        ("residual-21-nobn", "depth must be 6n+2, n >= 1", "residual-20-nobn and residual-26-nobn"),
        ("bottleneck-50-w2", "depth must be 9n+2, n >= 1", "bottleneck-47-w2 and bottleneck-56-w2"),
    ],
)
def test_what_is_impossible_is_refused_with_the_reason_and_the_nearest(name: str, reason: str, nearest: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(f'{name}: {reason}; nearest: {nearest}')}$"):
        ModelSpec.parse(name)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("residual-20-sd-nobn", "write residual-20-nobn-sd"),
        ("residual-20-nobn-nobn", "write residual-20-nobn"),
        ("residual-20-w1", "write residual-20"),
        ("residual-20-w02", "write residual-20-w2"),
        ("residual-20-w2-w4", "w2 and w4 exclude each other; choose one"),
        ("residual-20-w0", "width must be a whole number from 1; nearest: residual-20"),
        ("residual-20-projecton", "unknown modifier 'projecton'; did you mean projection?; modifiers are nobn, "),
        ("residual-20-wide", "unknown modifier 'wide'; modifiers are nobn, projection, allprojection, maxpool, w2, sd"),
        ("residual-20-w-2", "unknown modifier 'w'"),
        ("residual-20-", "unknown modifier ''"),
        ("residual-20-NOBN", "unknown modifier 'NOBN'"),
    ],
)
def test_a_misspelt_modifier_is_told_how_to_write_it(name: str, advice: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(f'{name}: {advice}')}"):
        ModelSpec.parse(name)


@given(families, blocks, st.data())
def test_depths_between_two_possible_ones_are_refused_naming_both(family: str, n: int, data: st.DataObject) -> None:
    step, offset = STEPS[family]
    below, above = step * n + offset, step * (n + 1) + offset
    depth = data.draw(st.integers(below + 1, above - 1))
    with pytest.raises(ValueError, match=rf"{family}-{depth}: .*nearest: {family}-{below} and {family}-{above}$"):
        ModelSpec(family, depth)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("residual-21", "residual-20 and residual-26"),
        ("plain-9", "plain-8 and plain-14"),
        ("cnn-5", "cnn-4 and cnn-7"),
        ("residual-2", "residual-8"),  # 6n+2 with n = 0 has no block
        ("plain-0", "plain-8"),
        ("cnn-1", "cnn-4"),
    ],
)
def test_impossible_depths_name_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(ValueError, match=rf"{name}: depth must be \dn\+\d, n >= 1; nearest: {nearest}$"):
        ModelSpec.parse(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "residual",
        "residual-",
        "-20",
        "20",
        "resnet-20",
        "Residual-20",
        "residual_20",
        "residual--20",
        "residual-nobn-20",
        "residual-20 ",
        " residual-20",
        "residual-2e1",
        "residual-20.0",
        "residual-²⁰",
        "residual-٢٠",
    ],
)
def test_what_is_no_variant_is_refused_with_an_example(name: str) -> None:
    with pytest.raises(
        ValueError,
        match=r"is no variant; write <family>-<depth>.*cnn, plain, residual, preact, bottleneck.*residual-20",
    ):
        ModelSpec.parse(name)


PARTS = st.sampled_from(
    [*FAMILIES, *ORDER, "w2", "w0", "8", "20", "020", "-", "--", " ", "/", "..", "\n", "'", ";", "²"]
)


@given(st.text() | st.lists(PARTS | st.text(max_size=3)).map("-".join) | st.lists(PARTS).map("".join))
def test_whatever_is_parsed_is_its_own_name_and_safe_as_a_path_and_a_word(text: str) -> None:
    try:
        spec = ModelSpec.parse(text)
    except ValueError:
        return
    assert spec.name == text
    assert re.fullmatch("[a-z]+-[0-9]+(-[a-z0-9]+)*", text, re.ASCII)


def test_twins_are_each_others() -> None:
    assert ModelSpec("plain", 20).twin == ModelSpec("residual", 20)
    assert ModelSpec("residual", 20).twin == ModelSpec("plain", 20)
    assert ModelSpec("cnn", 4).twin is None


@given(specs())
def test_a_twin_differs_in_the_family_alone(spec: ModelSpec) -> None:
    fits = spec.family in ("plain", "residual") and spec.modifiers <= FITTING["plain"]
    assert (spec.twin is not None) == fits
    if spec.twin:
        assert {spec.family, spec.twin.family} == {"plain", "residual"}
        assert spec.twin.name.partition("-")[2] == spec.name.partition("-")[2]
        assert spec.twin.twin == spec


def test_only_networks_with_batch_normalisation_are_normalised() -> None:
    assert [ModelSpec.parse(f"{family}-20").normalized for family in FAMILIES if family != "cnn"] == [True] * 4
    assert not ModelSpec.parse("cnn-4").normalized
    assert not ModelSpec.parse("preact-20-nobn").normalized


def test_specs_are_values() -> None:
    spec = ModelSpec("plain", 20)
    assert len({spec, ModelSpec.parse("plain-20")}) == 1
    with pytest.raises(FrozenInstanceError):
        spec.depth = 21  # pyright: ignore[reportAttributeAccessIssue]


def test_a_run_has_one_name_that_tells_it_from_all_others() -> None:
    spec = ModelSpec("residual", 20)
    assert str(RunKey("cifar10", spec, 0)) == "cifar10-base-residual-20-0"
    assert str(RunKey("cifar10", spec, 0, "no-flip")) == "cifar10-no-flip-residual-20-0"


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_seeds_of_32_bits_are_taken(seed: int) -> None:
    assert RunKey("digits", ModelSpec("cnn", 4), seed).seed == seed


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_other_seeds_are_refused(seed: int) -> None:
    with pytest.raises(ValueError, match=rf"seed: got {seed}, must lie in \[0, 2\^32\)"):
        RunKey("digits", ModelSpec("cnn", 4), seed)
