"""A recipe is recorded whole, read strictly, and may grow without making a single result stale."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, FrozenInstanceError, dataclass, field, fields, replace
from typing import Any, get_args, get_type_hints

import pytest

from resblock.core.errors import UserError
from resblock.core.files import digest_tree
from resblock.core.recipe import Recipe
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.training.manifest import make_manifest, read_recipe

REQUIRED = [each.name for each in fields(Recipe) if each.default is MISSING]


@dataclass(frozen=True)
class Later(Recipe):
    """A recipe of later code, which knows more than those who wrote the results."""

    label_smoothing: float = field(default=0.0, metadata={"ge": 0, "lt": 1})
    stages: tuple[int, ...] = ()


@pytest.fixture
def recipe(make_recipe: Callable[..., Recipe]) -> Recipe:
    return make_recipe(gradient_epochs=[0, 2])


@pytest.fixture
def old(recipe: Recipe) -> dict[str, Any]:
    """What a manifest of before the later keys holds: each field, and lists as JSON has them."""
    return {**{name: getattr(recipe, name) for name in REQUIRED}, "gradient_epochs": [0, 2]}


def key(recipe: Recipe) -> str:
    """Return the key of a training by `recipe`."""
    run = RunKey("digits", ModelSpec.parse("plain-8"), 0)
    return str(make_manifest(run, recipe, data_digest="d", threads=1)["key"])


def later(old: dict[str, Any], **choices: Any) -> Later:
    """Return a recipe of later code with the choices of an old one."""
    return Later(**{**old, "gradient_epochs": (0, 2)}, **choices)


def other(name: str, value: Any) -> Any:
    """Return something else that the field `name` may be."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return value / 2 or 0.25
        case str():
            return next(choice for choice in get_args(get_type_hints(Recipe)[name]) if choice != value)
        case _:
            return value[:-1]


def test_a_recipe_comes_back_from_json(recipe: Recipe, old: dict[str, Any]) -> None:
    tree = json.loads(json.dumps(recipe.tree()))
    assert tree == recipe.tree() == old
    assert list(tree) == list(old)  # the order of the fields
    assert Recipe.from_tree(tree) == recipe


def test_no_choice_of_a_recipe_is_lost(recipe: Recipe) -> None:
    for each in fields(Recipe):
        changed = replace(recipe, **{each.name: other(each.name, getattr(recipe, each.name))})
        assert changed.tree() != recipe.tree(), each.name
        assert Recipe.from_tree(json.loads(json.dumps(changed.tree()))) == changed != recipe, each.name


def test_a_later_key_at_its_default_leaves_tree_and_key_as_they_were(recipe: Recipe, old: dict[str, Any]) -> None:
    assert later(old).tree() == recipe.tree() == old
    assert digest_tree(later(old).tree()) == digest_tree(recipe.tree())
    assert key(later(old)) == key(recipe)


def test_a_later_key_at_another_value_is_recorded_and_changes_the_key(recipe: Recipe, old: dict[str, Any]) -> None:
    smoothed = later(old, label_smoothing=0.1, stages=(1, 2))
    assert smoothed.tree() == {**old, "label_smoothing": 0.1, "stages": [1, 2]}
    assert Later.from_tree(json.loads(json.dumps(smoothed.tree()))) == smoothed
    assert len({key(smoothed), key(replace(smoothed, stages=())), key(recipe)}) == 3


def test_what_was_recorded_before_a_key_came_is_readable(recipe: Recipe, old: dict[str, Any]) -> None:
    found = Later.from_tree(old)
    assert type(found) is Later
    assert found == later(old)
    assert found.label_smoothing == 0.0
    assert read_recipe({"stage": "train", "recipe": old}) == recipe


@pytest.mark.parametrize("kind", [Recipe, Later])
@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_key_is_named(name: str, kind: type[Recipe], old: dict[str, Any]) -> None:
    del old[name]
    with pytest.raises(UserError, match=rf"says nothing of {name};"):
        kind.from_tree(old)


@pytest.mark.parametrize(
    ("kind", "more"), [(Recipe, {"label_smoothing": 0.1}), (Later, {"label_smooting": 0.1}), (Recipe, {"": 1})]
)
def test_an_unknown_key_is_named(kind: type[Recipe], more: Mapping[str, Any], old: dict[str, Any]) -> None:
    """Also one that later code knows: this code would train as if it were not there."""
    with pytest.raises(UserError, match=f"unknown key {next(iter(more))};"):
        kind.from_tree({**old, **more})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("optimizer", "rmsprop", "must be one of adam, sgd"),
        ("batch_size", 0, "must be a whole number at least 1"),
        ("batch_size", "64", "must be a whole number at least 1"),
        ("batch_size", True, "must be a whole number at least 1"),
        ("epochs", 1.5, "must be a whole number at least 1"),
        ("learning_rate", math.nan, "must be a number above 0"),
        ("learning_rate", math.inf, "must be a number above 0"),
        ("momentum", 1, "must be a number at least 0 and below 1"),
        ("nesterov", 1, "must be true or false"),
        ("gradient_epochs", ["first"], "must be whole numbers of epochs from 0, or last"),
        ("gradient_epochs", [-1], "must be whole numbers of epochs from 0, or last"),
    ],
)
def test_a_value_that_cannot_be_is_named_wherever_the_recipe_comes_from(
    name: str, value: Any, words: str, recipe: Recipe, old: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=f"^{name}: got .*, {words}$"):
        replace(recipe, **{name: tuple(value) if isinstance(value, list) else value})
    with pytest.raises(UserError, match=f"^{name}: got .*, {words}$"):
        Recipe.from_tree({**old, name: value})


def test_the_last_epoch_is_a_moment_however_many_there_are(recipe: Recipe) -> None:
    assert replace(recipe, gradient_epochs=(0, "last")).moments == {0, 2}
    assert replace(recipe, gradient_epochs=(1, 2, "last")).moments == {1, 2}
    assert replace(recipe, epochs=7, gradient_epochs=("last",)).moments == {7}
    assert replace(recipe, gradient_epochs=()).moments == frozenset()


def test_a_moment_after_the_end_is_refused(recipe: Recipe) -> None:
    with pytest.raises(ValueError, match="ends after epoch 2, so nothing is measured after 3; last fits any"):
        replace(recipe, gradient_epochs=(0, 3, 4))


def test_recipes_are_values(recipe: Recipe, old: dict[str, Any]) -> None:
    assert len({recipe, Recipe.from_tree(old)}) == 1
    with pytest.raises(FrozenInstanceError):
        recipe.epochs = 21  # pyright: ignore[reportAttributeAccessIssue]
