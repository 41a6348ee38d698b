"""What accuracy costs: seconds until a training is as good as wanted, and which networks no other one beats."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from resblock.core.spec import ModelSpec
from resblock.core.training.run import Cost, EpochRow

NEARLY = 0.95  # of the best network's final validation accuracy: what every training is timed to

Curves = Mapping[ModelSpec, Mapping[int, Sequence[EpochRow]]]  # network to seed to epochs
Costs = Mapping[ModelSpec, Mapping[int, Cost]]


@dataclass(frozen=True)
class Point:
    """One network in the plane of a cost and an accuracy."""

    name: str
    cost: float
    accuracy: float


def target_accuracy(curves: Curves) -> float:
    """Return NEARLY times the best network's mean final validation accuracy, statistics re-estimated; NaN if none."""
    finals = [
        float(np.mean([curve[-1].validation_accuracy_reestimated for curve in seeds.values() if curve]))
        for seeds in curves.values()
        if any(seeds.values())
    ]
    return NEARLY * max((final for final in finals if not math.isnan(final)), default=math.nan)


def quiet_seconds(costs: Iterable[Cost]) -> float:
    """Return the wall clock of a training's epochs while the machine does nothing else, validation included.

    Other work, and a pause, only ever make epochs longer: so the fastest epoch of all seeds counts for each.
    """
    return min(min(cost.epoch_seconds) * len(cost.epoch_seconds) for cost in costs)


def seconds_to(target: float, curve: Sequence[EpochRow], cost: Cost) -> float:
    """Return the wall clock, validation included, of the epochs up to the first whose validation accuracy is `target`.

    Statistics re-estimated; every epoch counts as the fastest one, since pauses are no cost. NaN where no epoch gets
    there.
    """
    for count, (row, _) in enumerate(zip(curve, cost.epoch_seconds, strict=False), start=1):
        if row.validation_accuracy_reestimated >= target:
            return count * min(cost.epoch_seconds)
    return math.nan


def pareto_front(points: Sequence[Point], *, cheap_is_low: bool = True) -> list[Point]:
    """Return the points that no other beats in accuracy without costing more, the cheapest first."""
    sign = 1 if cheap_is_low else -1
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (sign * point.cost, -point.accuracy, point.name)):
        if not front or point.accuracy > front[-1].accuracy:
            front.append(point)
    return front
