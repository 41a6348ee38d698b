"""What a claim's numbers allow to say: supported, refuted, undecided, or not measured here. Computed, never typed.

The rule. A claim is turned into one number per seed that lies above zero where the claim is right, and into the
smallest effect that would matter, its margin, fixed beforehand. With the 95 % t-interval of the mean over seeds,

- **refuted** is a claim whose interval ends below the margin: the effect is too small to matter, or the opposite;
- **supported** is one whose interval starts above zero;
- **undecided** is everything else, and everything below two seeds. Then the number of seeds is given that would decide,
  if mean and spread stayed as they are. Undecided is also an outcome that the study is not made for: networks of 32
  layers cannot refute what is said of very deep ones.

If there is no effect, a claim is called supported with probability 2.5 % at most; if there is one as large as the
margin, it is called refuted with probability 2.5 % at most. Refuting by a margin is an equivalence test in the sense of
Schuirmann 1987. A threshold claim ("more than half") is measured as the distance from the threshold, with margin zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from resblock.study.interval import Interval, seeds_needed, t_interval
from resblock.study.measure import Measure
from resblock.study.rebound import Rebound
from resblock.study.summary import Study

Outcome = Literal["supported", "refuted", "undecided", "not measured in this study"]
Unit = Literal["points", "epochs", "decades", "cosine"]
SCALES: dict[Unit, float] = {"points": 100.0, "epochs": 1.0, "decades": 1.0, "cosine": 1.0}  # from stored to shown
DIGITS: dict[Unit, int] = {"points": 1, "epochs": 1, "decades": 1, "cosine": 2}  # behind the point


@dataclass(frozen=True)
class Trained:
    """All trainings of one recipe."""

    recipe: Mapping[str, Any]
    study: Study
    rebounds: Sequence[Rebound] = ()


@dataclass(frozen=True)
class Evidence:
    """What verdicts may rest on. What is not there leaves its claims "not measured"."""

    base: Trained  # the data set's recipe
    ablations: Mapping[str, Trained] = field(default_factory=dict[str, Trained])  # by the recipe's name
    probes: Mapping[str, Measure] = field(default_factory=dict[str, Measure])  # by the probe's name
    multiply_adds: Mapping[str, int] = field(default_factory=dict[str, int])  # by variant, of one forward pass


@dataclass(frozen=True)
class Contrast:
    """A claim in numbers: one per seed, above zero where the claim is right."""

    values: Mapping[int, float]
    compared: str  # which networks or recipes, in words
    unit: Unit = "points"
    margin: float = 0.0  # the smallest effect that matters, in stored units
    cannot: Outcome | None = None  # an outcome that this study is not made for, whatever the number
    because: str = ""  # what it would take


@dataclass(frozen=True)
class Claim:
    """Something the paper says, in our words."""

    name: str
    statement: str
    source: str  # where the paper says it
    measured: str  # how
    picture: str  # name of the page's section to look at
    contrast: Callable[[Evidence], Contrast | None]  # None where this study does not measure it


@dataclass(frozen=True)
class Verdict:
    """A claim and what this study says to it."""

    claim: Claim
    outcome: Outcome
    interval: Interval  # in stored units; all NaN where nothing was measured
    contrast: Contrast | None = None
    advice: str = ""  # what would decide an undecided claim


def judge(claim: Claim, evidence: Evidence) -> Verdict:
    """Return the verdict on `claim` that `evidence` allows."""
    contrast = claim.contrast(evidence)
    if contrast is None or not contrast.values:
        return Verdict(claim, "not measured in this study", t_interval([]))
    values = list(contrast.values.values())
    interval = t_interval(values)
    outcome = decide(interval, contrast.margin)
    if outcome == contrast.cannot:
        return Verdict(claim, "undecided", interval, contrast, advice=contrast.because)
    return Verdict(
        claim, outcome, interval, contrast, advice=_advice(values, contrast) if outcome == "undecided" else ""
    )


def decide(interval: Interval, margin: float) -> Outcome:
    """Apply the rule at the top of this file to the interval of a contrast's mean."""
    if math.isnan(interval.low):
        return "undecided"
    if interval.high < margin:
        return "refuted"
    return "supported" if interval.low > 0 else "undecided"


def _advice(values: Sequence[float], contrast: Contrast) -> str:
    """Say how many seeds would move the interval off zero or below the margin, whichever takes fewer."""
    if len(values) < 2:
        return "needs two seeds at least"
    mean = float(np.mean(values))
    needed = seeds_needed(float(np.std(values, ddof=1)), max(mean, contrast.margin - mean))
    if needed is None:
        return "no number of seeds in reach would decide"
    return f"about {max(needed, len(values) + 1)} seeds would decide"


def paired(first: Measure, second: Measure) -> dict[int, float]:
    """Return for each seed the mean over networks of `first` minus `second`, which hold the same networks.

    Networks that share no finished seed are left out, and then seeds that one of the others lacks.
    """
    together = {
        spec: {seed: first[spec][seed] - second[spec][seed] for seed in first[spec] if seed in second[spec]}
        for spec in first
        if spec in second
    }
    return over_networks(together)


def over_networks(measure: Measure) -> dict[int, float]:
    """Return for each seed that all networks with any seed have, the mean over networks."""
    rows = [values for values in measure.values() if values]
    if not rows:
        return {}
    shared = [seed for seed in rows[0] if all(seed in row for row in rows)]
    return {seed: float(np.mean([row[seed] for row in rows])) for seed in shared}
