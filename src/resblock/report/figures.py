"""The pictures of a study. Each takes results and returns a figure; nothing is read or written here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from resblock.evaluation.score import Confusion
from resblock.evaluation.study import CONFIDENCE, Gap, Study, Summary
from resblock.report.style import COLORS, DASHES, MARKERS, house_style, new_figure
from resblock.spec import FAMILIES, ModelSpec
from resblock.training.run import EpochRow, curve_frame

Curves = Mapping[ModelSpec, Mapping[int, Sequence[EpochRow]]]  # network to seed to epochs

ACCURACIES = {
    "accuracy": "training accuracy",
    "validation_accuracy": "validation accuracy,\nstatistics as trained",
    "validation_accuracy_reestimated": "validation accuracy,\nstatistics re-estimated",
}
LOSSES = {
    "loss": "training loss",
    "validation_loss": "validation loss,\nstatistics as trained",
    "validation_loss_reestimated": "validation loss,\nstatistics re-estimated",
}


DODGE = {
    "cnn": 0.0,
    "plain": -0.3,
    "residual": 0.3,
    "preact": 0.9,
    "bottleneck": 1.5,
}  # layers aside, so that the bars of twins do not hide each other


def depth_against_accuracy(study: Study) -> Figure:
    """Draw accuracy over depth on test and training images: every seed, the mean, and its t-interval."""
    with house_style():
        figure = new_figure(9, 6.4)
        axes = figure.subplots(2, 2, sharex=True, sharey="row")
        for row, (suffix, statistics) in enumerate(
            (("", "batch-norm statistics as trained"), ("_reestimated", "statistics re-estimated"))
        ):
            for column, split in enumerate(("test", "train")):
                axis = axes[row, column]
                _depth_panel(axis, study, f"{split}_accuracy{suffix}")
                axis.set_title(f"{split} images, {statistics}")
        for axis in axes[1]:
            axis.set_xlabel("depth (weight layers)")
        for axis in axes[:, 0]:
            axis.set_ylabel("accuracy")
        _family_legend(figure, axes[0, 0], f"points: seeds; bars: {CONFIDENCE:.0%} t-interval of the mean")
    return figure


def gaps(study: Study, metrics: Sequence[str]) -> Figure:
    """Draw the paired residual-minus-plain gap over depth, one panel per metric."""
    with house_style():
        figure = new_figure(4.5 * len(metrics), 3.2)
        axes = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        for axis, metric in zip(axes, metrics, strict=True):
            _gap_panel(axis, study.gaps(metric))
            axis.set_title(metric.replace("_reestimated", ", re-estimated").replace("_", " "))
            axis.set_xlabel("depth (weight layers)")
        axes[0].set_ylabel("residual − plain (points)")
    return figure


def learning_curves(curves: Curves, columns: Mapping[str, str]) -> Figure:
    """Draw `columns` of the curves over epochs: a row for each, a column per depth, every seed thin, the mean thick."""
    depths = sorted({(spec.family == "cnn", spec.depth) for spec in curves}, key=lambda pair: (not pair[0], pair[1]))
    with house_style():
        figure = new_figure(2.4 * max(len(depths), 2) + 0.8, 2.0 * len(columns) + 0.6)
        axes = figure.subplots(len(columns), len(depths), sharex=True, sharey="row", squeeze=False)
        for across, (is_cnn, depth) in enumerate(depths):
            shown = {s: c for s, c in curves.items() if s.depth == depth and (s.family == "cnn") == is_cnn}
            axes[0, across].set_title(" / ".join(spec.name for spec in shown))
            for down, (column, label) in enumerate(columns.items()):
                axis = axes[down, across]
                for spec, seeds in shown.items():
                    _curve_lines(axis, spec, list(seeds.values()), column)
                if across == 0:
                    axis.set_ylabel(label)
                if "accuracy" in column:
                    axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
                else:
                    axis.set_yscale("log")
                axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
        for axis in axes[-1]:
            axis.set_xlabel("epoch")
        families = {spec.family for spec in curves}
        handles = [_proxy(axes[0, 0], family) for family in FAMILIES if family in families]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), title="thin: seeds; thick: mean")
    return figure


def run_curves(curves: Mapping[str, Sequence[EpochRow]]) -> Figure:
    """Draw single trainings, a row for each: loss and accuracy in training and validation, by both statistics."""
    lines = {
        "training": ("{}", "#444444", "solid"),
        "validation, statistics as trained": ("validation_{}", "#D55E00", "solid"),
        "validation, statistics re-estimated": ("validation_{}_reestimated", "#0072B2", (0, (4, 2))),
    }
    with house_style():
        figure = new_figure(8, 2.8 * len(curves) + 0.4)
        axes = figure.subplots(len(curves), 2, sharex="col", sharey="col", squeeze=False)
        for row, (name, curve) in zip(axes, curves.items(), strict=True):
            frame = curve_frame(curve)
            for axis, quantity in zip(row, ("loss", "accuracy"), strict=True):
                for label, (column, color, dashes) in lines.items():
                    values = frame[column.format(quantity)]
                    axis.plot(frame["epoch"], values, color=color, linestyle=dashes, label=label, marker=".")
                axis.set_title(f"{name}: {quantity}")
                axis.xaxis.set_major_locator(MaxNLocator(integer=True))
            row[1].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        for axis in axes[-1]:
            axis.set_xlabel("epoch")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def confusion_matrices(confusions: Sequence[Confusion], classes: Sequence[str]) -> Figure:
    """Draw one matrix per network, summed over seeds, each row in per cent of its class."""
    variants = list(dict.fromkeys(confusion.variant for confusion in confusions))
    across = min(len(variants), 4)
    down = -(-len(variants) // across)
    with house_style():
        figure = new_figure(2.6 * across + 0.6, 2.7 * down + 0.3)
        axes = np.atleast_1d(figure.subplots(down, across, squeeze=False)).ravel()
        for axis, variant in zip(axes, variants, strict=False):
            counts = sum(c.counts for c in confusions if c.variant == variant)
            _confusion_panel(axis, np.asarray(counts), classes)
            axis.set_title(variant)
        for axis in axes[len(variants) :]:
            axis.set_visible(False)
        for axis in axes[::across]:
            axis.set_ylabel("true")
    return figure


def _depth_panel(axis: Axes, study: Study, metric: str) -> None:
    for family in FAMILIES:
        members = sorted((s for s in study.summaries if s.spec.family == family), key=lambda s: s.spec.depth)
        members = [summary for summary in members if summary.finished]
        if not members:
            continue
        style: dict[str, Any] = {"color": COLORS[family], "marker": MARKERS[family]}
        depths = [summary.spec.depth + DODGE[family] for summary in members]
        for depth, summary in zip(depths, members, strict=True):
            values = summary.values(metric)
            axis.plot([depth] * len(values), values, linestyle="none", alpha=0.35, markersize=4, **style)
        intervals = [summary.interval(metric) for summary in members]
        axis.errorbar(
            depths,
            [interval.mean for interval in intervals],
            yerr=np.nan_to_num([interval.half_width for interval in intervals]),
            linestyle=DASHES[family],
            capsize=3,
            markersize=6,
            label=family,
            **style,
        )
    axis.set_xticks(sorted({summary.spec.depth for summary in study.summaries}))
    axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))


def _gap_panel(axis: Axes, gap_list: Sequence[Gap]) -> None:
    axis.axhline(0, color="#444444", linewidth=0.8)
    for gap in gap_list:
        points = [100 * difference for difference in gap.differences.values()]
        axis.plot([gap.depth] * len(points), points, "^", color=COLORS["residual"], alpha=0.35, markersize=4)
        interval = gap.interval
        half = 0.0 if np.isnan(interval.half_width) else interval.half_width
        axis.errorbar(
            [gap.depth], [100 * interval.mean], yerr=[100 * half], fmt="^", color=COLORS["residual"], capsize=3
        )
    axis.set_xticks([gap.depth for gap in gap_list])


def _curve_lines(axis: Axes, spec: ModelSpec, seeds: Sequence[Sequence[EpochRow]], column: str) -> None:
    frames = [curve_frame(curve).set_index("epoch")[column] for curve in seeds]
    for frame in frames:
        axis.plot(frame.index, frame, color=COLORS[spec.family], linewidth=0.7, alpha=0.4)
    mean = sum(frames[1:], frames[0]) / len(frames)
    axis.plot(mean.index, mean, color=COLORS[spec.family], linestyle=DASHES[spec.family], linewidth=1.6)


def _confusion_panel(axis: Axes, counts: np.ndarray, classes: Sequence[str]) -> None:
    shares = 100 * counts / counts.sum(axis=1, keepdims=True)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    axis.grid(visible=False)
    for i, j in np.ndindex(*shares.shape):
        if shares[i, j] >= 0.5:  # smaller shares would print as 0
            ink = "white" if shares[i, j] > 50 else "black"
            axis.text(j, i, f"{shares[i, j]:.0f}", ha="center", va="center", fontsize=5, color=ink)
    axis.set_xticks(range(len(classes)), classes, rotation=90, fontsize=6)
    axis.set_yticks(range(len(classes)), classes, fontsize=6)
    axis.set_xlabel("taken for", fontsize=7)


def _proxy(axis: Axes, family: str) -> Any:
    return axis.plot([], [], color=COLORS[family], linestyle=DASHES[family], label=family)[0]


def _family_legend(figure: Figure, axis: Axes, title: str) -> None:
    handles, labels = axis.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=len(handles), title=title)


def finished_summaries(study: Study) -> list[Summary]:
    """Return the networks that have at least one finished seed."""
    return [summary for summary in study.summaries if summary.finished]
