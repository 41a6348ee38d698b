"""How gradients reach the early layers, and how alike they are at neighbouring inputs: one number for each network."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

from resblock.core.spec import ModelSpec
from resblock.core.training.run import GradientRow
from resblock.evaluation.flow import Gradients, Shattering, Untrained
from resblock.study.measure import Measure

GROWTH, COSINE = "growth", "cosine"  # names of the two probes of untrained networks


def growth(rows: Iterable[GradientRow], of: Literal["weights", "activations"]) -> float:
    """Return by how many decades the norm grows on its way from the end to the image: log10 of first over last.

    The first place is behind the stem and the last behind the last block, or the first and the last convolution. Below
    zero gradients shrink on their way, which is what *vanishing* means. NaN where one of the two norms has no
    logarithm, and where there is one place alone.
    """
    norms = {row.position: row.norm for row in rows if row.of == of}
    if len(norms) < 2:
        return math.nan
    first, last = norms[min(norms)], norms[max(norms)]
    return math.log10(first) - math.log10(last) if 0 < first < math.inf and 0 < last < math.inf else math.nan


def growths(gradients: Gradients, of: Literal["weights", "activations"], epoch: int = 0) -> Measure:
    """Return the growth in every network and seed that was measured after `epoch` epochs, where there is one."""
    found: dict[ModelSpec, dict[int, float]] = {}
    for spec, seeds in gradients.items():
        for seed, rows in seeds.items():
            value = growth((row for row in rows if row.epoch == epoch), of)
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


def probes(untrained: Untrained | None) -> dict[str, Measure]:
    """Return what verdicts ask of networks before training, by name; nothing where nothing was probed."""
    if untrained is None:
        return {}
    return {GROWTH: growths(untrained.gradients, "activations"), COSINE: nearest(untrained.shattering)}


def deepest_twins(*measures: Measure, modifiers: Iterable[str] = ()) -> tuple[ModelSpec, ModelSpec] | None:
    """Return the deepest plain network and its residual twin that all `measures` have, with exactly these modifiers."""
    wanted = frozenset(modifiers)
    pairs = [
        (spec.twin, spec)
        for spec in measures[0]
        if spec.family == "residual" and spec.modifiers == wanted and spec.width == 1 and spec.twin is not None
    ]
    there = [pair for pair in pairs if all(measure.get(spec) for spec in pair for measure in measures)]
    return max(there, key=lambda pair: pair[0].depth, default=None)


def last_epoch(gradients: Gradients) -> int:
    """Return the last moment at which anything was measured; 0 where nothing was."""
    return max((row.epoch for seeds in gradients.values() for rows in seeds.values() for row in rows), default=0)
