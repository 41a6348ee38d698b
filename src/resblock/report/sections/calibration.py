"""Whether networks are right as often as they say."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from resblock.core.spec import ModelSpec
from resblock.evaluation.calibration import BINS, COLDEST, HOTTEST, Calibration, ReliabilityBin
from resblock.evaluation.rows import rows_frame
from resblock.evaluation.score import HEADLINE, Statistics
from resblock.report.material import Material, Picture, Section, Table
from resblock.report.style import INK, SOFT, house_style, look, new_figure
from resblock.report.words import KINDS, OTHER
from resblock.study.interval import t_interval
from resblock.study.numbers import number

WORDS = (
    f"Expected calibration error over {BINS} bins of equal width (Guo et al. 2017): the mean distance between how sure "
    "a network is of its answer and how often that answer is right. One temperature per training, fitted on "
    "validation images, divides its logits; it moves no answer. Above 1 the network was too sure of itself, below 1 "
    "not enough. On few images the error is above zero even of a network that is right as often as it says: its floor "
    "stands beside it."
)
NEAR = 0.01  # of a temperature to its bound, which the search comes close to


def section(material: Material) -> Section | None:
    """Show reliability diagrams and calibration errors before and after temperature scaling."""
    rows = [row for row in material.results.calibrations if row.statistics == HEADLINE]
    bins = [row for row in material.results.reliability if row.statistics == HEADLINE]
    if not rows:
        return None
    caption = (
        "Accuracy against confidence on test images, all seeds together; each mark's area grows with its share of the "
        "images. On the diagonal a network is right as often as it says. Filled: its own logits; hollow: after "
        f"temperature scaling. Batch-norm statistics {KINDS[HEADLINE]}."
    )
    note = (
        f"Means over seeds ± half of the 95 % t-interval, on test images, statistics {KINDS[HEADLINE]} unless the "
        "column says otherwise. Floor: the mean error of a perfectly calibrated network that is as sure of each of "
        "these images."
    ) + _at_bounds(rows)
    return Section(
        "calibration",
        "Calibration",
        WORDS,
        [Picture("calibration", caption, draw(bins), rows_frame(ReliabilityBin, bins))],
        [
            Table(
                "calibration-table",
                note,
                _table(material.results.calibrations),
                rows_frame(Calibration, material.results.calibrations),
            )
        ],
    )


def _at_bounds(rows: Sequence[Calibration]) -> str:
    """Say how many temperatures have no value of their own, so that nobody reads one into them."""
    bounds = (("coldest", COLDEST, "every validation image is right"), ("hottest", HOTTEST, "its answers tell nothing"))
    counts = [
        (sum(math.isclose(row.temperature, bound, rel_tol=NEAR) for row in rows), name, bound, why)
        for name, bound, why in bounds
    ]
    return "".join(
        f" {count} of {len(rows)} temperatures ended at the {name} allowed, {bound:g}: if {why}, there is no best one."
        for count, name, bound, why in counts
        if count
    )


def draw(bins: Sequence[ReliabilityBin]) -> Figure:
    """Draw one reliability diagram per network."""
    variants = list(dict.fromkeys(row.variant for row in bins))
    across = min(len(variants), 4)
    down = -(-len(variants) // across)
    with house_style():
        figure = new_figure(2.3 * across + 0.5, 2.3 * down + 0.4)
        axes = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
        for axis, variant in zip(axes.flat, variants, strict=False):
            axis.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8)
            style = look(ModelSpec.parse(variant))
            for scaling, fill in (("raw", style["color"]), ("scaled", "none")):
                mine = [row for row in bins if (row.variant, row.scaling) == (variant, scaling)]
                images, confidence, accuracy = _pool(mine)
                sizes = 4 + 120 * np.sqrt(images / images.sum())
                edge = style["color"] if scaling == "raw" else INK
                axis.scatter(
                    confidence,
                    accuracy,
                    s=sizes,
                    facecolors=fill,
                    edgecolors=edge,
                    marker=style["marker"],
                    linewidths=0.8,
                    clip_on=False,
                )
            axis.set_title(variant)
            axis.set_aspect("equal")
            axis.set_xlim(-0.03, 1.03)
            axis.set_ylim(-0.03, 1.03)
            for side in (axis.xaxis, axis.yaxis):
                side.set_major_formatter(PercentFormatter(1.0, decimals=0))
        for axis in list(axes.flat)[len(variants) :]:
            axis.set_visible(False)
        for axis in axes[:, 0]:
            axis.set_ylabel("accuracy")
        for axis in list(axes.flat)[max(0, len(variants) - across) : len(variants)]:
            axis.set_xlabel("confidence")
            axis.tick_params(labelbottom=True)
    return figure


def _pool(rows: Sequence[ReliabilityBin]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return images, confidence and accuracy of the bins of all seeds together, without the empty ones."""
    frame = rows_frame(ReliabilityBin, [row for row in rows if row.images])
    sums = frame.assign(confidence=frame.confidence * frame.images, accuracy=frame.accuracy * frame.images)
    total = sums.groupby("bin")[["images", "confidence", "accuracy"]].sum()
    images = total["images"].to_numpy(float)
    return images, total["confidence"].to_numpy() / images, total["accuracy"].to_numpy() / images


def _table(rows: Sequence[Calibration]) -> pd.DataFrame:
    columns: dict[str, tuple[str, float, int, Statistics]] = {
        "ECE, %": ("ece", 100, 1, HEADLINE),
        "floor, %": ("ece_floor", 100, 1, HEADLINE),
        "ECE scaled, %": ("ece_scaled", 100, 1, HEADLINE),
        "floor scaled, %": ("ece_floor_scaled", 100, 1, HEADLINE),
        f"ECE {KINDS[OTHER]}, %": ("ece", 100, 1, OTHER),
        "temperature": ("temperature", 1, 2, HEADLINE),
        "loss": ("loss", 1, 3, HEADLINE),
        "loss scaled": ("loss_scaled", 1, 3, HEADLINE),
    }
    return pd.DataFrame(
        [
            {"network": variant}
            | {
                label: number(t_interval([getattr(row, name) for row in members]), scale, digits)
                for label, (name, scale, digits, statistics) in columns.items()
                for members in [[row for row in rows if (row.variant, row.statistics) == (variant, statistics)]]
            }
            for variant in dict.fromkeys(row.variant for row in rows)
        ]
    )
