"""Who made a run: all that decides its result, and the key made from it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

from resblock.core.backends import backend, variables_that_change_bits
from resblock.core.backends.machine import processor_kind
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
        "backend": backend().name,
        "device": device(recipe.precision),
        "threads": threads,
        "environment": variables_that_change_bits(),
        "versions": versions(),
    }
    return {**manifest, "key": digest_tree(manifest)}


@cache
def code_digest() -> str:
    """Return the digest of the code, as it lies here, that decides what a training gives."""
    return digest_sources(CORE)


def device(precision: str) -> dict[str, str]:
    """Return the kind of what computes, and its arithmetic in float32: what decides a result's last bits.

    A processor's kind is its architecture and its widest vectors; so far all of one kind have given equal bytes. Under
    bfloat16 it matters as well which units have it.
    """
    card = backend().accelerator()
    return {
        "kind": card or processor_kind(bfloat16=precision == "mixed_bfloat16"),
        "float32": backend().float32_arithmetic(),
    }


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    compiled: tuple[str, ...] = (
        ("jaxlib",) if backend().name == "jax" else ()
    )  # where TensorFlow is one package, JAX is two
    if backend().accelerator():  # whose libraries choose the algorithms
        names = {str(each.metadata["Name"]) for each in distributions()}
        compiled += tuple(sorted(name for name in names if name.startswith(("nvidia-", "jax-cuda"))))
    return {name: version(name) for name in ("keras", backend().name, *compiled, "numpy")}


def read_recipe(manifest: Mapping[str, Any]) -> Recipe:
    """Return the recipe that a run was trained by. Raises UserError where this code knows another one."""
    return Recipe.from_tree(manifest["recipe"])
