"""A report as files: the page, a summary for pull requests, every figure and its numbers."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from resblock.core.files import write_json, write_text
from resblock.evaluation.score import Status, write_scores
from resblock.report.material import Material, Section
from resblock.report.page import compose, data_file, figure_file, render
from resblock.report.style import save_figure
from resblock.report.summary import write_summary
from resblock.report.template import PAGE
from resblock.report.words.verdicts import verdict_frame, verdicts_on

METRICS, VERDICTS = "metrics.json", "data/verdicts.csv"
HERE: tuple[Status, ...] = ("finished", "diverged")


def publish(folder: Path, material: Material) -> list[Section]:
    """Write the whole report into `folder`; return its sections.

    All but the page and the folder ``timing`` is the same in every repeat on one machine.
    """
    sections = compose(material)
    write_text(folder / PAGE, render(material, sections))
    write_summary(folder, material, sections)
    _write_csv(folder / VERDICTS, verdict_frame(verdicts_on(material)))
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


def _write_csv(path: Path, frame: pd.DataFrame) -> None:
    write_text(path, frame.to_csv(index=False, lineterminator="\n"))
