"""What gradients say of the block, in networks before any training.

Vanishing and shattering are two things: a norm that shrinks on its way from the last block to the stem, and a direction
that is another one at the next input. A third is what plain networks with batch normalisation show: a norm that grows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from resblock.core.spec import ModelSpec
from resblock.study.claims.accuracy import VERY_DEEP
from resblock.study.gradients import COSINE, GROWTH, deepest_twins
from resblock.study.interval import t_interval
from resblock.study.measure import Measure
from resblock.study.numbers import signed
from resblock.study.verdicts import Claim, Contrast, Evidence, Unit

DECADE = 1.0  # from the last block to the stem: a factor of less than ten is no vanishing and no explosion
COSINE_MARGIN = 0.1  # a tenth of the way from directions that have nothing in common to equal ones


def gradients_vanish_without(evidence: Evidence) -> Contrast:
    """Take how far gradients shrink in the plain network, or by how much more than in its twin if that is less."""
    found = _twins(evidence, GROWTH, "decades", DECADE, lambda plain, residual: min(-plain, residual - plain))
    growths = evidence.probes.get(GROWTH, {})
    pair = deepest_twins(growths)
    grows = pair is not None and t_interval(list(growths[pair[0]].values())).low > DECADE
    return replace(found, opposite="nothing vanishes, norms grow") if grows else found


def gradients_grow_without(evidence: Evidence) -> Contrast:
    """Take how far gradients grow in the plain network, or by how much more than in its twin if that is less."""
    return _twins(evidence, GROWTH, "decades", DECADE, lambda plain, residual: min(plain, plain - abs(residual)))


def gradients_shatter_without(evidence: Evidence) -> Contrast:
    """Compare how alike gradients of neighbouring inputs are."""
    return _twins(evidence, COSINE, "cosine", COSINE_MARGIN, lambda plain, residual: residual - plain)


def _twins(
    evidence: Evidence, probe: str, unit: Unit, margin: float, number: Callable[[float, float], float]
) -> Contrast:
    """Take a number of the deepest unmodified twins, plain then residual, from each seed that both have."""
    measure = evidence.probes.get(probe, {})
    pair = deepest_twins(measure)
    if pair is None:
        return Contrast({}, "", because="needs probes of a plain and a residual network of one depth")
    plain, residual = pair
    values = {
        seed: number(value, measure[residual][seed])
        for seed, value in measure[plain].items()
        if seed in measure[residual]
    }
    words = _means(measure, pair)
    if apart := deepest_twins(measure, modifiers=("nobn",)):
        words += f"; apart: {_means(measure, apart)}"
    if plain.depth >= VERY_DEEP:
        return Contrast(values, words, unit, margin, networks=2)
    because = f"depth {plain.depth} cannot refute it; needs probes of twins of depth {VERY_DEEP} or more"
    return Contrast(values, words, unit, margin, cannot=("refuted",), because=because, networks=2)


def _means(measure: Measure, pair: tuple[ModelSpec, ModelSpec]) -> str:
    return ", ".join(f"{spec} {signed(float(np.mean(list(measure[spec].values()))), 2)}" for spec in pair)


CLAIMS = (
    Claim(
        "gradients",
        "Residual blocks overcome vanishing gradients.",
        "abstract; introduction",
        "Decades by which gradients shrink from the last block to the stem of the deepest plain network before "
        "training, or by which they shrink more than in its residual twin, whichever is less.",
        "gradients",
        gradients_vanish_without,
    ),
    Claim(
        "growth",
        "Residual blocks tame gradients that grow towards the image.",
        "not in the paper: ours",
        "Decades by which gradients grow from the last block to the stem of the deepest plain network before "
        "training, or by which they change more than in its residual twin, whichever is less.",
        "gradients",
        gradients_grow_without,
    ),
    Claim(
        "shattering",
        "With batch normalisation, residual blocks keep gradients of neighbouring inputs more alike.",
        "not in the paper: Balduzzi et al. 2017",
        "Cosine between gradients of neighbouring inputs, one step apart on the lines of the probe, in the deepest "
        "residual network before training, minus that in its plain twin.",
        "gradients",
        gradients_shatter_without,
    ),
)
