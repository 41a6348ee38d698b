"""A recipe is recorded whole, read strictly, and may grow without making a single result stale."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import FrozenInstanceError, asdict, dataclass, field, replace
from typing import Any

import pytest

from resblock.core.errors import UserError
from resblock.core.files import digest_tree
from resblock.core.recipe import Recipe
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.training.manifest import make_manifest, read_recipe

CHOICES: dict[str, Any] = {
    "epochs": 20,
    "batch_size": 64,
    "optimizer": "sgd",
    "learning_rate": 0.1,
    "schedule": "cosine",
    "weight_decay": 0.0001,
    "rescale": True,
    "horizontal_flip": False,
    "vertical_flip": False,
    "flips": "independent",
    "crop_padding": 0,
    "batch_norm_momentum": 0.9,
    "batch_norm_epsilon": 1e-5,
    "reestimate_images": 500,
    "gradient_epochs": (0, 20),
    "gradient_images": 128,
    "precision": "float32",
    "threads": 1,
}
RECIPE = Recipe(**CHOICES)
OLD = {**CHOICES, "gradient_epochs": [0, 20]}  # what a manifest of before the later keys holds


@dataclass(frozen=True)
class Later(Recipe):
    """A recipe of later code, which knows more than those who wrote the results."""

    label_smoothing: float = field(default=0.0, metadata={"ge": 0, "lt": 1})
    stages: tuple[int, ...] = ()


def key(recipe: Recipe) -> str:
    """Return the key of a training by `recipe`."""
    run = RunKey("digits", ModelSpec.parse("plain-8"), 0)
    return str(make_manifest(run, recipe, data_digest="d", threads=1)["key"])


def test_a_recipe_comes_back_from_json() -> None:
    tree = json.loads(json.dumps(RECIPE.tree()))
    assert tree == RECIPE.tree() == OLD
    assert list(tree) == list(OLD)  # the order of the fields
    assert Recipe.from_tree(tree) == RECIPE


def test_no_choice_of_a_recipe_is_lost(make_recipe: Callable[..., Recipe]) -> None:
    recipe = make_recipe()
    assert Recipe.from_tree(recipe.tree()) == recipe
    for name in asdict(recipe):
        changed = replace(recipe, **{name: None})  # a value that none has
        assert changed.tree() != recipe.tree()
        assert getattr(Recipe.from_tree(changed.tree()), name) is None


def test_a_later_key_at_its_default_leaves_tree_and_key_as_they_were() -> None:
    later = Later(**CHOICES)
    assert later.tree() == RECIPE.tree() == OLD
    assert digest_tree(later.tree()) == digest_tree(RECIPE.tree())
    assert key(later) == key(RECIPE)


def test_a_later_key_at_another_value_is_recorded_and_changes_the_key() -> None:
    later = Later(**CHOICES, label_smoothing=0.1, stages=(1, 2))
    assert later.tree() == {**OLD, "label_smoothing": 0.1, "stages": [1, 2]}
    assert Later.from_tree(json.loads(json.dumps(later.tree()))) == later
    assert len({key(later), key(replace(later, stages=())), key(RECIPE)}) == 3


def test_what_was_recorded_before_a_key_came_is_readable() -> None:
    found = Later.from_tree(OLD)
    assert type(found) is Later
    assert found == Later(**CHOICES)
    assert found.label_smoothing == 0.0
    assert read_recipe({"stage": "train", "recipe": OLD}) == RECIPE


@pytest.mark.parametrize("kind", [Recipe, Later])
@pytest.mark.parametrize("name", CHOICES)
def test_a_missing_key_is_named(name: str, kind: type[Recipe]) -> None:
    tree = {key: value for key, value in OLD.items() if key != name}
    with pytest.raises(UserError, match=rf"says nothing of {name};"):
        kind.from_tree(tree)


@pytest.mark.parametrize(
    ("kind", "more"), [(Recipe, {"label_smoothing": 0.1}), (Later, {"label_smooting": 0.1}), (Recipe, {"": 1})]
)
def test_an_unknown_key_is_named(kind: type[Recipe], more: Mapping[str, Any]) -> None:
    """Also one that later code knows: this code would train as if it were not there."""
    with pytest.raises(UserError, match=f"unknown key {next(iter(more))};"):
        kind.from_tree({**OLD, **more})


def test_recipes_are_values() -> None:
    assert len({RECIPE, Recipe.from_tree(OLD)}) == 1
    with pytest.raises(FrozenInstanceError):
        RECIPE.epochs = 21  # pyright: ignore[reportAttributeAccessIssue]
