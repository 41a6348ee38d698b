"""How gradients reach the early layers, and how alike they are at neighbouring inputs: rows.

Vanishing gradients, the paper's word, would show as norms that shrink from the logits to the image. Shattered ones
(Balduzzi et al. 2017, "The Shattered Gradients Problem") keep their norm, but point elsewhere at the next input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from resblock.core.spec import ModelSpec
from resblock.core.training.run import GRADIENTS, GradientRow
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
