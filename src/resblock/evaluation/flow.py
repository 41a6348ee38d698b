"""How gradients reach the early layers, and how alike they are at neighbouring inputs: rows, and one number each.

Vanishing gradients, the paper's word, would show as norms that shrink from the logits to the image. Shattered ones
(Balduzzi et al. 2017, "The Shattered Gradients Problem") keep their norm, but point elsewhere at the next input.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from resblock.core.spec import ModelSpec
from resblock.core.training.run import GRADIENTS, GradientRow
from resblock.evaluation.measure import Measure
from resblock.evaluation.rows import narrowed, read_rows, write_rows

SHATTERING = "shattering.csv"
Gradients = Mapping[ModelSpec, Mapping[int, Sequence[GradientRow]]]  # by network and seed


@dataclass(frozen=True)
class NetworkGradient(GradientRow):
    """A gradient's norm, and the network it was measured in."""

    variant: str = ""
    seed: int = 0


@dataclass(frozen=True)
class Shattering:
    """How alike an untrained network's input gradients are at two points of a line between two images.

    Gradients are those of one logit by the pixels, statistics re-estimated; the mean over points and lines of the
    cosine of the angle between them.
    """

    variant: str
    seed: int
    lag: float  # distance of the two points, as a share of the line
    cosine: float


@dataclass(frozen=True)
class Untrained:
    """What the probe stage found: networks as they are before training."""

    gradients: Gradients
    shattering: Sequence[Shattering]


def slope(rows: Iterable[GradientRow], of: Literal["weights", "activations"]) -> float:
    """Return the least-squares slope of log10 norm over the position, from the image to the logits.

    Above zero where gradients shrink on their way to the image. Norms of zero have no logarithm and are left out; NaN
    where fewer than two positions are left.
    """
    points = [(row.position, math.log10(row.norm)) for row in rows if row.of == of and 0 < row.norm < math.inf]
    if len({position for position, _ in points}) < 2:
        return math.nan
    positions, norms = np.array(points).T
    return float(np.polyfit(positions, norms, 1)[0])


def slopes(gradients: Gradients, of: Literal["weights", "activations"], epoch: int = 0) -> Measure:
    """Return the slope of every network and seed that was measured after `epoch` epochs."""
    found: dict[ModelSpec, dict[int, float]] = {}
    for spec, seeds in gradients.items():
        for seed, rows in seeds.items():
            value = slope((row for row in rows if row.epoch == epoch), of)
            if not math.isnan(value):
                found.setdefault(spec, {})[seed] = value
    return found


def nearest(shattering: Sequence[Shattering]) -> Measure:
    """Return every network's cosine at the smallest lag."""
    found: dict[ModelSpec, dict[int, float]] = {}
    lag = min((row.lag for row in shattering), default=0.0)
    for row in shattering:
        if row.lag == lag:
            found.setdefault(ModelSpec.parse(row.variant), {})[row.seed] = row.cosine
    return found


def last_epoch(gradients: Gradients) -> int:
    """Return the last moment at which anything was measured; 0 where nothing was."""
    return max((row.epoch for seeds in gradients.values() for rows in seeds.values() for row in rows), default=0)


def network_rows(gradients: Gradients) -> list[NetworkGradient]:
    """Return all norms as rows that name their network."""
    return [
        NetworkGradient(**asdict(row), variant=spec.name, seed=seed)
        for spec, seeds in gradients.items()
        for seed, rows in seeds.items()
        for row in rows
    ]


def write_untrained(folder: Path, found: Untrained) -> None:
    """Write one small file per kind of row."""
    write_rows(folder / GRADIENTS, NetworkGradient, network_rows(found.gradients))
    write_rows(folder / SHATTERING, Shattering, found.shattering)


def read_untrained(folder: Path) -> Untrained:
    """Read what `write_untrained` wrote."""
    gradients: dict[ModelSpec, dict[int, list[GradientRow]]] = {}
    for row in read_rows(folder / GRADIENTS, NetworkGradient):
        rows = gradients.setdefault(ModelSpec.parse(row.variant), {}).setdefault(row.seed, [])
        rows.append(narrowed(row, GradientRow))
    return Untrained(gradients, read_rows(folder / SHATTERING, Shattering))
