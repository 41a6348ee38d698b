"""What trainings took: the times published with the results, and those of repeats, which git does not see.

A training's result is equal in every repeat and its times are not. So its first times lie beside the results, for
git; a repeat leaves them as they are and keeps its own in a folder that git ignores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from resblock import paths
from resblock.core.files import read_json, write_json
from resblock.core.spec import RunKey
from resblock.core.training.run import Cost

Whose = Literal["published", "here"]
TRAINING = "training"  # the key of the training that took this, in the file; earlier versions did not say it
PLACES: Mapping[Whose, Callable[[RunKey], Path]] = {"published": paths.cost, "here": paths.own_cost}


@dataclass(frozen=True)
class Taken:
    """What a training took, and where that is written."""

    cost: Cost
    whose: Whose
    file: Path


def record(key: RunKey, training: str, cost: Cost) -> None:
    """Keep what the training with the key `training` took here; publish it where nothing is published yet."""
    _write(paths.own_cost(key), training, cost)
    if not paths.cost(key).exists():
        _write(paths.cost(key), training, cost)


def publish(key: RunKey, manifest: Mapping[str, Any]) -> bool:
    """Put this folder's own times of the training of `manifest` in the place of the published ones, if there are."""
    own = _read(key, "here", known_as(manifest))
    if own is None:
        return False
    _write(paths.cost(key), str(manifest["key"]), own.cost)
    return True


def published_first(key: RunKey, manifest: Mapping[str, Any]) -> Taken | None:
    """Return what the training of `manifest` took, as published if it is: what is drawn from that equals any repeat."""
    return _read(key, "published", known_as(manifest)) or _read(key, "here", known_as(manifest))


def own_first(key: RunKey, manifest: Mapping[str, Any] | None = None) -> Taken | None:
    """Return what it took here, or what is published; of the training of `manifest`, or of any by this name."""
    known = known_as(manifest) if manifest else None
    return _read(key, "here", known) or _read(key, "published", known)


def known_as(manifest: Mapping[str, Any]) -> list[str]:
    """Return the keys by which a training is known: its own, and those it had by code that gave the same."""
    return [manifest["key"], *(seen["key"] for seen in manifest.get("verified", ()))]


def _read(key: RunKey, whose: Whose, known: list[str] | None) -> Taken | None:
    """Return what is written there, unless it is not there or is of a training that is not among those `known`."""
    file = PLACES[whose](key)
    if not file.is_file():
        return None
    tree = read_json(file)
    training = tree.pop(TRAINING, None)
    if known is not None and training is not None and training not in known:
        return None
    tree["epoch_seconds"] = tuple(tree["epoch_seconds"])
    return Taken(Cost(**tree), whose, file)


def _write(file: Path, training: str, cost: Cost) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, {TRAINING: training, **asdict(cost)})
