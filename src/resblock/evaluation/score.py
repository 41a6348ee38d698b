"""What one training is worth: its losses and accuracies, and how they are stored."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal, cast, get_args

import numpy as np
import pandas as pd

from resblock.core.spec import ModelSpec
from resblock.evaluation.rows import read_rows, write_rows

SCORES = "scores.csv"  # of many trainings, in one table

# What has no figures: a training that diverged, one that is not here or was not looked at, and one that is not what was
# asked for.
Status = Literal["finished", "diverged", "missing", "foreign"]
Statistics = Literal["trained", "reestimated"]  # of batch normalisation
STATISTICS: tuple[Statistics, ...] = get_args(Statistics)
HEADLINE: Statistics = "reestimated"  # what every page, table and choice puts first; the other stands beside, labelled


@dataclass(frozen=True)
class Score:
    """One training's figures at its last epoch, NaN unless it finished.

    Losses are mean cross-entropies in nats, accuracies fractions in [0, 1], both without augmentation. `*_reestimated`
    are taken with batch-norm statistics re-estimated on training images, the weights untouched.
    """

    variant: str
    family: str
    depth: int
    seed: int
    status: Status
    train_loss: float = math.nan
    train_accuracy: float = math.nan
    train_loss_reestimated: float = math.nan
    train_accuracy_reestimated: float = math.nan
    validation_loss: float = math.nan
    validation_accuracy: float = math.nan
    validation_loss_reestimated: float = math.nan
    validation_accuracy_reestimated: float = math.nan
    test_loss: float = math.nan
    test_accuracy: float = math.nan
    test_loss_reestimated: float = math.nan
    test_accuracy_reestimated: float = math.nan

    @property
    def spec(self) -> ModelSpec:
        """The network, parsed from its name."""
        return ModelSpec.parse(self.variant)

    @property
    def metrics(self) -> dict[str, float]:
        """All losses and accuracies by name; empty unless the training finished."""
        tree = asdict(self)
        return {name: tree[name] for name in METRICS} if self.status == "finished" else {}


def with_statistics(name: str, statistics: Statistics) -> str:
    """Return the name under which a figure of a split, or its logits, stand: ``test`` or ``test_reestimated``."""
    return name if statistics == "trained" else f"{name}_reestimated"


def headline(name: str) -> str:
    """Return the name under which a figure stands with the headline's kind of statistics."""
    return with_statistics(name, HEADLINE)


METRICS = tuple(field.name for field in fields(Score) if field.name.endswith(("loss", "accuracy", "reestimated")))


def empty_score(spec: ModelSpec, seed: int, status: Status) -> Score:
    """Return the score of a training that has no figures: it stays a row, never a 0."""
    return Score(spec.name, spec.family, spec.depth, seed, status)


def write_scores(folder: Path, scores: Sequence[Score]) -> None:
    """Write one row per training."""
    write_rows(folder / SCORES, Score, scores)


def read_scores(folder: Path) -> list[Score]:
    """Read what `write_scores` wrote."""
    return read_rows(folder / SCORES, Score)


@dataclass(frozen=True)
class Confusion:
    """How often images of one class were taken for another, on the test split."""

    variant: str
    seed: int
    counts: np.ndarray  # int (true class, predicted class)

    @property
    def per_class_accuracy(self) -> np.ndarray:
        """Share of each class's images that were recognised, float (class,)."""
        return np.diag(self.counts) / self.counts.sum(axis=1)


def confuse(variant: str, seed: int, labels: np.ndarray, predicted: np.ndarray, classes: int) -> Confusion:
    """Count which classes are taken for which, from labels and predicted classes, int (n,)."""
    pairs = np.bincount(labels * classes + predicted, minlength=classes**2)
    return Confusion(variant, seed, pairs.reshape(classes, classes))


def confusions_bytes(confusions: Iterable[Confusion], classes: Sequence[str]) -> bytes:
    """Return a CSV with one row per training, true class and predicted class."""
    rows = [
        (confusion.variant, confusion.seed, true, predicted, int(confusion.counts[i, j]))
        for confusion in confusions
        for i, true in enumerate(classes)
        for j, predicted in enumerate(classes)
    ]
    frame = pd.DataFrame(rows, columns=["variant", "seed", "true", "predicted", "images"])
    return frame.to_csv(index=False, lineterminator="\n").encode()


def read_confusions(path: Path, classes: Sequence[str]) -> list[Confusion]:
    """Read what `confusions_bytes` gave for the same `classes`."""
    frame = pd.read_csv(path)
    side = len(classes)
    return [
        Confusion(str(variant), int(cast(int, seed)), group["images"].to_numpy().reshape(side, side))
        for (variant, seed), group in frame.groupby(["variant", "seed"], sort=False)
    ]
