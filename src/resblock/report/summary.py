"""The report as Markdown, short enough for a pull request, with the few figures that git keeps beside it.

Whoever looks at the repository on the web sees the study here, without a clone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from resblock.core.files import write_text
from resblock.evaluation.score import HEADLINE
from resblock.report import words
from resblock.report.material import Material, Picture, Section
from resblock.report.page import METHODS
from resblock.report.style import save_figure
from resblock.report.tables import markdown

SUMMARY, FIGURES = "summary.md", "summary"
# What git keeps of the pictures, and what a reader who does not see them is told.
SHOWN = {
    "depth": "Accuracy against depth",
    "gap": "Residual minus plain, against depth",
    "rebound": "How validation loss rebounds",
    "untrained": "Gradients before training, against depth",
}
DOTS = 100  # per inch: git keeps every version


def write_summary(folder: Path, material: Material, sections: Sequence[Section]) -> None:
    """Write the summary and its figures into `folder`."""
    (folder / FIGURES).mkdir(parents=True, exist_ok=True)  # DVC wants it there in an empty study too
    for picture in _shown(sections):
        save_figure(picture.figure, folder / FIGURES / f"{picture.name}.png", dots=DOTS)
    write_text(folder / SUMMARY, summarise(material, sections))


def summarise(material: Material, sections: Sequence[Section]) -> str:
    """Return the answer, the abstract, networks and gaps with their figures, and the verdicts."""
    verdicts = words.verdicts_on(material)
    parts = [f"# What the residual block buys on {material.dataset.name}\n"]
    parts += [f"{words.answer(material.study)}\n", " ".join(words.abstract(material, verdicts)) + "\n"]
    if trouble := words.trouble(material.study):
        parts.append(f"**Not all of the study is here:** {trouble}.\n")
    if material.left_out:
        parts.append(f"**Here, but left out:** {'. '.join(material.left_out)}.\n")
    if material.mixtures:
        parts.append(f"**These trainings were not made alike:** {'. '.join(material.mixtures)}.\n")
    pictures = {picture.name: picture for picture in _shown(sections)}
    tables = {table.name: table for section in sections for table in section.tables}
    for title, picture, table in (
        ("Networks", "depth", "networks"),
        ("Residual minus plain", "gap", f"gaps-{HEADLINE}"),
        ("The rebound", "rebound", ""),
        ("Gradients before training", "untrained", ""),
    ):
        if picture in pictures or table in tables:
            parts.append(f"## {title}\n")
        if picture in pictures:
            parts += [f"![{SHOWN[picture]}]({FIGURES}/{picture}.png)\n", f"{pictures[picture].caption}\n"]
        if table in tables:
            parts += [f"{tables[table].caption}\n", markdown(tables[table].frame)]
    told = " ".join(filter(None, (words.STATISTICS, words.survival(verdicts))))
    shown = pd.DataFrame(
        [
            {
                "claim": f"{verdict.claim.statement} ({verdict.claim.source})",
                "measured": verdict.claim.measured,
                "figure [95 % interval]": words.figure_of(verdict),
                "rests on": "; ".join(
                    filter(None, (words.basis_of(verdict), *(verdict.contrast.remarks if verdict.contrast else ())))
                ),
                "verdict": "; ".join(filter(None, (f"**{words.outcome_of(verdict)}**", verdict.advice))),
            }
            for verdict in verdicts
        ]
    )
    parts += ["## Verdicts\n", f"{told}\n", markdown(shown, left=("measured", "rests on", "verdict"))]
    name = material.dataset.name
    again = f"`resblock run {name}` makes this again, with a page of all figures."
    parts.append(f"[How it is measured]({METHODS}). {again}\n")
    return "\n".join(parts)


def _shown(sections: Sequence[Section]) -> list[Picture]:
    return [picture for section in sections for picture in section.pictures if picture.name in SHOWN]
