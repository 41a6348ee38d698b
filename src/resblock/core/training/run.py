"""One training's results, and the files that hold them. Needs neither Keras nor a backend."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from resblock.core.files import arrays_bytes, json_bytes, read_arrays, read_json, write_json, write_together

Status = Literal["finished", "diverged"]

WEIGHTS, CURVE, GRADIENTS = "weights.npz", "curve.csv", "gradients.csv"
METRICS, MANIFEST = "metrics.json", "run.json"


@dataclass(frozen=True)
class EpochRow:
    """One epoch. Losses are mean cross-entropies in nats, accuracies fractions in [0, 1].

    `loss` and `accuracy` average over the epoch while the weights move, on augmented images. All others are of the
    weights at its end, on images as they are: `validation_*` with the batch-norm statistics as trained,
    `*_reestimated` with those re-estimated on training images. `train_*` are taken on a sample of the training images,
    the same ones after every epoch. A network without batch normalisation has no statistics to re-estimate.
    """

    epoch: int  # from 1
    learning_rate: float  # at the epoch's last step
    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float
    validation_loss_reestimated: float
    validation_accuracy_reestimated: float
    train_loss_reestimated: float
    train_accuracy_reestimated: float

    @property
    def metrics(self) -> dict[str, float]:
        """All columns but the epoch."""
        return {name: value for name, value in asdict(self).items() if name != "epoch"}


@dataclass(frozen=True)
class GradientRow:
    """The norm of the loss gradient at one place of a network, at one moment of its training.

    The loss is the mean cross-entropy in nats of the same training images at every moment, not augmented, in batches of
    the training's size that are normalised by themselves. Norms are Euclidean, over a convolution's kernel or over all
    activations of all images.
    """

    epoch: int  # epochs finished; 0: at initialisation
    of: Literal["weights", "activations"]
    layer: str  # the convolution, or the block (or stem) behind which the activations stand
    position: int  # convolutions from the image to here, on the longest path
    norm: float


@dataclass(frozen=True)
class Cost:
    """What a training took, on which machine: the one thing that may differ between repeats."""

    started: str  # UTC, ISO 8601
    epoch_seconds: tuple[float, ...]  # wall clock of each epoch, validation included
    images_per_second: float  # training images in the median epoch's training steps
    parameters: int
    multiply_adds: int  # of one image's forward pass
    machine: str
    threads: int
    versions: Mapping[str, str]

    @property
    def seconds(self) -> float:
        """Wall clock of all epochs, those of processes that were killed included."""
        return sum(self.epoch_seconds)


@dataclass(frozen=True)
class Run:
    """What a training leaves: all of it equal in every repeat on one machine."""

    manifest: Mapping[str, Any]  # who made it: stage, spec, recipe, seed, digests, key
    status: Status
    curve: Sequence[EpochRow]
    weights: Mapping[str, np.ndarray]  # by variable path, as trained; moving statistics included
    gradients: Sequence[GradientRow] = ()

    @property
    def metrics(self) -> dict[str, Any]:
        """The last epoch's figures and how the training ended; None where a diverged run has no figure."""
        last = self.curve[-1].metrics if self.curve else dict.fromkeys(METRIC_NAMES)
        return {"status": self.status, "epochs": len(self.curve), **last}


_COLUMNS = [field.name for field in fields(EpochRow)]
METRIC_NAMES = tuple(name for name in _COLUMNS if name != "epoch")


def is_there(folder: Path) -> bool:
    """Return whether a training has left its results in `folder`, finished or diverged."""
    return (folder / MANIFEST).is_file()


def write_run(folder: Path, run: Run) -> None:
    """Write `run` into `folder`: the same files for every training, the manifest last.

    On a full disk, what stood there before stays whole.
    """
    write_together(
        {
            folder / WEIGHTS: arrays_bytes(run.weights),
            folder / CURVE: _rows_bytes(EpochRow, run.curve),
            folder / GRADIENTS: _rows_bytes(GradientRow, run.gradients),
            folder / METRICS: json_bytes(run.metrics),
            folder / MANIFEST: json_bytes({**run.manifest, "status": run.status}),
        }
    )


def read_run(folder: Path) -> Run:
    """Read what `write_run` wrote."""
    manifest = read_json(folder / MANIFEST)
    status = manifest.pop("status")
    return Run(manifest, status, read_curve(folder), read_arrays(folder / WEIGHTS), read_gradients(folder))


def read_curve(folder: Path) -> list[EpochRow]:
    """Read the curve of the run in `folder`; needs no weights."""
    return [
        EpochRow(epoch=int(row.pop("epoch")), **{name: float(text or math.nan) for name, text in row.items()})
        for row in _read_rows(folder / CURVE)
    ]


def read_gradients(folder: Path) -> list[GradientRow]:
    """Read the gradient norms of the run in `folder`; needs no weights."""
    return [
        GradientRow(
            epoch=int(row["epoch"]),
            of="weights" if row["of"] == "weights" else "activations",
            layer=row["layer"],
            position=int(row["position"]),
            norm=float(row["norm"] or math.nan),
        )
        for row in _read_rows(folder / GRADIENTS)
    ]


def write_cost(path: Path, cost: Cost) -> None:
    """Write `cost` as JSON."""
    write_json(path, asdict(cost))


def read_cost(path: Path) -> Cost:
    """Read what `write_cost` wrote."""
    tree = read_json(path)
    tree["epoch_seconds"] = tuple(tree["epoch_seconds"])
    return Cost(**tree)


def _read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _rows_bytes(kind: type[EpochRow | GradientRow], rows: Sequence[EpochRow | GradientRow]) -> bytes:
    """Return a CSV whose numbers read back bit for bit; a missing one is empty."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [field.name for field in fields(kind)], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: "" if value != value else value for name, value in asdict(row).items()})
    return text.getvalue().encode()
