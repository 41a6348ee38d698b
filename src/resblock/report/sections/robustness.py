"""How accuracy falls on images made worse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from resblock.core.spec import ModelSpec
from resblock.evaluation.corruption import SEVERITIES, Robustness, mean_by_severity
from resblock.evaluation.rows import rows_frame
from resblock.report.figures import network_line
from resblock.report.material import Material, Picture, Section, Table
from resblock.report.style import house_style, new_figure, shades
from resblock.report.tables import percent
from resblock.study.interval import t_interval
from resblock.study.summary import rounding_among

WORDS = (
    "The same test images under five corruptions at five severities: Gaussian noise and blur, less contrast, more "
    "brightness, and coarser pixels. These are our own small, seeded functions; they are not CIFAR-10-C, and the two "
    "must not be compared. Batch-norm statistics are re-estimated on clean training images."
)


def section(material: Material) -> Section | None:
    """Show accuracy by corruption and severity."""
    rows = material.results.robustness
    if not rows:
        return None
    caption = (
        "Accuracy over severity, mean over seeds; severity 0 is the untouched images. Networks of one family share "
        "colour and marker; the deeper, the darker the line."
    )
    images = rows[0].images
    note = (
        f"Per cent of {images:,} test images, mean over seeds ± half of the 95 % t-interval; columns are means "
        "over severities. All: over all corruptions and severities."
    )
    return Section(
        "robustness",
        "Robustness",
        WORDS,
        [Picture("robustness", caption, draw(rows), rows_frame(Robustness, rows))],
        [Table("robustness-table", note, _table(rows))],
    )


def draw(rows: Sequence[Robustness]) -> Figure:
    """Draw a panel per corruption, and one for their mean."""
    means = _means(rows)
    corruptions = [name for name in dict.fromkeys(row.corruption for row in rows) if name != "none"]
    specs = [ModelSpec.parse(name) for name in dict.fromkeys(row.variant for row in rows)]
    shade = shades(specs)
    severities = [0, *SEVERITIES]
    overall: dict[tuple[str, int], list[float]] = {}
    for (variant, _, severity), value in mean_by_severity(rows).items():
        overall.setdefault((variant, severity), []).append(value)
    with house_style():
        figure = new_figure(9, 5.6)
        axes = figure.subplots(2, 3, sharex=True, sharey=True)
        for axis, corruption in zip(axes.flat, [*corruptions, "mean"], strict=False):
            for spec in specs:
                if corruption == "mean":
                    values = [float(np.mean(overall[spec.name, severity])) for severity in severities]
                else:
                    values = [means[spec.name, corruption if severity else "none", severity] for severity in severities]
                network_line(axis, spec, severities, values, shade[spec])
            axis.set_title("mean of the five" if corruption == "mean" else corruption)
            axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            axis.set_ylim(0, 1.02)
        for axis in axes[-1]:
            axis.set_xlabel("severity")
        for axis in axes[:, 0]:
            axis.set_ylabel("accuracy")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 7), fontsize=8)
    return figure


def _means(rows: Sequence[Robustness]) -> Mapping[tuple[str, str, int], float]:
    groups: dict[tuple[str, str, int], list[float]] = {}
    for row in rows:
        groups.setdefault((row.variant, row.corruption, row.severity), []).append(row.accuracy)
    return {key: float(np.mean(values)) for key, values in groups.items()}


def _table(rows: Sequence[Robustness]) -> pd.DataFrame:
    corruptions = [name for name in dict.fromkeys(row.corruption for row in rows) if name != "none"]
    shown: list[dict[str, str]] = []
    for variant in dict.fromkeys(row.variant for row in rows):
        mine = [row for row in rows if row.variant == variant]
        columns = {"untouched": ["none"], "all": corruptions, **{name: [name] for name in corruptions}}
        shown.append(
            {"network": variant}
            | {
                label: percent(
                    t_interval(
                        [
                            float(np.mean([r.accuracy for r in mine if r.seed == seed and r.corruption in names]))
                            for seed in dict.fromkeys(row.seed for row in mine)
                        ],
                        rounding=rounding_among(mine[0].images),
                    )
                )
                for label, names in columns.items()
            }
        )
    return pd.DataFrame(shown)
