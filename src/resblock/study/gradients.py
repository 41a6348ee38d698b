"""How gradients reach the early layers, and how alike they are at neighbouring inputs: one number for each network."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from resblock.core.spec import ModelSpec
from resblock.core.training.run import GradientRow
from resblock.evaluation.flow import Gradients, Shattering
from resblock.study.measure import Measure


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
