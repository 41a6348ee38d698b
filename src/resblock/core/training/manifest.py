"""Who made a run: all that decides its result, and the key made from it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from resblock.core.backends import backend
from resblock.core.files import digest_sources, digest_tree
from resblock.core.recipe import Recipe
from resblock.core.spec import RunKey

CORE = Path(__file__).resolve().parent.parent


def make_manifest(key: RunKey, recipe: Recipe, *, data_digest: str, threads: int) -> dict[str, Any]:
    """Return the run's manifest; its ``key`` changes when anything does that decides the result."""
    manifest: dict[str, Any] = {
        "stage": "train",
        "dataset": key.dataset,
        "variant": key.spec.name,
        "family": key.spec.family,
        "depth": key.spec.depth,
        "seed": key.seed,
        "recipe_name": key.recipe,
        "recipe": recipe.tree(),
        "data": data_digest,
        "code": code_digest(),
        "threads": threads,
        "versions": versions(),
    }
    return {**manifest, "key": digest_tree(manifest)}


@cache
def code_digest() -> str:
    """Return the digest of the code, as it lies here, that decides what a training gives."""
    return digest_sources(CORE)


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    return {name: version(name) for name in ("keras", backend().name, "numpy")}


def read_recipe(manifest: Mapping[str, Any]) -> Recipe:
    """Return the recipe that a run was trained by. Raises UserError where this code knows another one."""
    return Recipe.from_tree(manifest["recipe"])
