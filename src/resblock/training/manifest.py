"""Who made a run: all that decides its result, and the key made from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import resblock
from resblock.files import digest_sources, digest_tree
from resblock.spec import RunKey

ROOMS = ("model", "training", "seeds.py", "spec.py")  # the code that decides what a training gives


def make_manifest(
    key: RunKey, recipe: Mapping[str, Any], *, data_digest: str, threads: int, versions: dict[str, str]
) -> dict[str, Any]:
    """Return the run's manifest; its ``key`` changes when anything does that decides the result."""
    package = Path(resblock.__file__).parent
    manifest: dict[str, Any] = {
        "stage": key.stage,
        "dataset": key.dataset,
        "variant": key.spec.name,
        "family": key.spec.family,
        "depth": key.spec.depth,
        "seed": key.seed,
        "recipe_name": key.recipe,
        "recipe": dict(recipe),
        "data": data_digest,
        "code": digest_sources(*(package / room for room in ROOMS)),
        "threads": threads,
        "versions": versions,
    }
    return {**manifest, "key": digest_tree(manifest)}
