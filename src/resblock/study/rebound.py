"""The paper's puzzle: validation loss that rises again. How often, how far, and what of it has which cause.

Three losses at the end of each epoch tell causes apart, all of the same weights: validation loss with batch-norm
statistics as trained, validation loss with statistics re-estimated on training images, and the loss on a fixed sample
of training images, re-estimated too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from resblock.core.spec import ModelSpec
from resblock.core.training.run import EpochRow
from resblock.study.measure import Measure
from resblock.study.summary import unmodified

EARLY = 20  # epochs of the paper's trainings: it sees the rebound within them
LONG = 40  # epochs: in a shorter training, to settle and to end cannot be told apart
REACHED = 0.99  # share of its final value at which accuracy has settled
REBOUND_MARGIN = 0.05  # rises of validation loss as a share of its falls; less is no rebound worth a name
END = 5  # the final value is the mean of one in so many epochs, the last ones


@dataclass(frozen=True)
class Rebound:
    """The rises of one training's losses from epoch to epoch, and their causes. Heights are nats, summed over epochs.

    The rebound is the sum of the rises of validation loss as trained. Of the height of each rise,

    - what validation loss re-estimated does not share is put down to the **moving averages**: without any change of
      a weight it is gone, or at another epoch. Whether they lag or are noisy is not told. Chance that moves one of the
      two losses alone counts here, too;
    - of the rest, what the loss on training images shares is **optimisation**: the weights got worse on both;
    - and what it does not share is **overfitting**, or chance: the weights got worse on validation images alone.
      Chance comes and goes, so the part of it that **lasts** to the end of the training is told too.

    The three causes add up to the rebound. A training that left no two finite epochs has no heights.
    """

    variant: str
    seed: int
    epochs: int  # finite ones
    rises_trained: int
    rises_reestimated: int
    rises_training: int  # of the loss on training images, re-estimated
    height_trained: float
    height_reestimated: float
    height_training: float
    largest_trained: float  # the largest single rise
    falls_trained: float  # nats, as the heights
    moving_averages: float  # nats of height_trained, as the next two
    optimisation: float
    overfitting: float
    lasting: float  # nats of overfitting
    early_height: float  # as height_trained and falls_trained, within the first EARLY epochs
    early_falls: float
    settled: float  # epoch at which validation accuracy as trained has settled; NaN below LONG epochs
    settled_reestimated: float

    @property
    def spec(self) -> ModelSpec:
        """The network."""
        return ModelSpec.parse(self.variant)

    @property
    def weights(self) -> float:
        """What of the rebound the weights did: nats that re-estimated statistics leave."""
        return self.optimisation + self.overfitting

    @property
    def unshared(self) -> float:
        """What of `height_reestimated` the loss as trained does not share: nats of rises that re-estimation brings."""
        return self.height_reestimated - self.weights

    @property
    def relative(self) -> float:
        """Rises over falls of validation loss as trained: 0 is a steady fall, 1 ends where it began; NaN: no fall."""
        return self.height_trained / self.falls_trained if self.falls_trained else math.nan


RELATIVE = ("height_trained", "falls_trained")  # the rebound as a ratio
HEIGHTS = ("height_reestimated", "height_trained")
CAUSES = ("moving_averages", "optimisation", "overfitting")


def find_rebound(variant: str, seed: int, curve: Sequence[EpochRow]) -> Rebound:
    """Return the rebound of one training; epochs from the first loss that is not finite are left out."""
    rows = _finite(curve)
    training = _column(rows, "train_loss_reestimated")
    trained, reestimated = _column(rows, "validation_loss"), _column(rows, "validation_loss_reestimated")
    rises, reestimated_rises, training_rises = _rises(trained), _rises(reestimated), _rises(training)
    falls = _rises(-trained)
    shared = np.minimum(rises, reestimated_rises)  # what re-estimation leaves of each rise
    optimisation = np.minimum(shared, training_rises)
    overfitting = shared - optimisation
    return Rebound(
        variant,
        seed,
        epochs=len(rows),
        rises_trained=int((rises > 0).sum()),
        rises_reestimated=int((reestimated_rises > 0).sum()),
        rises_training=int((training_rises > 0).sum()),
        height_trained=float(rises.sum()),
        height_reestimated=float(reestimated_rises.sum()),
        height_training=float(training_rises.sum()),
        largest_trained=float(rises.max(initial=0)),
        falls_trained=float(falls.sum()),
        moving_averages=float((rises - shared).sum()),
        optimisation=float(optimisation.sum()),
        overfitting=float(overfitting.sum()),
        lasting=float(np.minimum(overfitting, _lasting_rises(reestimated - training)).sum()),
        early_height=float(rises[: EARLY - 1].sum()),
        early_falls=float(falls[: EARLY - 1].sum()),
        settled=settled_epoch(_column(rows, "validation_accuracy")),
        settled_reestimated=settled_epoch(_column(rows, "validation_accuracy_reestimated")),
    )


def settled_epoch(accuracies: np.ndarray) -> float:
    """Return the epoch, from 1, at which accuracies, float (epoch,), have settled; NaN below LONG epochs.

    That is the first epoch at which the curve, smoothed, reaches REACHED of its final value, the mean of its last fifth
    (END). It is smoothed into the rising curve that is nearest by least squares (isotonic regression; Barlow et al.
    1972), which keeps the place of an ascent, whatever the noise around a plateau and however long that is.
    """
    if len(accuracies) < LONG:
        return math.nan
    smooth = scipy.optimize.isotonic_regression(accuracies).x
    final = accuracies[-(len(accuracies) // END) :].mean()  # never above the last value of a rising curve
    return float(np.argmax(smooth >= REACHED * final)) + 1


def find_rebounds(curves: Mapping[ModelSpec, Mapping[int, Sequence[EpochRow]]]) -> list[Rebound]:
    """Return the rebound of every training."""
    return [find_rebound(spec.name, seed, curve) for spec, seeds in curves.items() for seed, curve in seeds.items()]


def rebound_measure(rebounds: Sequence[Rebound], name: str) -> Measure:
    """Return one of the rebound's numbers for each network and seed, where it is not NaN."""
    measure: dict[ModelSpec, dict[int, float]] = {}
    for rebound in rebounds:
        value = float(getattr(rebound, name))
        if rebound.epochs > 1 and not math.isnan(value):
            measure.setdefault(rebound.spec, {})[rebound.seed] = value
    return measure


def comparable(rebounds: Sequence[Rebound], *, normalized: bool = False) -> list[Rebound]:
    """Return those of unmodified networks, of the seeds that all of these trained for as long as any.

    A training that diverged is shorter; its seed has no part in the others' either. `normalized` keeps networks with
    batch normalisation alone: others have no averages.
    """
    longest = max((each.epochs for each in rebounds), default=0)
    found = [each for each in rebounds if each.epochs == longest > 1 and unmodified(each.spec)]
    found = [each for each in found if each.spec.normalized or not normalized]
    seeds = [{each.seed for each in found if each.variant == name} for name in {each.variant for each in found}]
    return [each for each in found if all(each.seed in others for others in seeds)]


def pooled(rebounds: Sequence[Rebound], part: str, whole: str | None) -> dict[int, float]:
    """Return for each seed its say in the ratio of `part` to `whole`, each summed over networks and seeds.

    No `whole` takes the number of trainings, which gives a mean. The mean over seeds is the ratio exactly; the spread
    is that of its linearisation (Cochran 1977, section 2.11), so that a small rebound does not count as much as a
    large one. Empty where `whole` is nothing.
    """
    sums: dict[int, tuple[float, float]] = {}
    for each in rebounds:
        above, below = sums.get(each.seed, (0.0, 0.0))
        sums[each.seed] = above + float(getattr(each, part)), below + (float(getattr(each, whole)) if whole else 1.0)
    total = sum(below for _, below in sums.values())
    if not total:
        return {}
    ratio = sum(above for above, _ in sums.values()) / total
    return {seed: ratio + (above - ratio * below) * len(sums) / total for seed, (above, below) in sums.items()}


def ratio(rebounds: Sequence[Rebound], part: str, whole: str) -> float:
    """Return `part` / `whole`, each summed over networks and seeds; 0 where `whole` is nothing."""
    return float(np.mean(list(pooled(rebounds, part, whole).values()) or [0.0]))


def lessened(base: Sequence[Rebound], other: Sequence[Rebound], part: str, whole: str | None) -> dict[int, float]:
    """Return for each seed by how much `part` / `whole`, pooled, is less in `other` than in `base`.

    Only unmodified networks and seeds that both have count.
    """
    both = {(each.variant, each.seed) for each in base} & {(each.variant, each.seed) for each in other}
    ours, theirs = (
        comparable([each for each in rebounds if (each.variant, each.seed) in both]) for rebounds in (base, other)
    )
    first, second = pooled(ours, part, whole), pooled(theirs, part, whole)
    return {seed: first[seed] - second[seed] for seed in first if seed in second}


def rebounding(rebounds: Sequence[Rebound]) -> bool:
    """Return whether rises are enough of the falls for causes to be told; where nothing rebounds, nothing causes it."""
    return ratio(rebounds, *RELATIVE) > REBOUND_MARGIN


@dataclass(frozen=True)
class AveragesShare:
    """What of rises is put down to moving averages, and what tells how much of that may be chance."""

    share: float  # of the height of rises as trained, what re-estimated loss does not share, epoch by epoch
    reverse: float  # the other way round: of the height of rises re-estimated, what loss as trained does not share
    heights: float  # of rises re-estimated, as a share of that as trained

    @property
    def beside(self) -> str:
        """What stands beside the share and tells how much of it may be chance, in words."""
        reverse, heights = (f"{100 * value:.0f} %" for value in (self.reverse, self.heights))
        return (
            f"the other way round {reverse} of the height of the rises re-estimated is missing from the loss as "
            f"trained, and all of them are {heights} as high"
        )


def averages_share(rebounds: Sequence[Rebound]) -> AveragesShare | None:
    """Return it of all trainings together; None where no loss as trained rises.

    Two losses that differ by chance alone, each as much as the other, share as little one way as the other, and their
    rises are equally high.
    """
    if not any(each.height_trained for each in rebounds):
        return None
    ratios = (("moving_averages", "height_trained"), ("unshared", "height_reestimated"), HEIGHTS)
    return AveragesShare(*(ratio(rebounds, part, whole) for part, whole in ratios))


def _rises(values: np.ndarray) -> np.ndarray:
    """Return how far values, (epoch,), rise to each next one, (epoch - 1,); nothing where they fall."""
    return np.maximum(np.diff(values), 0)


def _lasting_rises(values: np.ndarray) -> np.ndarray:
    """Return of each rise to the next epoch, (epoch - 1,), what no later epoch takes back."""
    floor = np.minimum.accumulate(values[::-1])[::-1]  # the least value from here to the end
    return np.maximum(floor[1:] - values[:-1], 0)


def _finite(curve: Sequence[EpochRow]) -> Sequence[EpochRow]:
    for index, row in enumerate(curve):
        if not all(math.isfinite(value) for value in row.metrics.values()):
            return curve[:index]
    return curve


def _column(rows: Sequence[EpochRow], name: str) -> np.ndarray:
    return np.array([getattr(row, name) for row in rows], np.float64)  # (epoch,)
