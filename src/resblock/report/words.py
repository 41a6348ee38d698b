"""What a study says in sentences, from its numbers alone: the abstract, the verdicts, and what is missing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from resblock.evaluation.flow import Untrained
from resblock.evaluation.score import HEADLINE, Statistics, headline, with_statistics
from resblock.report.material import Material
from resblock.report.tables import percent
from resblock.study.champion import champion
from resblock.study.claims import CLAIMS
from resblock.study.comparison import compare
from resblock.study.gradients import COSINE, GROWTH, deepest_twins, probes
from resblock.study.interval import CONFIDENCE
from resblock.study.numbers import NONE, difference
from resblock.study.rebound import comparable, pooled
from resblock.study.summary import Study
from resblock.study.verdicts import DIGITS, SCALES, Outcome, Verdict, judge_all

OUTCOMES: tuple[Outcome, ...] = ("supported", "refuted", "undecided", "not measured in this study")
KINDS: dict[Statistics, str] = {"trained": "as trained", "reestimated": "re-estimated"}
OTHER: Statistics = next(kind for kind in KINDS if kind != HEADLINE)
STATISTICS = (
    f"Accuracies in the verdicts are taken with batch-norm statistics {KINDS[HEADLINE]}: late averages decide no claim "
    "about networks. A training that diverged counts at chance in them, one that is missing is left out, and the "
    "verdict says so."
)


def answer(study: Study) -> str:
    """Answer the study's question in plain words: what the block buys where networks are deepest, and which one to use.

    Accuracies are those of test images, statistics as in every headline; a diverged training counts at chance.
    """
    found = champion(study)
    if found is None:
        return "No training has finished yet, so nothing is known."
    best = found.winner.summary.interval(headline("test_accuracy"))
    use = (
        f"The champion is {found.winner.spec}, the best on validation images: {percent(best)} % of the test images "
        "are right."
    )
    return " ".join(filter(None, (_bought(study), use)))


def _bought(study: Study) -> str:
    """Say what the deepest pair of twins shows, in one sentence; empty where no pair is there."""
    test = headline("test_accuracy")
    gaps = [gap for gap in study.gaps(test) if gap.differences]
    if not gaps:
        return ""
    gap, values = gaps[-1], study.accuracies(test)
    ours, theirs = (
        100 * float(np.mean([values[spec][seed] for seed in gap.differences]))
        for spec in (gap.residual, gap.residual.twin)
        if spec
    )
    interval = gap.interval
    told = f"{ours:.1f} % of the test images right with it, {theirs:.1f} % without"
    points = f"{100 * interval.mean:+z.1f} points"
    if not interval.low < interval.high:
        return f"On {study.dataset} too few seeds say whether the residual block helps: at {gap.depth} layers {told}."
    sure = f"{100 * CONFIDENCE:.0f} % interval {100 * interval.low:+z.1f} to {100 * interval.high:+z.1f}"
    basis = f"{points}, {sure}, {interval.n} seeds"
    if interval.low > 0:
        return f"On {study.dataset} the residual block helps: at {gap.depth} layers {told} ({basis})."
    if interval.high < 0:
        return f"On {study.dataset} the residual block hurts: at {gap.depth} layers {told} ({basis})."
    return f"On {study.dataset} it stays open whether the residual block helps: at {gap.depth} layers {told} ({basis})."


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
    """Say in words what the deepest pair of twins shows, from the numbers alone, with both kinds of statistics.

    Twins with modifiers are not meant; a table of their own names them.
    """
    gaps = [gap for gap in study.gaps(headline("test_accuracy")) if gap.differences]
    if not gaps:
        return _best_so_far(study)
    deepest = gaps[-1]
    interval = deepest.interval
    pair = next(pair for pair in study.twins if pair[0] == deepest.residual)
    seeds = f"{interval.n} seed{'s' if interval.n > 1 else ''}"
    statement = (
        f"At depth {deepest.depth}, the deepest with both twins, the residual network's test accuracy lies "
        f"{100 * interval.mean:+z.1f} points from its plain twin's, batch-norm statistics {KINDS[HEADLINE]} ({seeds}"
    )
    statement += "".join(f"; {remark}" for remark in study.remarks(pair))
    told = f" With statistics {KINDS[OTHER]} it is {{}} points."
    others = study.gaps(with_statistics("test_accuracy", OTHER))
    other = next(gap for gap in others if gap.residual == deepest.residual)
    again = told.format(difference(other.interval, 100, 1))
    if other.differences == deepest.differences:  # as without batch normalisation
        again = ""
    if math.isnan(interval.low):
        return f"{statement}; one seed gives no interval, so this decides nothing).{again}"
    bounds = f"{100 * CONFIDENCE:.0f} % interval {100 * interval.low:+z.1f} to {100 * interval.high:+z.1f}"
    if interval.low == interval.high:
        verdict = "all seeds give the same number, so nothing is known of their spread and this decides nothing"
    elif interval.low > 0:
        verdict = "taken alone, the addition helps there"
    elif interval.high < 0:
        verdict = "taken alone, the addition hurts there"
    else:
        verdict = "the interval holds zero, so this study does not decide whether the addition helps there"
    return f"{statement}, {bounds}): {verdict}.{again}"


def _best_so_far(study: Study) -> str:
    test = headline("test_accuracy")
    finished = [summary for summary in study.summaries if summary.finished]
    best = max(finished, key=lambda summary: summary.interval(test).mean, default=None)
    if best is None:
        return "No training has finished yet."
    return f"Best so far: {best.spec.name} with {percent(best.interval(test))} % on test images."


def trouble(study: Study) -> str:
    """Name what is missing or diverged; empty where nothing is."""
    return "; ".join(f"{summary.spec.name}: {summary.trouble}" for summary in study.summaries if summary.trouble)


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


def basis_of(verdict: Verdict) -> str:
    """Say how many networks and seeds a verdict rests on, and its margin; empty where nothing was measured."""
    contrast = verdict.contrast
    if contrast is None:
        return ""
    counts = {"network": contrast.networks, "seed": verdict.interval.n}
    told = [f"{count} {name}{'s' if count > 1 else ''}" for name, count in counts.items() if count]
    margin = f"{SCALES[contrast.unit] * contrast.margin:g} {contrast.unit}"
    return ", ".join([*told, f"margin {margin}"] if contrast.margin else told)


def survival(verdicts: Sequence[Verdict]) -> str:
    """Say which verdicts survive when the errors of all claims are held together."""
    measured = [verdict for verdict in verdicts if not math.isnan(verdict.p_value)]
    decided = [verdict for verdict in measured if verdict.outcome in ("supported", "refuted")]
    if not decided:
        return ""
    kept = [verdict.claim.statement for verdict in decided if verdict.survives]
    start = f"Held as one family of {len(measured)} (Holm), {len(kept)} of {len(decided)} decided claims stay decided"
    return f"{start}: {' '.join(kept)}" if 0 < len(kept) < len(decided) else f"{start}."


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


def _scope(material: Material) -> str:
    study = material.study
    finished = sum(score.status == "finished" for score in study.scores)
    diverged = sum(score.status == "diverged" for score in study.scores)
    seeds = len({score.seed for score in study.scores})
    sizes = material.dataset.sizes
    return (
        f"{len(study.summaries)} networks were trained on {material.dataset.name} ({sizes['train']:,} images, "
        f"{sizes['test']:,} for the test) from {seeds} seed{'s' if seeds != 1 else ''} each; "
        f"{finished} of {len(study.scores)} trainings finished{f', {diverged} diverged' if diverged else ''}."
    )


def _family(study: Study) -> str:
    comparisons = compare(study, HEADLINE)
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
