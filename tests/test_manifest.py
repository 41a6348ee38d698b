"""Who made a run: the key changes with all that decides its result, and with nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import resblock
from resblock.files import digest_tree
from resblock.params import Recipe
from resblock.spec import ModelSpec, RunKey
from resblock.training import manifest
from resblock.training.manifest import make_manifest

KEY = RunKey("digits", ModelSpec("plain", 8), 0)
CHOICES: dict[str, Any] = {"data_digest": "d", "threads": 1, "versions": {"keras": "3.15.0"}}


@pytest.fixture
def base(make_recipe: Callable[..., Recipe]) -> dict[str, Any]:
    return make_manifest(KEY, make_recipe(), **CHOICES)


def test_the_key_is_the_digest_of_everything_else(base: dict[str, Any]) -> None:
    rest = {name: value for name, value in base.items() if name != "key"}
    assert base["key"] == digest_tree(rest)
    assert base["stage"] == "train@digits-plain-8-0"


def test_equal_choices_give_equal_keys(base: dict[str, Any], make_recipe: Callable[..., Recipe]) -> None:
    assert make_manifest(KEY, make_recipe(), **CHOICES) == base


@pytest.mark.parametrize(
    "key",
    [
        RunKey("cifar10", KEY.spec, 0),
        RunKey("digits", ModelSpec("residual", 8), 0),
        RunKey("digits", ModelSpec("plain", 14), 0),
        RunKey("digits", KEY.spec, 1),
    ],
    ids=str,
)
def test_another_run_has_another_key(key: RunKey, base: dict[str, Any], make_recipe: Callable[..., Recipe]) -> None:
    assert make_manifest(key, make_recipe(), **CHOICES)["key"] != base["key"]


@pytest.mark.parametrize(
    "choice",
    [{"data_digest": "e"}, {"threads": 2}, {"versions": {"keras": "3.16.0"}}],
    ids=lambda choice: next(iter(choice)),
)
def test_other_circumstances_have_another_key(
    choice: dict[str, Any], base: dict[str, Any], make_recipe: Callable[..., Recipe]
) -> None:
    assert make_manifest(KEY, make_recipe(), **{**CHOICES, **choice})["key"] != base["key"]


def test_every_choice_of_a_recipe_changes_the_key(base: dict[str, Any], make_recipe: Callable[..., Recipe]) -> None:
    others: dict[str, Any] = {
        "optimizer": "sgd",
        "schedule": "step",
        "flips": "joint",
        "precision": "mixed_bfloat16",
        "batch_norm_momentum": 0.5,
    }
    for name, value in make_recipe().model_dump().items():
        if name not in others:
            others[name] = not value if isinstance(value, bool) else value + 1
        assert make_manifest(KEY, make_recipe(**{name: others[name]}), **CHOICES)["key"] != base["key"], name


def test_the_code_that_decides_a_result_is_there() -> None:
    assert all((Path(resblock.__file__).parent / room).exists() for room in manifest.ROOMS)
