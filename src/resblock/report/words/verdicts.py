"""The verdicts as a reader sees them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from resblock.evaluation.score import HEADLINE
from resblock.report.material import Material
from resblock.report.words import KINDS
from resblock.study.claims import CLAIMS
from resblock.study.numbers import NONE, counted, difference, listed
from resblock.study.verdicts import DIGITS, SCALES, Verdict, decide, judge_all

STATISTICS = (
    f"Accuracies in the verdicts are taken with batch-norm statistics {KINDS[HEADLINE]}: moving averages decide no "
    "claim about networks. A training that diverged counts at chance in them, one that is missing is left out, and the "
    "verdict says so."
)


def verdicts_on(material: Material) -> list[Verdict]:
    """Return the verdict on every claim."""
    return judge_all(CLAIMS, material.evidence)


def figure_of(verdict: Verdict) -> str:
    """Return a verdict's number with its interval and unit, for instance ``+5.3 [+1.0, +9.7] points``."""
    if verdict.contrast is None:
        return NONE
    unit = verdict.contrast.unit
    return f"{difference(verdict.interval, SCALES[unit], DIGITS[unit])} {unit}"


def outcome_of(verdict: Verdict) -> str:
    """Return a verdict's outcome, for instance ``refuted: too small to matter``."""
    return ": ".join(filter(None, (verdict.outcome, verdict.kind)))


def told_outcome(verdict: Verdict) -> str:
    """Return the same with a word where it does not stay with all claims held together: ``supported, taken alone``."""
    return f"{outcome_of(verdict)}, taken alone" if verdict.decided and not verdict.survives else outcome_of(verdict)


def basis_of(verdict: Verdict) -> str:
    """Say how many networks and seeds a verdict rests on, and its margin; empty where nothing was measured."""
    contrast = verdict.contrast
    if contrast is None:
        return ""
    counts = {"network": contrast.networks, "seed": verdict.interval.n}
    told = [counted(count, name) for name, count in counts.items() if count]
    margin = SCALES[contrast.unit] * contrast.margin
    unit = contrast.unit.removesuffix("s") if margin == 1 else contrast.unit
    return ", ".join([*told, f"margin {margin:g} {unit}"] if margin else told)


def survival(verdicts: Sequence[Verdict]) -> str:
    """Say which verdicts survive when the errors of all claims are held together, and what else they count."""
    measured = [verdict for verdict in verdicts if not math.isnan(verdict.p_value)]
    decided = [verdict for verdict in measured if verdict.decided]
    if not decided:
        return ""
    kept, lost = ([each for each in decided if each.survives == survives] for survives in (True, False))
    start = f"Held as one family of {len(measured)} (Holm), {len(kept)} of {len(decided)} decided claims stay decided"
    said = f"{start}: {_listed(kept)} Taken alone only: {_listed(lost)}" if kept and lost else f"{start}."
    return " ".join(filter(None, (said, _barred(measured))))


def _listed(verdicts: Sequence[Verdict]) -> str:
    return " ".join(f"{each.claim.statement.removesuffix('.')} ({each.outcome})." for each in verdicts)


def _barred(verdicts: Sequence[Verdict]) -> str:
    """Say which claims stay open though their numbers would decide them; empty where there are none."""
    outcomes = [decide(each.interval, each.contrast.margin) for each in verdicts if each.barred and each.contrast]
    counts = [f"{outcomes.count(outcome)} {outcome}" for outcome in ("supported", "refuted") if outcome in outcomes]
    return (
        f"By their numbers alone {len(outcomes)} more of the {len(verdicts)} would be decided ({listed(counts)}); "
        "what is here is not taken to decide them."
        if outcomes
        else ""
    )


def verdict_frame(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """Return a row per claim, numbers in stored units."""
    return pd.DataFrame(
        [
            {
                "claim": verdict.claim.name,
                "statement": verdict.claim.statement,
                "source": verdict.claim.source,
                "measured": verdict.claim.measured,
                "compared": verdict.contrast.compared if verdict.contrast else "",
                "mean": verdict.interval.mean,
                "low": verdict.interval.low,
                "high": verdict.interval.high,
                "unit": verdict.contrast.unit if verdict.contrast else "",
                "margin": verdict.contrast.margin if verdict.contrast else math.nan,
                "networks": verdict.contrast.networks if verdict.contrast else 0,
                "seeds": verdict.interval.n,
                "remarks": "; ".join(verdict.contrast.remarks) if verdict.contrast else "",
                "verdict": verdict.outcome,
                "kind": verdict.kind,
                "p": verdict.p_value,
                "p_holm": verdict.adjusted_p_value,
                "survives_holm": verdict.survives,
                "advice": verdict.advice,
            }
            for verdict in verdicts
        ]
    )
