"""What a claim's numbers allow to say: supported, refuted, undecided, or not measured here. Computed, never typed.

The rule. A claim is turned into one number per seed that lies above zero where the claim is right, and into the
smallest effect that would matter, its margin, fixed beforehand. With the 95 % t-interval of the mean over seeds,

- **supported** is a claim whose whole interval lies above the margin;
- **refuted** is one whose whole interval lies below the margin. It is *too small to matter* if the interval lies within
  the margin on both sides of zero, and *the opposite* if it lies below minus the margin. An interval that reaches from
  one to the other refutes the claim as well; only which of the two it is stays open, and is not named;
- **undecided** is everything else, and everything below two seeds. Then the verdict says how many seeds would decide,
  if mean and spread stayed as they are: in words where they are few, since their spread is hardly known. Undecided is
  also an outcome that the study is not made for: networks of 32 layers decide nothing of very deep ones.

An effect below the margin is called supported with a probability of 2.5 % at most, one above it refuted with 2.5 % at
most, whatever the number of seeds: more of them only decide more often. A threshold claim ("more than half") is
measured as the distance from the threshold, with margin zero. Refuting by a margin is an equivalence test in the sense
of Schuirmann 1987.

Each claim is judged by itself. `judge_all` also says which verdicts survive when all are held as one family (Holm).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from resblock.study.interval import (
    ALPHA,
    Interval,
    holm,
    seeds_in_words,
    seeds_needed,
    spread_of,
    t_interval,
    t_p_value,
)
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
    cannot: tuple[Outcome, ...] = ()  # what this study is not made for, whatever the number
    because: str = ""  # what it would take; without values, why nothing was measured
    rounding: float = 0.0  # what counting images, or rises, adds to the variance of one value, in stored units squared
    networks: int = 0  # how many it rests on; 0 where that is not told
    remarks: Sequence[str] = ()  # which trainings diverged and count at chance, and which are left out
    opposite: str = "the opposite"  # what is so where the whole interval lies below minus the margin
    bounds: tuple[float, float] = (-math.inf, math.inf)  # between which the mean lies, whatever the seeds


def any_study(_: Evidence) -> str:
    """Say why a study is none of those that a claim speaks of: it speaks of all."""
    return ""


@dataclass(frozen=True)
class Claim:
    """Something the paper says, in our words."""

    name: str
    statement: str
    source: str  # where the paper says it
    measured: str  # how
    picture: str  # name of the page's section to look at
    contrast: Callable[[Evidence], Contrast | None]  # None where this study does not measure it
    outside: Callable[[Evidence], str] = any_study  # why a study is none that it speaks of; empty where it is one


@dataclass(frozen=True)
class Verdict:
    """A claim and what this study says to it."""

    claim: Claim
    outcome: Outcome
    interval: Interval  # in stored units; all NaN where nothing was measured
    contrast: Contrast | None = None
    kind: str = ""  # of a refuted claim: too small to matter, the opposite in the contrast's words, or not known
    advice: str = ""  # what would decide an undecided claim, or why it was not measured
    barred: bool = False  # undecided because the outcome that the interval asks for is none that the study is made for
    p_value: float = math.nan  # two-sided, that the mean is the margin: below 0.05 the rule decides
    adjusted_p_value: float = math.nan  # Holm's, over all claims that were measured

    @property
    def decided(self) -> bool:
        """Whether it is decided, taken alone."""
        return self.outcome in ("supported", "refuted")

    @property
    def survives(self) -> bool:
        """Whether it is decided with the errors of all claims held together."""
        return self.decided and self.adjusted_p_value < ALPHA


def judge_all(claims: Sequence[Claim], evidence: Evidence) -> list[Verdict]:
    """Return the verdict on each claim, with the p-values of all as one family."""
    verdicts = [judge(claim, evidence) for claim in claims]
    measured = {each.claim.name: each.p_value for each in verdicts if not math.isnan(each.p_value)}
    adjusted = dict(zip(measured, holm(list(measured.values())), strict=True))
    return [replace(each, adjusted_p_value=adjusted.get(each.claim.name, math.nan)) for each in verdicts]


def judge(claim: Claim, evidence: Evidence) -> Verdict:
    """Return the verdict on `claim` that `evidence` allows."""
    outside = claim.outside(evidence)
    contrast = None if outside else claim.contrast(evidence)
    if contrast is None or not contrast.values:
        why = outside or (contrast.because if contrast else "")
        return Verdict(claim, "not measured in this study", t_interval([]), advice=why)
    values = list(contrast.values.values())
    interval = t_interval(values, rounding=contrast.rounding).within(*contrast.bounds)
    p_value = t_p_value(values, rounding=contrast.rounding, against=contrast.margin)
    outcome = decide(interval, contrast.margin)
    if outcome in contrast.cannot:
        return Verdict(claim, "undecided", interval, contrast, "", contrast.because, barred=True, p_value=p_value)
    kind = refutation(interval, contrast.margin, contrast.opposite) if outcome == "refuted" else ""
    advice = _advice(values, contrast) if outcome == "undecided" else ""
    return Verdict(claim, outcome, interval, contrast, kind, advice, p_value=p_value)


def decide(interval: Interval, margin: float) -> Outcome:
    """Apply the rule at the top of this file to the interval of a contrast's mean."""
    if math.isnan(interval.low) or interval.low == interval.high:  # no width: nothing is known of the spread
        return "undecided"
    if interval.high < margin:
        return "refuted"
    return "supported" if interval.low > margin else "undecided"


def refutation(interval: Interval, margin: float, opposite: str = "the opposite") -> str:
    """Say what refutes a claim whose interval ends below `margin`; empty where that is open, or the margin is zero."""
    if margin and interval.low > -margin:
        return "too small to matter"
    return opposite if margin and interval.high < -margin else ""


def _advice(values: Sequence[float], contrast: Contrast) -> str:
    """Say how many seeds would move the interval off the margin, or what else it takes where that would not decide."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return "needs two seeds at least"
    if ("supported" if mean > contrast.margin else "refuted") in contrast.cannot:
        return f"the interval holds the margin; {contrast.because}"
    spread = spread_of(values, contrast.rounding)
    if not spread:
        return "all seeds give the same number, so nothing is known of their spread"
    needed = seeds_needed(spread, mean - contrast.margin)
    return f"{seeds_in_words(needed, len(values))} would decide"


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


def over_networks(measure: Mapping[Any, Mapping[int, float]]) -> dict[int, float]:
    """Return for each seed that all networks (or pairs of them) with any seed have, the mean over networks."""
    rows = [values for values in measure.values() if values]
    if not rows:
        return {}
    shared = [seed for seed in rows[0] if all(seed in row for row in rows)]
    return {seed: float(np.mean([row[seed] for row in rows])) for seed in shared}
