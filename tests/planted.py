"""Studies with planted curves, and what their page says to a claim."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from resblock.core.spec import ModelSpec
from resblock.core.splits import DatasetDescription
from resblock.core.training.run import EpochRow
from resblock.evaluation.flow import Untrained
from resblock.evaluation.score import METRICS, Score
from resblock.report.material import Material, Section
from resblock.report.page import render
from resblock.study.claims import CLAIMS
from resblock.study.rebound import find_rebounds
from resblock.study.results import Results
from resblock.study.summary import Study
from resblock.study.verdicts import Trained

PAPERS: Mapping[str, Any] = {
    "epochs": 20,
    "optimizer": "adam",
    "learning_rate": 0.001,
    "schedule": "constant",
    "weight_decay": 0.0,
}
Planted = Mapping[str, Callable[[float], list[EpochRow]]]  # by network; of a seed's luck, which is about 1


def rows(
    trained: Sequence[float],
    reestimated: Sequence[float],
    training: Sequence[float],
    accuracies: Sequence[float] | None = None,
) -> list[EpochRow]:
    """A curve of these losses at each epoch's end; while the weights move, training loss falls steadily."""
    shown = accuracies if accuracies is not None else [0.5] * len(trained)
    return [
        EpochRow(n, 0.001, 1 / n, 0.5, v, accuracy, r, accuracy, t, 0.5)
        for n, (v, r, t, accuracy) in enumerate(zip(trained, reestimated, training, shown, strict=True), start=1)
    ]


def bumps(
    luck: float, *, late: float = 0, optimisation: float = 0, overfitting: float = 0, drift: float = 0, epochs: int = 20
) -> list[EpochRow]:
    """Losses of 3 nats that fall to 1, rise by these causes in every third epoch, and fall again in the next.

    Validation loss may drift up in the last epoch besides. Luck that makes statistics later makes weights steadier.
    """
    flat = np.array([3.0] + [1.0] * (epochs - 1))
    up = np.arange(epochs) % 3 == 2
    training = flat + optimisation * (2 - luck) * up
    reestimated = training + overfitting * (2 - luck) * up
    reestimated[-1] += drift * luck
    return rows((reestimated + late * luck * up).tolist(), reestimated.tolist(), training.tolist())


def trained(planted: Planted, seeds: int, recipe: Mapping[str, Any] = PAPERS, dataset: str = "cifar10") -> Trained:
    """All trainings of one recipe, with other luck than that of `material`."""
    curves = _curves(planted, seeds, draw=1)
    return Trained(recipe, Study(dataset, tuple(_scores(planted, seeds))), find_rebounds(curves))


def material(
    planted: Planted,
    *,
    seeds: int = 4,
    recipe: Mapping[str, Any] = PAPERS,
    dataset: str = "cifar10",
    ablations: Mapping[str, Trained] | None = None,
    untrained: Untrained | None = None,
) -> Material:
    """What a report is made from, with these curves in it."""
    return Material(
        dataset=DatasetDescription(
            dataset, ("cat", "dog"), (8, 8, 3), {"train": 9, "validation": 3, "test": 3}, {}, "a box"
        ),
        results=Results(scores=_scores(planted, seeds)),
        curves=_curves(planted, seeds),
        costs={},
        recipes=[recipe],
        ablations=ablations or {},
        untrained=untrained,
    )


def page_of(given: Material, *sections: Section | None) -> str:
    """The page with these sections alone, as text between tags."""
    drawn = render(given, [section for section in sections if section is not None])
    return html.unescape(re.sub(r"<svg.*?</svg>|<style>.*?</style>", "", drawn, flags=re.DOTALL))


def said_of(claim: str, page: str) -> str:
    """The page's row on a claim, tags taken out."""
    (statement,) = (each.statement for each in CLAIMS if each.name == claim)
    (row,) = (part for part in page.split("<tr>") if f"<strong>{statement}</strong>" in part)
    return re.sub(r"<[^>]+>|\s+", " ", row)


def _scores(planted: Planted, seeds: int) -> list[Score]:
    specs = [ModelSpec.parse(name) for name in planted]
    return [
        Score(spec.name, spec.family, spec.depth, seed, "finished", **dict.fromkeys(METRICS, 0.5 + seed / 100))
        for spec in specs
        for seed in range(seeds)
    ]


def _curves(planted: Planted, seeds: int, draw: int = 0) -> dict[ModelSpec, dict[int, list[EpochRow]]]:
    luck = np.random.default_rng(draw).normal(1, 0.02, size=(len(planted), seeds))
    return {
        ModelSpec.parse(name): {seed: make(float(luck[row, seed])) for seed in range(seeds)}
        for row, (name, make) in enumerate(planted.items())
    }
