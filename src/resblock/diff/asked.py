"""What params.yaml asks for at a revision, read without its rules: those of another version may have been others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from resblock import paths
from resblock.core.recipe import BASE, Recipe
from resblock.core.spec import RunKey
from resblock.defaults import completed

NOT_ASKED_FOR = f"{paths.PARAMS} does not ask for it"


def read_parameters() -> dict[str, Any]:
    """Return what params.yaml holds in the current folder; nothing where it is missing or no YAML."""
    try:
        tree = YAML(typ="safe").load(paths.PARAMS.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError):
        return {}
    return completed(tree) if isinstance(tree, Mapping) else {}


def objection(params: Mapping[str, Any], key: RunKey, manifest: Mapping[str, Any]) -> str | None:
    """Say why the training of `key` is not one that `params` ask for; None where it is, or where they do not say."""
    variants, seeds = _axes(params, key)
    if (variants is not None and key.spec.name not in variants) or (seeds is not None and key.seed not in seeds):
        return NOT_ASKED_FOR
    if changed := _changes(_recipe(params, key), manifest["recipe"]):
        return f"trained by another recipe than {paths.PARAMS} asks for ({changed})"
    return None


def _axes(params: Mapping[str, Any], key: RunKey) -> tuple[list[Any] | None, list[Any] | None]:
    """Return the variants and seeds that are asked for by the recipe of `key`; None where nothing says which."""
    study, ablation = _section(params, "study"), _section(params, "ablation")
    if key.recipe == BASE:
        return _list(study, "variants"), _list(study, "seeds")
    here = ablation.get("dataset") == key.dataset and key.recipe in (_list(ablation, "recipes") or ())
    seeds = _list(ablation, "seeds")  # earlier versions had the study's
    return _list(ablation, "variants") if here or not ablation else [], seeds or _list(study, "seeds")


def _recipe(params: Mapping[str, Any], key: RunKey) -> dict[str, Any]:
    own = _section(_section(params, "train"), key.dataset)
    return {**own, **_section(_section(params, "recipes"), key.recipe)} if own else {}


def _changes(asked: Mapping[str, Any], trained: Mapping[str, Any]) -> str:
    """Say in what the recipe of a training is not the one asked for; what only one of them names is no change."""
    known = Recipe.defaults()
    pairs = {name: ({**known, **trained}.get(name), {**known, **asked}.get(name)) for name in (*known, *asked)}
    return ", ".join(
        f"{name} {theirs} instead of {ours}"
        for name, (theirs, ours) in pairs.items()
        if asked and None not in (theirs, ours) and theirs != ours
    )


def _list(section: Mapping[str, Any], name: str) -> list[Any] | None:
    found = section.get(name)
    return found if isinstance(found, list) else None


def _section(tree: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = tree.get(name)
    return found if isinstance(found, Mapping) else {}
