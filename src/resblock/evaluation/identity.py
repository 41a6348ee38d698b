"""Whether a training that lies here is the one that is asked for: a foreign one is named, and never scored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from resblock.core.errors import UserError
from resblock.core.files import digest_tree, read_json
from resblock.core.recipe import Recipe
from resblock.core.spec import RunKey
from resblock.core.training.manifest import code_digest, read_recipe
from resblock.core.training.run import MANIFEST

DIGITS = 8  # of a digest that is shown
DAMAGED = "its run.json is damaged, or another version's"


@dataclass(frozen=True)
class Wanted:
    """A training as params.yaml asks for it, on the images that are here."""

    key: RunKey
    recipe: Recipe
    data: str | None  # digest of the splits; None where they are not here, and nothing is known of them


def read_training(folder: Path, wanted: Wanted) -> tuple[dict[str, Any], str]:
    """Return the manifest of the training in `folder`, and in what it is not the one that is `wanted`."""
    try:
        manifest = read_json(folder / MANIFEST)
    except ValueError:
        return {}, DAMAGED
    return manifest, foreign(manifest, wanted)


def foreign(manifest: Mapping[str, Any], wanted: Wanted) -> str:
    """Say in what the training that left `manifest` is not the one that is `wanted`; nothing where it is.

    Backend, device, versions and threads may differ: trainings that are compared across them are told of as a mixture.
    """
    try:
        return "; ".join(_differences(manifest, wanted))
    except (KeyError, TypeError, AttributeError):
        return DAMAGED


OUTSIDE_THE_KEY = ("key", "status", "verified")  # entries of a manifest that follow from others, or came later


def keys_of(manifest: Mapping[str, Any]) -> list[str]:
    """Return the keys by which a training is known: its own, and those it had by code that gave the same."""
    return [manifest["key"], *(seen["key"] for seen in manifest.get("verified", ()))]


def intact(manifest: Mapping[str, Any]) -> bool:
    """Return whether the key of `manifest` is that of its content: nobody edited one and not the other."""
    content = {name: value for name, value in manifest.items() if name not in OUTSIDE_THE_KEY}
    return manifest.get("key") == digest_tree(content)


def _differences(manifest: Mapping[str, Any], wanted: Wanted) -> Iterator[str]:
    key = wanted.key
    if not intact(manifest):
        yield "its run.json was edited: its key is not that of its content"
    there = tuple(manifest[name] for name in ("dataset", "recipe_name", "variant", "seed"))
    if there != (key.dataset, key.recipe, key.spec.name, key.seed):
        yield f"it is the training {'-'.join(map(str, there))}"
    if wanted.data not in (None, manifest["data"]):
        yield f"trained on other images (data {_short(manifest['data'])}; here are {_short(wanted.data)})"
    if changed := _changes(manifest, wanted.recipe):
        yield f"trained by another recipe ({changed})"
    if manifest["code"] != code_digest():
        yield f"trained by other code (core {_short(manifest['code'])}; here is {_short(code_digest())})"


def _changes(manifest: Mapping[str, Any], wanted: Recipe) -> str:
    try:
        recipe = read_recipe(manifest)
    except UserError as error:
        return str(error)
    pairs = [(each.name, getattr(recipe, each.name), getattr(wanted, each.name)) for each in fields(Recipe)]
    return ", ".join(f"{name} {theirs} instead of {ours}" for name, theirs, ours in pairs if theirs != ours)


def _short(digest: Any) -> str:
    return str(digest)[:DIGITS]
