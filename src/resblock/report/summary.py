"""The report as Markdown, short enough for a pull request, with the few figures that git keeps beside it.

Whoever looks at the repository on the web sees the study here, without a clone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from resblock.core.files import write_text
from resblock.evaluation.score import HEADLINE
from resblock.report.material import Material, Picture, Section
from resblock.report.page import METHODS
from resblock.report.style import save_figure
from resblock.report.tables import markdown
from resblock.report.words import OTHER
from resblock.report.words import verdicts as said
from resblock.report.words.abstract import abstract, trouble
from resblock.report.words.answer import answer
from resblock.study.summary import Study
from resblock.study.verdicts import Verdict

SUMMARY, FIGURES = "summary.md", "summary"
# What git keeps of the pictures, and what a reader who does not see them is told.
SHOWN = {
    "depth": "Accuracy against depth",
    "gap": "Residual minus plain, against depth",
    "rebound": "How validation loss rebounds",
    "untrained": "Gradients before training, against depth",
}
TABLES = ("networks", f"gaps-{HEADLINE}", f"gaps-{OTHER}", "rebound-table", "recipes-table")  # the sections have more
DOTS = 100  # per inch: git keeps every version


def write_summary(folder: Path, material: Material, sections: Sequence[Section]) -> None:
    """Write the summary and its figures into `folder`."""
    (folder / FIGURES).mkdir(parents=True, exist_ok=True)  # DVC wants it there in an empty study too
    for picture in _shown(sections):
        save_figure(picture.figure, folder / FIGURES / f"{picture.name}.png", dots=DOTS)
    write_text(folder / SUMMARY, summarise(material, sections))


def summarise(material: Material, sections: Sequence[Section]) -> str:
    """Return the answer, the abstract, the sections that git keeps with their figures and tables, and the verdicts."""
    verdicts = said.verdicts_on(material)
    name = material.dataset.name
    parts = [
        f"# What the residual block buys on {name}, and how accuracy changes with depth\n",
        *_answer(material.study),
        "".join(f"- {part}\n" for part in abstract(material, verdicts)),
        *_warnings(material),
        *(part for section in sections for part in _section(section)),
        "## Verdicts\n",
        " ".join(filter(None, (said.STATISTICS, said.survival(verdicts)))) + "\n",
        markdown(_verdicts(verdicts), left=("measured", "rests on", "verdict")),
        f"[How it is measured]({METHODS}). `resblock run {name}` makes this again, with a page of all figures.\n",
    ]
    return "\n".join(parts)


def _answer(study: Study) -> Iterator[str]:
    plain, numbers = answer(study)
    yield from (f"**{plain}**\n" if plain else "", f"{numbers}\n" if numbers else "")


def _warnings(material: Material) -> Iterator[str]:
    for title, told in (
        ("Not all of the study is here", trouble(material.study)),
        ("Here, but left out", ". ".join(material.left_out)),
        ("These trainings were not made alike", ". ".join(material.mixtures)),
    ):
        if told:
            yield f"**{title}:** {told}.\n"


def _section(section: Section) -> Iterator[str]:
    """Yield a section's words, and what is shown of its pictures and tables; nothing where that is nothing."""
    pictures = [picture for picture in section.pictures if picture.name in SHOWN]
    tables = [table for table in section.tables if table.name in TABLES]
    if not pictures and not tables:
        return
    yield f"## {section.title}\n"
    yield f"{section.words}\n"
    for picture in pictures:
        yield f"![{SHOWN[picture.name]}]({FIGURES}/{picture.name}.png)\n"
        yield f"{picture.caption}\n"
    for table in tables:
        yield f"{table.caption}\n"
        yield markdown(table.frame)


def _verdicts(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "claim": f"{verdict.claim.statement} ({verdict.claim.source})",
                "measured": verdict.claim.measured,
                "figure [95 % interval]": said.figure_of(verdict),
                "rests on": "; ".join(filter(None, _basis(verdict))),
                "verdict": "; ".join(filter(None, (f"**{said.told_outcome(verdict)}**", verdict.advice))),
            }
            for verdict in verdicts
        ]
    )


def _basis(verdict: Verdict) -> Iterator[str]:
    if verdict.contrast:
        yield from (verdict.contrast.compared, said.basis_of(verdict), *verdict.contrast.remarks)


def _shown(sections: Sequence[Section]) -> list[Picture]:
    return [picture for section in sections for picture in section.pictures if picture.name in SHOWN]
