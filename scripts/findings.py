"""The findings as a page: a template, and what the results in the repository say."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from blocks import markdown

from resblock import paths
from resblock.core.files import read_json
from resblock.damage import conflict
from resblock.diff.splits import Splits, table
from resblock.evaluation.score import HEADLINE, headline
from resblock.notebook import read_study
from resblock.params import read_params
from resblock.report.material import Material
from resblock.report.summary import SUMMARY
from resblock.report.tables import percent
from resblock.report.words import abstract as words
from resblock.report.words.answer import answer
from resblock.report.words.verdicts import basis_of, figure_of, told_outcome, verdicts_on
from resblock.study.claims import flips, gradients, rebound
from resblock.study.comparison import compare
from resblock.study.numbers import counted, listed, points
from resblock.study.verdicts import Claim, Verdict

TEMPLATE = Path(__file__).with_suffix(".md.jinja")
TEST = headline("test_accuracy")
TEXT = ("claim", "data", "rests on", "verdict", "twins", "network or gap")


def findings() -> str:
    """Return the page."""
    every = {name: read_study(name).material for name in read_params(paths.PARAMS).study.datasets}
    studied = {name: one for name, one in every.items() if any(each.finished for each in one.study.summaries)}
    verdicts = {name: verdicts_on(one) for name, one in every.items()}
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True)  # noqa: S701  (Markdown)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        studied=[_study(name, one, verdicts[name]) for name, one in studied.items()],
        awaited=[name for name in every if name not in studied],
        splits=next(_splits(), None),
        probed=[
            {"name": name, "words": text} for name, one in every.items() if (text := words.gradients(one.untrained))
        ],
        rebound=_verdicts(rebound.CLAIMS, verdicts),
        flips=_verdicts(flips.CLAIMS, verdicts),
        gradients=_verdicts(gradients.CLAIMS, verdicts),
        deepest=max(each.spec.depth for one in studied.values() for each in one.study.summaries if each.finished),
        open=_open(verdicts),
        reports=listed(
            [f"[{name}](../{page})" for name in studied if (page := paths.report(name) / SUMMARY).is_file()]
        ),
    )


def _study(name: str, material: Material, verdicts: Sequence[Verdict]) -> Mapping[str, str]:
    study = material.study
    return {
        "name": name,
        "answer": "\n\n".join(filter(None, answer(study))),
        "gaps": _gaps(material),
        "words": "\n\n".join(
            filter(None, (words.recipe(material.recipes[0]), words.family(study), words.deepening(study)))
        ),
        "rebound": words.rebound(material, verdicts) or "No network with batch normalisation has a curve.",
        "missing": words.trouble(study),
    }


def _gaps(material: Material) -> str:
    """Return a row for each pair of twins, and those that have no twin."""
    study = material.study
    accuracies = {each.spec: percent(each.interval(TEST)) for each in study.summaries if each.finished}
    rows = [
        {
            "depth": str(one.gap.depth),
            "plain, %": next((text for spec, text in accuracies.items() if spec == one.gap.residual.twin), ""),
            "residual, %": accuracies.get(one.gap.residual, ""),
            "residual − plain, points": points(one.gap.interval),
            "seeds": str(one.gap.interval.n),
            "decision (Holm)": one.decision,
        }
        for one in compare(study, HEADLINE)
        if one.gap.metric == TEST and one.gap.differences
    ]
    alone = ", ".join(f"{spec} {text} %" for spec, text in accuracies.items() if spec.family == "cnn")
    table = _markdown(pd.DataFrame(rows)) if rows else "No pair of twins is here yet."
    return "\n\n".join(filter(None, (table, f"Beside them: {alone}." if alone else "")))


def several_splits(dataset: str) -> Splits:
    """Return what was measured on several splits of a data set."""
    if found := conflict(paths.several_splits(dataset)):
        sys.exit("; ".join(found))
    sizes = read_json(paths.manifest("preprocess", dataset))["sizes"]
    return Splits.of_frame(pd.read_csv(paths.several_splits(dataset)), sizes)


def _splits() -> Iterator[Mapping[str, Any]]:
    """Yield what several splits say of each data set that has them."""
    for dataset in paths.datasets():
        if paths.several_splits(dataset).is_file():
            splits = several_splits(dataset)
            parts = [each.spread for each in splits.gaps]
            larger = [each.label for each, part in zip(splits.gaps, parts, strict=True) if part.split > part.rest]
            yield {
                "dataset": dataset,
                "count": len(splits.accuracies),
                "seeds": listed(sorted({str(len(each.values[0])) for each in splits.networks})),
                "table": _markdown(table(splits)),
                "words": "Between splits the gap moves more than between trainings: " + listed(larger) + "."
                if larger
                else "No gap moves more between splits than between trainings of one split.",
            }


def _verdicts(claims: Collection[Claim], verdicts: Mapping[str, Sequence[Verdict]]) -> str:
    """Return a row for each of these claims and each data set that measures it; what none measures in a sentence."""
    names = [claim.name for claim in claims]
    rows, unmeasured = list[dict[str, str]](), {claim.name: claim.statement for claim in claims}
    for dataset, found in verdicts.items():
        for verdict in found:
            if verdict.claim.name in names and verdict.contrast is not None:
                unmeasured.pop(verdict.claim.name, None)
                told = f"{told_outcome(verdict)}{f'; {verdict.advice}' if verdict.advice else ''}"
                rows.append(
                    {
                        "claim": verdict.claim.statement,
                        "data": dataset,
                        "number": figure_of(verdict),
                        "rests on": basis_of(verdict),
                        "verdict": told,
                    }
                )
    left = f"Not measured here: {' '.join(unmeasured.values())}" if unmeasured else ""
    return "\n\n".join(filter(None, (_markdown(pd.DataFrame(rows)) if rows else "", left)))


def _open(verdicts: Mapping[str, Sequence[Verdict]]) -> str:
    """Say which claims are decided on no data set."""
    decided = {verdict.claim.name: verdict.claim for found in verdicts.values() for verdict in found if verdict.decided}
    every = {verdict.claim.name: verdict.claim for found in verdicts.values() for verdict in found}
    opened = [claim.statement for name, claim in every.items() if name not in decided]
    return f"Of {counted(len(every), 'claim')} {len(opened)} are decided on no data set: {' '.join(opened)}"


def _markdown(frame: pd.DataFrame) -> str:
    return markdown(frame, text=TEXT)
