"""What claims share: which recipes may be compared, which difference matters, how networks are named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resblock.core.spec import ModelSpec

HALF_A_POINT = 0.005  # of accuracy: two to three standard deviations of one good training's luck with its seed
IRRELEVANT = (
    "threads",
    "reestimate_images",
    "gradient_epochs",
    "gradient_images",
)  # of a recipe: they change no result but its last bits


def differing_keys(first: Mapping[str, Any], second: Mapping[str, Any]) -> set[str]:
    """Return the keys in which two recipes differ, but for those that change no result beyond its last bits."""
    return {key for key in {*first, *second} if first.get(key) != second.get(key)} - set(IRRELEVANT)


def depths_of(specs: Mapping[ModelSpec, Any]) -> str:
    """Return the depths of networks in words, for instance ``depths 8, 20``."""
    depths = sorted({spec.depth for spec in specs})
    return f"depth{'s' if len(depths) > 1 else ''} {', '.join(map(str, depths))}"
