"""The one grammar of variants and runs."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resblock import paths
from resblock.spec import Family, ModelSpec, RunKey

# DESIGN's depth rules, written out once more so that a slip in the code's table shows.
STEPS: dict[Family, tuple[int, int]] = {"cnn": (3, 1), "plain": (6, 2), "residual": (6, 2)}

families = st.sampled_from(sorted(STEPS))
blocks = st.integers(min_value=1, max_value=500)


@given(families, blocks)
def test_names_and_specs_are_inverse(family: Family, n: int) -> None:
    step, offset = STEPS[family]
    depth = step * n + offset
    spec = ModelSpec(family, depth)
    assert spec.name == str(spec) == f"{family}-{depth}"
    assert ModelSpec.parse(spec.name) == spec
    assert spec.blocks == n


@given(families, blocks, st.data())
def test_depths_between_two_possible_ones_are_refused_naming_both(family: Family, n: int, data: st.DataObject) -> None:
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
        "residual-20-nobn",
        "residual-20 ",
        " residual-20",
        "residual-2e1",
        "residual-20.0",
        "residual-²⁰",
        "residual-٢٠",
    ],
)
def test_what_is_no_variant_is_refused_with_an_example(name: str) -> None:
    with pytest.raises(ValueError, match=r"is no variant; write <family>-<depth>.*cnn, plain, residual.*residual-20"):
        ModelSpec.parse(name)


def test_twins_are_each_others() -> None:
    assert ModelSpec("plain", 20).twin == ModelSpec("residual", 20)
    assert ModelSpec("residual", 20).twin == ModelSpec("plain", 20)
    assert ModelSpec("cnn", 4).twin is None


def test_specs_are_values() -> None:
    spec = ModelSpec("plain", 20)
    assert len({spec, ModelSpec.parse("plain-20")}) == 1
    with pytest.raises(FrozenInstanceError):
        spec.depth = 21  # pyright: ignore[reportAttributeAccessIssue]


def test_a_run_has_one_name_for_its_stage_and_its_files() -> None:
    key = RunKey("cifar10", ModelSpec("residual", 20), 0)
    assert key.stage == "train@cifar10-residual-20-0"
    assert paths.run(key).as_posix() == "runs/cifar10/residual-20/seed-0"
    assert paths.cost(key).as_posix() == "costs/cifar10/residual-20/seed-0.json"


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_seeds_of_32_bits_are_taken(seed: int) -> None:
    assert RunKey("digits", ModelSpec("cnn", 4), seed).seed == seed


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_other_seeds_are_refused(seed: int) -> None:
    with pytest.raises(ValueError, match=rf"seed: got {seed}, must lie in \[0, 2\^32\)"):
        RunKey("digits", ModelSpec("cnn", 4), seed)
