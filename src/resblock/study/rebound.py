"""The paper's puzzle: validation loss that rises again. How often, how far, and what of it has which cause.

Three curves of one training tell causes apart: training loss, validation loss with batch-norm statistics as trained,
and validation loss with statistics re-estimated on training images, the weights untouched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from resblock.core.spec import ModelSpec
from resblock.core.training.run import EpochRow
from resblock.study.measure import Measure

CLOSE = 0.01  # of its final value: where validation accuracy has settled


@dataclass(frozen=True)
class Rebound:
    """The rises of one training's losses from epoch to epoch, and their causes. Depths are nats, summed over epochs.

    The rebound is the sum of the rises of validation loss as trained. Of each rise,

    - what validation loss re-estimated does not share is put down to **lagging statistics**: it is gone without any
      change of a weight;
    - the rest is **optimisation** where training loss rises in the same epoch,
    - and **overfitting** where training loss falls or stays: the network got better on what it trains on and worse on
      what it does not. On few validation images chance looks the same.

    The three add up to the rebound. Shares are NaN where nothing rises, and everything is where the training left no
    two finite epochs.
    """

    variant: str
    seed: int
    epochs: int  # finite ones
    rises_trained: int
    rises_reestimated: int
    rises_training: int
    depth_trained: float
    depth_reestimated: float
    depth_training: float
    largest_trained: float  # the largest single rise
    relative: float  # rises over falls of validation loss as trained: 0 is a steady fall, 1 ends where it began
    lagging_statistics: float  # share of the rebound, as the next two
    optimisation: float
    overfitting: float
    settled: int  # the first epoch from which validation accuracy as trained stays within CLOSE of its final value
    settled_reestimated: int


SHARES = ("lagging_statistics", "optimisation", "overfitting")


def find_rebound(variant: str, seed: int, curve: Sequence[EpochRow]) -> Rebound:
    """Return the rebound of one training; epochs from the first loss that is not finite are left out."""
    rows = _finite(curve)
    training = _column(rows, "loss")
    trained, reestimated = _column(rows, "validation_loss"), _column(rows, "validation_loss_reestimated")
    rises = np.maximum(np.diff(trained), 0)
    shared = np.minimum(rises, np.maximum(np.diff(reestimated), 0))  # what re-estimation leaves of each rise
    training_rises = np.maximum(np.diff(training), 0)
    causes = (rises - shared, np.where(training_rises > 0, shared, 0), np.where(training_rises > 0, 0, shared))
    total, falls = float(rises.sum()), float(np.maximum(-np.diff(trained), 0).sum())
    shares = dict(zip(SHARES, (float(cause.sum()) / total if total else math.nan for cause in causes), strict=True))
    reestimated_rises = np.maximum(np.diff(reestimated), 0)
    return Rebound(
        variant,
        seed,
        epochs=len(rows),
        rises_trained=int((rises > 0).sum()),
        rises_reestimated=int((reestimated_rises > 0).sum()),
        rises_training=int((training_rises > 0).sum()),
        depth_trained=total,
        depth_reestimated=float(reestimated_rises.sum()),
        depth_training=float(training_rises.sum()),
        largest_trained=float(rises.max(initial=0)),
        relative=total / falls if falls else math.nan,
        **shares,
        settled=settled_epoch(_column(rows, "validation_accuracy")),
        settled_reestimated=settled_epoch(_column(rows, "validation_accuracy_reestimated")),
    )


def settled_epoch(accuracies: np.ndarray) -> int:
    """Return the first epoch, from 1, from which accuracies, float (epoch,), stay within CLOSE of the last; 0 for none.

    CLOSE is relative: 1 % of 0.70 is 0.007. The last epoch always is close to itself, so a value near the number of
    epochs says that the training never settled.
    """
    if not len(accuracies):
        return 0
    away = np.flatnonzero(np.abs(accuracies - accuracies[-1]) > CLOSE * accuracies[-1])
    return int(away[-1]) + 2 if len(away) else 1


def find_rebounds(curves: Mapping[ModelSpec, Mapping[int, Sequence[EpochRow]]]) -> list[Rebound]:
    """Return the rebound of every training."""
    return [find_rebound(spec.name, seed, curve) for spec, seeds in curves.items() for seed, curve in seeds.items()]


def rebound_measure(rebounds: Sequence[Rebound], name: str) -> Measure:
    """Return one of the rebound's numbers for each network and seed, where it is not NaN."""
    measure: dict[ModelSpec, dict[int, float]] = {}
    for rebound in rebounds:
        value = float(getattr(rebound, name))
        if rebound.epochs > 1 and not math.isnan(value):
            measure.setdefault(ModelSpec.parse(rebound.variant), {})[rebound.seed] = value
    return measure


def _finite(curve: Sequence[EpochRow]) -> Sequence[EpochRow]:
    for index, row in enumerate(curve):
        if not all(math.isfinite(value) for value in row.metrics.values()):
            return curve[:index]
    return curve


def _column(rows: Sequence[EpochRow], name: str) -> np.ndarray:
    return np.array([getattr(row, name) for row in rows], np.float64)  # (epoch,)
