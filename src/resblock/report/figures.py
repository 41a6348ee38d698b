"""The pictures that several share: curves over epochs, a number over depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, PercentFormatter
from matplotlib.transforms import Bbox

from resblock.core.spec import ModelSpec
from resblock.core.training.run import EpochRow
from resblock.evaluation.rows import rows_frame
from resblock.report.style import (
    COLORS,
    DASHES,
    dash,
    dodged,
    house_style,
    look,
    new_figure,
    series,
    series_of,
)
from resblock.study.efficiency import Curves
from resblock.study.interval import t_interval
from resblock.study.measure import Measure

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

NARROW = 10.0  # of a scale's ends, as a ratio: below it finer ticks have room


def learning_curves(curves: Curves, columns: Mapping[str, str]) -> Figure:
    """Draw `columns` of the curves over epochs: a row for each, a column per depth, every seed thin, the mean thick.

    Rows of validation share a scale, so that their jumps can be compared.
    """
    depths = sorted({(spec.family == "cnn", spec.depth) for spec in curves}, key=lambda pair: (not pair[0], pair[1]))
    with house_style():
        figure = new_figure(2.4 * max(len(depths), 2) + 0.8, 2.0 * len(columns) + 0.6)
        axes = figure.subplots(len(columns), len(depths), sharex=True, sharey="row", squeeze=False)
        validation = [axis for axis, column in zip(axes[:, 0], columns, strict=True) if column.startswith("validation")]
        for axis in validation[1:]:
            axis.sharey(validation[0])
        for across, (is_cnn, depth) in enumerate(depths):
            shown = {s: c for s, c in curves.items() if s.depth == depth and (s.family == "cnn") == is_cnn}
            axes[0, across].set_title(f"{'cnn, ' if is_cnn else ''}depth {depth}")
            for down, (column, label) in enumerate(columns.items()):
                axis = axes[down, across]
                for spec, seeds in shown.items():
                    _curve_lines(axis, spec, list(seeds.values()), column)
                if across == 0:
                    axis.set_ylabel(label)
                axis.set_yscale("linear" if "accuracy" in column else "log")
                axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
        for axis in axes.flat:  # a scale takes away the ticks of all axes that share it
            _tick(axis)
        for axis in axes[-1]:
            axis.set_xlabel("epoch")
        handles = [
            axes[0, 0].plot([], [], color=look(spec)["color"], linestyle=dash(spec), label=name)[0]
            for name, spec in series_of(curves).items()
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), title="thin: seeds; thick: mean")
    return figure


def _tick(axis: Axes) -> None:
    """Set ticks with plain numbers: per cent on a linear scale, and on one of logarithms as many as have room."""
    if axis.get_yscale() == "linear":
        axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        return
    low, high = axis.get_ylim()
    steps = (1, 1.5, 2, 3, 5, 7) if high < NARROW * low else (1, 2, 5)
    axis.yaxis.set_major_locator(LogLocator(subs=steps))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_locator(NullLocator())


def run_curves(curves: Mapping[str, Sequence[EpochRow]]) -> Figure:
    """Draw single trainings, a row for each: loss and accuracy in training and validation, by both statistics."""
    lines = {
        "training": ("{}", "#444444", "solid"),
        "validation, statistics as trained": ("validation_{}", COLORS["plain"], "solid"),
        "validation, statistics re-estimated": ("validation_{}_reestimated", COLORS["residual"], DASHES["plain"]),
    }
    with house_style():
        figure = new_figure(8, 2.8 * len(curves) + 0.4)
        axes = figure.subplots(len(curves), 2, sharex="col", sharey="col", squeeze=False)
        for row, (name, curve) in zip(axes, curves.items(), strict=True):
            frame = rows_frame(EpochRow, curve)
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


def over_depth(axis: Axes, measure: Measure, rounding: float = 0.0) -> None:
    """Draw one number per network over depth: every seed, the mean, and its t-interval; a line for each series.

    `rounding` is what counting whole images adds to the variance of one number.
    """
    places = dodged(measure)
    for name, first in series_of(measure).items():
        members = sorted((spec for spec in measure if series(spec) == name), key=lambda spec: spec.depth)
        depths = [places[spec] for spec in members]
        for depth, spec in zip(depths, members, strict=True):
            values = list(measure[spec].values())
            axis.plot([depth] * len(values), values, linestyle="none", alpha=0.35, markersize=4, **look(first))
        intervals = [t_interval(list(measure[spec].values()), rounding=rounding) for spec in members]
        axis.errorbar(
            depths,
            [interval.mean for interval in intervals],
            yerr=np.nan_to_num([interval.half_width for interval in intervals]),
            linestyle=dash(first),
            capsize=3,
            markersize=6,
            label=name,
            **look(first),
        )


def network_line(axis: Axes, spec: ModelSpec, across: Sequence[float], values: Sequence[float], shade: float) -> None:
    """Draw one network's line as opaque as `shade` says, named for a legend."""
    style: dict[str, Any] = {**look(spec), "alpha": shade}
    axis.plot(across, values, linestyle=dash(spec), markersize=4, label=spec.name, **style)


AIR = 4.0  # dots around a name that stay free
# Where a name may stand beside its mark, in points, the best place first.
BESIDE = [(x, y) for y in (5, -5, 14, -14, 23, -23, 32, -32, 41, -41) for x in (6, -6)]


def label_apart(axis: Axes, places: Mapping[str, tuple[float, float]]) -> None:
    """Write names beside their marks so that none covers another, a mark, or the panel's edge, as far as there is room.

    The figure must have been laid out: where names lie on each other depends on its scales.
    """
    marks = [axis.transData.transform(place) for place in places.values()]
    taken: list[Bbox] = [Bbox.from_extents(x - 8, y - 8, x + 8, y + 8) for x, y in marks]
    panel = axis.get_window_extent()
    for name, place in places.items():
        label = axis.annotate(name, place, xytext=BESIDE[0], textcoords="offset points", fontsize=7)
        label.set_in_layout(False)  # the panel keeps the place for which it is set
        best: tuple[float, tuple[int, int], Bbox] | None = None
        for aside, above in BESIDE:
            _put(label, aside, above)
            box = label.get_window_extent().padded(AIR)
            covered = sum(_shared(box, other) for other in taken) + box.width * box.height - _shared(box, panel)
            if best is None or covered < best[0]:
                best = covered, (aside, above), box
        assert best is not None
        _put(label, *best[1])
        taken.append(best[2])


def _put(label: Annotation, aside: int, above: int) -> None:
    label.set_position((aside, above))
    label.set_horizontalalignment("right" if aside < 0 else "left")
    label.set_verticalalignment("bottom" if above > 0 else "top")


def _shared(one: Bbox, other: Bbox) -> float:
    """Return the area that two boxes share."""
    both = Bbox.intersection(one, other)
    return both.width * both.height if both else 0.0


def _curve_lines(axis: Axes, spec: ModelSpec, seeds: Sequence[Sequence[EpochRow]], column: str) -> None:
    frames = [rows_frame(EpochRow, curve).set_index("epoch")[column] for curve in seeds]
    mean = sum(frames[1:], frames[0]) / len(frames)
    color, marker = look(spec)["color"], "." if len(mean) == 1 else ""  # one epoch makes no line
    for frame in frames:
        axis.plot(frame.index, frame, color=color, linewidth=0.7, alpha=0.4, marker=marker)
    axis.plot(mean.index, mean, color=color, linestyle=dash(spec), linewidth=1.6, marker=marker)
