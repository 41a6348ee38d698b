"""Where networks err: classes, single images, and whether seeds err alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from resblock.evaluation.rows import rows_frame
from resblock.evaluation.score import Confusion
from resblock.report.material import Material, Picture, Section, Table
from resblock.report.style import house_style, new_figure
from resblock.report.tables import NONE
from resblock.study.agreement import SHOWN, Agreement, Mistake
from resblock.study.interval import t_interval


def section(material: Material) -> Section | None:
    """Show confusions, accuracy per class, the surest mistakes, and agreement between seeds."""
    results, classes = material.results, material.dataset.classes
    if not results.confusions:
        return None
    pictures = [
        Picture(
            "confusion",
            "Per cent of each true class on the test images, all seeds together, statistics as trained.",
            draw_confusions(results.confusions, classes),
            _confusion_data(results.confusions, classes),
        )
    ]
    if results.mistakes:
        caption = (
            f"The {SHOWN} mistakes that each network's seeds were surest of, each image once: what it is, what it was "
            "taken for, and how sure the network was."
        )
        data = rows_frame(Mistake, results.mistakes).drop(columns="image")
        pictures.append(Picture("mistakes", caption, draw_mistakes(results.mistakes, classes), data))
    note = "Per cent of each class's test images, mean over seeds, statistics as trained."
    tables = [Table("classes", note, _classes(results.confusions, classes))]
    if results.agreements:
        note = (
            "Two seeds of one network on the test images, mean over pairs. Pairs share seeds, so they carry no "
            "interval. Networks that err by chance disagree when both are wrong; agreement there points at the images."
        )
        data = rows_frame(Agreement, results.agreements)
        tables.append(Table("agreement", note, _agreement(results.agreements), data))
    return Section("errors", "Where networks err, and whether seeds agree", "", pictures, tables)


def draw_confusions(confusions: Sequence[Confusion], classes: Sequence[str]) -> Figure:
    """Draw one matrix per network, summed over seeds, each row in per cent of its class."""
    variants = list(dict.fromkeys(confusion.variant for confusion in confusions))
    across = min(len(variants), 4)
    down = -(-len(variants) // across)
    with house_style():
        figure = new_figure(2.6 * across + 0.6, 2.7 * down + 0.3)
        axes = figure.subplots(down, across, squeeze=False)
        for axis, variant in zip(axes.flat, variants, strict=False):
            counts = sum(c.counts for c in confusions if c.variant == variant)
            _confusion_panel(axis, np.asarray(counts), classes)
            axis.set_title(variant)
        for axis in list(axes.flat)[len(variants) :]:
            axis.set_visible(False)
        for axis in axes[:, 0]:
            axis.set_ylabel("true")
    return figure


def draw_mistakes(mistakes: Sequence[Mistake], classes: Sequence[str]) -> Figure:
    """Draw the mistakes as pictures, a row per network, the surest first."""
    variants = list(dict.fromkeys(mistake.variant for mistake in mistakes))
    with house_style():
        figure = new_figure(0.85 * SHOWN + 1, 1.15 * len(variants) + 0.2)
        axes = figure.subplots(len(variants), SHOWN, squeeze=False)
        for row, variant in zip(axes, variants, strict=True):
            mine = [mistake for mistake in mistakes if mistake.variant == variant]
            row[0].set_ylabel(variant, rotation=0, ha="right", va="center", fontsize=8)
            for axis in row:
                axis.set_xticks([])
                axis.set_yticks([])
                axis.grid(visible=False)
                for side in axis.spines.values():
                    side.set_visible(False)
            for axis, mistake in zip(row, mine, strict=False):
                image = mistake.image
                axis.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=255)
                words = f"{classes[mistake.true]} → {classes[mistake.predicted]}\n{100 * mistake.confidence:.1f} %"
                axis.set_title(words, fontsize=6, pad=2)
    return figure


def _confusion_panel(axis: Axes, counts: np.ndarray, classes: Sequence[str]) -> None:
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    axis.grid(visible=False)
    for i, j in np.ndindex(*shares.shape):
        if shares[i, j] >= 0.5:  # smaller shares would print as 0
            ink = "white" if shares[i, j] > 50 else "black"
            axis.text(j, i, f"{shares[i, j]:.0f}", ha="center", va="center", fontsize=5, color=ink)
    axis.set_xticks(range(len(classes)), classes, rotation=90, fontsize=6)
    axis.set_yticks(range(len(classes)), classes, fontsize=6)
    axis.set_xlabel("taken for", fontsize=7)


def _confusion_data(confusions: Sequence[Confusion], classes: Sequence[str]) -> pd.DataFrame:
    rows = [
        {"variant": c.variant, "seed": c.seed, "true": true, "taken_for": taken, "images": int(c.counts[i, j])}
        for c in confusions
        for i, true in enumerate(classes)
        for j, taken in enumerate(classes)
    ]
    return pd.DataFrame(rows)


def _classes(confusions: Sequence[Confusion], classes: Sequence[str]) -> pd.DataFrame:
    rows: list[dict[str, str]] = []
    for variant in dict.fromkeys(confusion.variant for confusion in confusions):
        mine = [confusion.per_class_accuracy for confusion in confusions if confusion.variant == variant]
        shares = sum(mine[1:], mine[0]) / len(mine)
        rows.append(
            {"network": variant} | {name: f"{100 * share:.1f}" for name, share in zip(classes, shares, strict=True)}
        )
    return pd.DataFrame(rows)


def _agreement(agreements: Sequence[Agreement]) -> pd.DataFrame:
    rows: list[dict[str, object]] = []
    for variant in dict.fromkeys(agreement.variant for agreement in agreements):
        mine = [agreement for agreement in agreements if agreement.variant == variant]
        wrong = sum(agreement.both_wrong for agreement in mine)
        alike = sum(agreement.both_wrong * agreement.agree_when_wrong for agreement in mine if agreement.both_wrong)
        rows.append(
            {
                "network": variant,
                "pairs of seeds": str(len(mine)),
                "agree, %": f"{100 * t_interval([agreement.agree for agreement in mine]).mean:.1f}",
                "both wrong, images a pair": f"{wrong / len(mine):.1f}",
                "agree when both wrong, %": f"{100 * alike / wrong:.0f}" if wrong else NONE,
            }
        )
    return pd.DataFrame(rows)
