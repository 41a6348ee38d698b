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
from resblock.report.palette import COLORS
from resblock.report.style import house_style, new_figure
from resblock.report.tables import shown_name
from resblock.study.agreement import SHOWN, Agreement, Mistake
from resblock.study.interval import t_interval
from resblock.study.numbers import NONE

MOST_CLASSES = 20  # whose matrix a reader can take in
WORST = 20  # pairs shown of more
EXTREMES = 5  # classes named at either end
WORDS = "All of this section is with batch-norm statistics as trained; accuracies on top of the page are re-estimated."


def section(material: Material) -> Section | None:
    """Show confusions, accuracy per class, the surest mistakes, and agreement between seeds."""
    results, classes = material.results, material.dataset.classes
    if not results.confusions:
        return None
    pictures = [_confusion(results.confusions, classes)]
    if results.mistakes:
        caption = (
            f"The {SHOWN} mistakes that each network's seeds were surest of, each image once: what it is, what it was "
            "taken for, and how sure the network was."
        )
        data = rows_frame(Mistake, results.mistakes).drop(columns="image")
        pictures.append(Picture("mistakes", caption, draw_mistakes(results.mistakes, classes), data))
    note = "Per cent of each class's test images, mean over seeds."
    if len(classes) <= MOST_CLASSES:
        tables = [Table("classes", note, _classes(results.confusions, classes))]
    else:
        shown = f"{note} Of {len(classes)} classes, the {EXTREMES} that were recognised worst and best."
        data = _class_data(results.confusions, classes)
        tables = [Table("classes", shown, _extremes(results.confusions, classes), data)]
    if results.agreements:
        note = (
            "Two seeds of one network on the test images, mean over pairs. Pairs share seeds, so they carry no "
            "interval. Networks that err by chance disagree when both are wrong; agreement there points at the images."
        )
        data = rows_frame(Agreement, results.agreements)
        tables.append(Table("agreement", note, _agreement(results.agreements), data))
    return Section("errors", "Where networks err, and whether seeds agree", WORDS, pictures, tables)


def _confusion(confusions: Sequence[Confusion], classes: Sequence[str]) -> Picture:
    """Return the confusions as matrices or, of many classes, as the pairs that were confused most."""
    name, end = "confusion", "on the test images, all seeds together."
    if len(classes) <= MOST_CLASSES:
        figure, data = draw_confusions(confusions, classes), _confusion_data(confusions, classes)
        return Picture(name, f"Per cent of each true class {end}", figure, data)
    caption = (
        f"The {WORST} pairs of classes that were confused most often, of {len(classes) * (len(classes) - 1):,}: true "
        f"class → what it was taken for, in per cent of the true class {end}"
    )
    data = _confusion_data(confusions, classes)
    return Picture(
        name, caption, draw_pairs(confusions, classes), data[(data.images > 0) & (data.true != data.taken_for)]
    )


def draw_pairs(confusions: Sequence[Confusion], classes: Sequence[str]) -> Figure:
    """Draw for each network a bar per pair of classes, the most confused first."""
    variants = list(dict.fromkeys(confusion.variant for confusion in confusions))
    across = min(len(variants), 3)
    down = -(-len(variants) // across)
    with house_style():
        figure = new_figure(3.6 * across, (0.17 * WORST + 0.6) * down)
        axes = figure.subplots(down, across, squeeze=False)
        for axis, variant in zip(axes.flat, variants, strict=False):
            pairs = worst_pairs(np.asarray(sum(c.counts for c in confusions if c.variant == variant)))
            names = [f"{shown_name(classes[true])} → {shown_name(classes[taken])}" for true, taken, _ in pairs]
            axis.barh(
                range(len(pairs)), [100 * share for _, _, share in pairs], color=COLORS[variant.partition("-")[0]]
            )
            axis.set_yticks(range(len(pairs)), names, fontsize=6)
            axis.invert_yaxis()
            axis.grid(visible=False, axis="y")
            axis.set_title(variant)
        for axis in list(axes.flat)[len(variants) :]:
            axis.set_visible(False)
        for axis in axes[-1]:
            axis.set_xlabel("per cent of the true class", fontsize=7)
    return figure


def worst_pairs(counts: np.ndarray, most: int = WORST) -> list[tuple[int, int, float]]:
    """Return true class, predicted class and share of the true class of the `most` confused pairs, the worst first.

    `counts` is int (true class, predicted class). Equally confused pairs stand in the order of classes.
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(shares, 0)
    order = np.argsort(-shares, axis=None, kind="stable")[:most]
    pairs = [(int(place) // len(shares), int(place) % len(shares)) for place in order]
    return [(true, taken, float(shares[true, taken])) for true, taken in pairs if shares[true, taken] > 0]


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
        figure = new_figure(0.85 * SHOWN + 1, 1.25 * len(variants) + 0.2)
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
                true, taken = (shown_name(classes[which], 14) for which in (mistake.true, mistake.predicted))
                # A line each: names of 14 letters do not fit beside one another, and some are read from the right.
                words = f"{true}\n→ {taken}\n{100 * mistake.confidence:.1f} %"
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
    names = [shown_name(name, 14) for name in classes]
    axis.set_xticks(range(len(names)), names, rotation=90, fontsize=6)
    axis.set_yticks(range(len(names)), names, fontsize=6)
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
    rows = [
        [variant, *(NONE if np.isnan(share) else f"{100 * share:.1f}" for share in _shares(confusions, variant))]
        for variant in dict.fromkeys(confusion.variant for confusion in confusions)
    ]
    return pd.DataFrame(rows, columns=["network", *classes])


def _shares(confusions: Sequence[Confusion], variant: str) -> np.ndarray:
    """Return the mean over seeds of each class's accuracy, float (class,); NaN without test images."""
    return np.mean([each.per_class_accuracy for each in confusions if each.variant == variant], axis=0)


def _extremes(confusions: Sequence[Confusion], classes: Sequence[str]) -> pd.DataFrame:
    rows: list[dict[str, str]] = []
    for variant in dict.fromkeys(confusion.variant for confusion in confusions):
        shares = _shares(confusions, variant)
        order = [int(place) for place in np.argsort(shares, kind="stable") if not np.isnan(shares[place])]
        told = [f"{shown_name(classes[place])} {100 * shares[place]:.0f}" for place in order]
        rows.append(
            {
                "network": variant,
                "median class": f"{100 * np.nanmedian(shares):.1f}",
                "recognised worst": ", ".join(told[:EXTREMES]),
                "recognised best": ", ".join(told[: -EXTREMES - 1 : -1]),
            }
        )
    return pd.DataFrame(rows)


def _class_data(confusions: Sequence[Confusion], classes: Sequence[str]) -> pd.DataFrame:
    variants = dict.fromkeys(confusion.variant for confusion in confusions)
    columns = {variant: _shares(confusions, variant) for variant in variants}
    return pd.DataFrame({"class": classes, **columns})


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
