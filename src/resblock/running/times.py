"""What trainings took, side by side: as published with the results, and as they took in this folder."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from statistics import median

from resblock import paths
from resblock.core.errors import UserError
from resblock.core.files import read_json
from resblock.core.spec import RunKey
from resblock.core.training.run import MANIFEST
from resblock.costs import Taken, own_first, publish, published_first
from resblock.data.table import find_dataset


def lines(dataset: str) -> Iterator[str]:
    """Yield a line for each network and recipe; trainings by other parameters than those here are not meant.

    Raises UserError where no times are here.
    """
    known = paths.timed(dataset)
    if not known:
        find_dataset(dataset)
        raise UserError(f"{dataset}: no times are here; `resblock run {dataset}` trains")
    yield f"{'network':<24} {'recipe':<16} {'published':>24} {'this folder':>24}"
    for (recipe, network), keys in groupby(known, key=lambda key: (key.recipe, key.spec.name)):
        found = [_both(key) for key in keys]
        columns = [_column([pair[place] for pair in found]) for place in (0, 1)]
        yield f"{network:<24} {recipe:<16} {columns[0]:>24} {columns[1]:>24}"
    yield from (f"{whose}: {', '.join(machines)}" for whose, machines in _machines(known).items() if machines)


def publish_all(dataset: str) -> str:
    """Put this folder's times in the place of the published ones, where the training is the one that is here."""
    changed = sum(_publish(key) for key in paths.timed(dataset))
    if not changed:
        return f"{dataset}: no training was made in this folder, so there are no times to publish"
    return (
        f"{dataset}: times of {changed} trainings published; `dvc repro --force --single-item report@{dataset}` "
        "prints them"
    )


def _publish(key: RunKey) -> bool:
    manifest = paths.run(key) / MANIFEST
    return manifest.is_file() and publish(key, read_json(manifest))


def _both(key: RunKey) -> tuple[Taken | None, Taken | None]:
    """Return what is published of the training that is here, and what it took in this folder."""
    file = paths.run(key) / MANIFEST
    if not file.is_file():
        return None, None
    manifest = read_json(file)
    first, own = published_first(key, manifest), own_first(key, manifest)
    return (
        first if first and first.whose == "published" else None,
        own if own and own.whose == "here" else None,
    )


def _column(taken: list[Taken | None]) -> str:
    there = [one.cost for one in taken if one]
    if not there:
        return "–"
    seconds, rate = (median(getattr(cost, name) for cost in there) for name in ("seconds", "images_per_second"))
    return f"{seconds:,.0f} s, {rate:,.0f} images/s"


def _machines(keys: list[RunKey]) -> dict[str, list[str]]:
    """Return the machines of either column, each once."""
    pairs = [_both(key) for key in keys]
    return {
        name: list(dict.fromkeys(taken.cost.machine for pair in pairs if (taken := pair[place])))
        for place, name in enumerate(("published", "this folder"))
    }
