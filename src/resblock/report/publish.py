"""A report as files: the page, a summary for pull requests, every figure and its numbers."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from resblock.core.files import write_json, write_text
from resblock.evaluation.score import HEADLINE, Status, write_scores
from resblock.report import words
from resblock.report.material import Material, Section
from resblock.report.page import PAGE, compose, data_file, figure_file, render
from resblock.report.style import save_figure
from resblock.report.tables import markdown

SUMMARY, METRICS, VERDICTS = "summary.md", "metrics.json", "data/verdicts.csv"
HERE: tuple[Status, ...] = ("finished", "diverged")


def publish(folder: Path, material: Material) -> list[Section]:
    """Write the whole report into `folder`; return its sections.

    All but the page and the folder ``timing`` is the same in every repeat on one machine.
    """
    sections = compose(material)
    write_text(folder / PAGE, render(material, sections))
    write_text(folder / SUMMARY, summarise(material, sections))
    _write_csv(folder / VERDICTS, words.verdict_frame(words.verdicts_on(material)))
    (folder / "figures").mkdir(parents=True, exist_ok=True)  # DVC wants every out there, in an empty study too
    (folder / "timing").mkdir(exist_ok=True)
    for section in sections:
        for picture in section.pictures:
            save_figure(picture.figure, folder / figure_file(picture))
            _write_csv(folder / data_file(picture), picture.data)
        for table in section.tables:
            _write_csv(folder / data_file(table), table.frame if table.data is None else table.data)
    write_json(folder / METRICS, material.study.metrics())
    # What `dvc plots` draws and people plot by themselves: what is missing or foreign would be a point at zero.
    write_scores(folder, [score for score in material.study.scores if score.status in HERE])
    return sections


def summarise(material: Material, sections: list[Section]) -> str:
    """Return the report in Markdown, short enough for a pull request: abstract, verdicts, networks and gaps."""
    verdicts = words.verdicts_on(material)
    parts = [f"# resblock: {material.dataset.name}\n", " ".join(words.abstract(material, verdicts)) + "\n"]
    if trouble := words.trouble(material.study):
        parts.append(f"**Not all of the study is here:** {trouble}.\n")
    if material.left_out:
        parts.append(f"**Here, but left out:** {'. '.join(material.left_out)}.\n")
    if material.mixtures:
        parts.append(f"**These trainings were not made alike:** {'. '.join(material.mixtures)}.\n")
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
    told = " ".join(filter(None, (words.STATISTICS, words.survival(verdicts))))
    parts += ["## Verdicts\n", f"{told}\n", markdown(shown, left=("measured", "rests on", "verdict"))]
    tables = {table.name: table for section in sections for table in section.tables}
    for name, title in (("networks", "Networks"), (f"gaps-{HEADLINE}", "Residual minus plain")):
        if name in tables:
            parts += [f"## {title}\n", f"{tables[name].caption}\n", markdown(tables[name].frame)]
    return "\n".join(parts)


def _write_csv(path: Path, frame: pd.DataFrame) -> None:
    write_text(path, frame.to_csv(index=False, lineterminator="\n"))
