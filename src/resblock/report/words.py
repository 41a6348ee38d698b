"""What a study says in sentences, from its numbers alone: the abstract, the verdicts, and what is missing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from resblock.evaluation.flow import Untrained
from resblock.report.material import Material
from resblock.report.tables import NONE, difference, percent
from resblock.study.claims import CLAIMS
from resblock.study.comparison import compare
from resblock.study.gradients import COSINE, GROWTH, deepest_twins, probes
from resblock.study.interval import CONFIDENCE
from resblock.study.rebound import comparable, pooled
from resblock.study.summary import Study
from resblock.study.verdicts import DIGITS, SCALES, Outcome, Verdict, judge

OUTCOMES: tuple[Outcome, ...] = ("supported", "refuted", "undecided", "not measured in this study")
STATISTICS = (
    "Accuracies in the verdicts are taken with batch-norm statistics re-estimated: late averages decide no claim about "
    "networks."
)


def abstract(material: Material, verdicts: Sequence[Verdict]) -> list[str]:
    """Return the page's first sentences: what was done, what the twins show, why loss rebounds, how gradients flow."""
    study = material.study
    if not any(summary.finished for summary in study.summaries):
        return [lead(study)]
    return [
        text
        for text in (
            _scope(material),
            lead(study),
            _family(study),
            _rebound(material),
            _gradients(material.untrained),
            _count(verdicts),
        )
        if text
    ]


def lead(study: Study) -> str:
    """Say in words what the deepest pair of twins shows, from the numbers alone, with both kinds of statistics."""
    gaps = [gap for gap in study.gaps("test_accuracy") if gap.differences]
    if not gaps:
        finished = [summary for summary in study.summaries if summary.finished]
        best = max(finished, key=lambda s: s.interval("test_accuracy").mean, default=None)
        if best is None:
            return "No training has finished yet."
        return f"Best so far: {best.spec.name} with {percent(best.interval('test_accuracy'))} % on test images."
    deepest = gaps[-1]
    interval = deepest.interval
    amount = f"{100 * interval.mean:+z.1f} points"
    fresh = next(gap for gap in study.gaps("test_accuracy_reestimated") if gap.residual == deepest.residual)
    again = f" With batch-norm statistics re-estimated it is {difference(fresh.interval, 100, 1)} points."
    if fresh.differences == deepest.differences:  # as without batch normalisation
        again = ""
    seeds = f"{interval.n} seed{'s' if interval.n > 1 else ''}"
    statement = (
        f"At depth {deepest.depth}, the deepest with both twins, the residual network's test accuracy lies {amount} "
        f"from its plain twin's ({seeds}"
    )
    if math.isnan(interval.low):
        return f"{statement}; one seed gives no interval, so this decides nothing).{again}"
    bounds = f"{100 * CONFIDENCE:.0f} % interval {100 * interval.low:+z.1f} to {100 * interval.high:+z.1f}"
    if interval.low > 0:
        verdict = "taken alone, the addition helps there"
    elif interval.high < 0:
        verdict = "taken alone, the addition hurts there"
    else:
        verdict = "the interval holds zero, so this study does not decide whether the addition helps there"
    return f"{statement}, {bounds}): {verdict}.{again}"


def trouble(study: Study) -> str:
    """Name what is missing or diverged; empty where nothing is."""
    return "; ".join(f"{summary.spec.name}: {summary.trouble}" for summary in study.summaries if summary.trouble)


def verdicts_on(material: Material) -> list[Verdict]:
    """Return the verdict on every claim."""
    return [judge(claim, material.evidence) for claim in CLAIMS]


def figure_of(verdict: Verdict) -> str:
    """Return a verdict's number with its interval and unit, for instance ``+5.3 [+1.0, +9.7] points``."""
    if verdict.contrast is None:
        return NONE
    unit = verdict.contrast.unit
    return f"{difference(verdict.interval, SCALES[unit], DIGITS[unit])} {unit}"


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
                "seeds": verdict.interval.n,
                "verdict": verdict.outcome,
                "advice": verdict.advice,
            }
            for verdict in verdicts
        ]
    )


def _scope(material: Material) -> str:
    study = material.study
    finished = sum(score.status == "finished" for score in study.scores)
    seeds = len({score.seed for score in study.scores})
    sizes = material.dataset.sizes
    return (
        f"{len(study.summaries)} networks were trained on {material.dataset.name} ({sizes['train']:,} images, "
        f"{sizes['test']:,} for the test) from {seeds} seed{'s' if seeds != 1 else ''} each; "
        f"{finished} of {len(study.scores)} trainings finished."
    )


def _family(study: Study) -> str:
    comparisons = compare(study, "trained")
    decided = [comparison for comparison in comparisons if comparison.decision != "undecided"]
    if len(comparisons) < 2 or all(comparison.gap.interval.n < 2 for comparison in comparisons):
        return ""
    start = f"With the errors of all {len(comparisons)} comparisons of twins, on train and test, held together (Holm), "
    if not decided:
        return f"{start}none is decided by this number of seeds."
    names = ", ".join(
        f"{comparison.gap.label} on {comparison.gap.metric.partition('_')[0]} ({comparison.decision})"
        for comparison in decided
    )
    return f"{start}{len(decided)} {'is' if len(decided) == 1 else 'are'} decided: {names}."


def _rebound(material: Material) -> str:
    """Say of the unmodified networks with batch normalisation how often loss rises, and what of it is late."""
    rebounds = comparable(material.rebounds, normalized=True)
    late = pooled(rebounds, "lagging_statistics", "height_trained")
    if not late:
        return ""
    steps = sum(rebound.epochs - 1 for rebound in rebounds)
    trained = sum(rebound.rises_trained for rebound in rebounds) / steps
    reestimated = sum(rebound.rises_reestimated for rebound in rebounds) / steps
    compared = {rebound.spec for rebound in rebounds}
    others = ", ".join(dict.fromkeys(each.variant for each in material.rebounds if each.spec not in compared))
    return (
        f"Validation loss of networks with batch normalisation rises after {100 * trained:.0f} % of the epochs with "
        f"statistics as trained and after {100 * reestimated:.0f} % with statistics re-estimated; "
        f"{100 * float(np.mean(list(late.values()))):.0f} % of the height of its rises is gone on re-estimation, the "
        f"weights untouched{f' (all networks but {others})' if others else ''}."
    )


def _gradients(untrained: Untrained | None) -> str:
    """Say of the deepest twins before training how their gradients grow or shrink, and how alike neighbours' are."""
    said: list[str] = []
    for modifiers, start in (((), "Before training"), (("nobn",), "Before training and without batch normalisation")):
        measures = probes(untrained)
        pair = deepest_twins(*measures.values(), modifiers=modifiers) if measures else None
        if pair is None:
            continue
        decades, cosines = (
            [float(np.mean(list(measures[name][spec].values()))) for spec in pair] for name in (GROWTH, COSINE)
        )
        ways = [
            f"{'grow' if value > 0 else 'shrink'} by {abs(value):.1f} decades"
            if abs(value) > 0.05
            else "keep their norm"
            for value in decades
        ]
        said.append(
            f"{start}, on their way from the last block to the stem gradients {ways[0]} in {pair[0]} and {ways[1]} "
            f"in {pair[1]}; those of neighbouring inputs have a cosine of {cosines[0]:z.2f} and {cosines[1]:z.2f}."
        )
    return " ".join(said)


def _count(verdicts: Sequence[Verdict]) -> str:
    counts = {outcome: sum(verdict.outcome == outcome for verdict in verdicts) for outcome in OUTCOMES}
    return (
        f"Of {len(verdicts)} claims, this study supports {counts['supported']}, refutes {counts['refuted']}, leaves "
        f"{counts['undecided']} undecided and does not measure {counts['not measured in this study']}."
    )
