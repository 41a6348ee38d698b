"""What accuracy costs: parameters, multiply-adds, and the clock."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter

from resblock.core.spec import ModelSpec
from resblock.evaluation.score import HEADLINE, Statistics, headline, with_statistics
from resblock.report.figures import label_apart
from resblock.report.material import Material, Picture, Section, Table
from resblock.report.style import SOFT, house_style, look, new_figure
from resblock.report.tables import percent
from resblock.report.words import KINDS, OTHER
from resblock.study.efficiency import Point, pareto_front, seconds_to, target_accuracy
from resblock.study.interval import Interval, t_interval
from resblock.study.numbers import NONE

SPACE = 1.05  # between networks of equal cost, as a factor


@dataclass(frozen=True)
class _Priced:
    spec: ModelSpec
    accuracy: Interval  # on test images, the headline's statistics
    other: Interval  # the same, the other statistics
    parameters: float
    multiply_adds: float
    images_per_second: float  # of the fastest seed
    seconds: float  # to the target, mean over the seeds that got there; NaN where none did
    arrived: int
    seeds: int


def section(material: Material) -> Section | None:
    """Show accuracy against each cost, and the networks that no other beats."""
    target = target_accuracy(material.curves)
    priced = [_price(material, spec, target) for spec in material.costs if _accuracy(material, spec, HEADLINE).n]
    if not priced:
        return None
    caption = (
        f"Test accuracy, statistics {KINDS[HEADLINE]}, mean over seeds with its 95 % t-interval, against the network's "
        "size and the work of one image's forward pass. The line joins the networks that no cheaper one beats, by "
        "their means alone. Networks that cost the same stand side by side."
    )
    clock = (
        "The same against speed in training, and against the wall clock until validation accuracy (statistics "
        f"re-estimated) first reached {100 * target:.1f} %, which is 95 % of the best network's final one. Networks "
        "that never got there are left out. Times are of the machine named below, which may have done other work: so "
        "the fastest seed's speed is shown, and every epoch counts as the fastest one."
    )
    pictures = [
        Picture("efficiency", caption, _draw(priced, _SIZES), _data(priced, ("parameters", "multiply_adds"))),
        Picture("speed", clock, _draw(priced, _CLOCK), _data(priced, ("images_per_second", "seconds")), timed=True),
    ]
    note = (
        f"Seconds to {100 * target:.1f} % validation accuracy: mean over the seeds that reached it. Accuracies with "
        f"statistics {KINDS[HEADLINE]} unless the column says otherwise."
    )
    tables = [Table("cost-table", note, _table(priced), timed=True)]
    return Section("cost", "What accuracy costs", "", pictures, tables)


def _accuracy(material: Material, spec: ModelSpec, kind: Statistics) -> Interval:
    test = with_statistics("test_accuracy", kind)
    values = [summary.interval(test) for summary in material.study.summaries if summary.spec == spec]
    return values[0] if values else t_interval([])


def _price(material: Material, spec: ModelSpec, target: float) -> _Priced:
    costs, curves = material.costs[spec], material.curves.get(spec, {})
    times = [seconds_to(target, curves.get(seed, ()), cost) for seed, cost in costs.items()]
    arrived = [seconds for seconds in times if not math.isnan(seconds)]
    some = next(iter(costs.values()))
    return _Priced(
        spec,
        _accuracy(material, spec, HEADLINE),
        _accuracy(material, spec, OTHER),
        some.parameters,
        some.multiply_adds,
        max(cost.images_per_second for cost in costs.values()),
        float(np.mean(arrived)) if arrived else math.nan,
        len(arrived),
        len(times),
    )


# Column to label, unit in stored units, and whether less is cheaper.
_SIZES: Mapping[str, tuple[str, float, bool]] = {
    "parameters": ("parameters, thousands", 1e3, True),
    "multiply_adds": ("multiply-adds of one image, millions", 1e6, True),
}
_CLOCK: Mapping[str, tuple[str, float, bool]] = {
    "images_per_second": ("training images per second", 1, False),
    "seconds": ("seconds to the target accuracy", 1, True),
}


def _draw(priced: Sequence[_Priced], costs: Mapping[str, tuple[str, float, bool]]) -> Figure:
    with house_style():
        figure = new_figure(9, 3.6)
        axes, shown = figure.subplots(1, 2, sharey=True), list[list[Point]]()
        for axis, (name, (label, unit, cheap_is_low)) in zip(axes, costs.items(), strict=True):
            shown.append(_panel(axis, priced, name, unit, cheap_is_low))
            axis.set_xlabel(label + ("" if cheap_is_low else " (fast to the left)"))
            if not cheap_is_low:
                axis.invert_xaxis()
        axes[0].set_ylabel("test accuracy")
        axes[0].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        figure.draw_without_rendering()  # names are set where the marks lie in the end
        for axis, points in zip(axes, shown, strict=True):
            label_apart(axis, {point.name: (point.cost, point.accuracy) for point in points})
    return figure


def _panel(axis: Axes, priced: Sequence[_Priced], name: str, unit: float, cheap_is_low: bool) -> list[Point]:
    there = [network for network in priced if not math.isnan(getattr(network, name))]
    points = [Point(network.spec.name, getattr(network, name) / unit, network.accuracy.mean) for network in there]
    front = pareto_front(points, cheap_is_low=cheap_is_low)
    axis.plot([p.cost for p in front], [p.accuracy for p in front], color=SOFT, linewidth=1, zorder=1)
    points = _side_by_side(points)
    for network, point in zip(there, points, strict=True):
        half = np.nan_to_num(network.accuracy.half_width)
        axis.errorbar(
            point.cost, point.accuracy, yerr=half, capsize=3, markersize=6, linestyle="none", **look(network.spec)
        )
    axis.set_xscale("log")
    axis.margins(x=0.18)
    values = [point.cost for point in points]
    if values and max(values) < 30 * min(values):  # few decades: plain numbers read better than powers of ten
        axis.set_xticks(_ticks(min(values), max(values)))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
    return points


def _side_by_side(points: Sequence[Point]) -> list[Point]:
    """Return the points, those of equal cost moved apart on an axis of logarithms, so that none hides another."""
    moved: list[Point] = []
    for point in points:
        level = [other.name for other in points if other.cost == point.cost]
        steps = level.index(point.name) - (len(level) - 1) / 2
        moved.append(replace(point, cost=point.cost * SPACE**steps))
    return moved


def _ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten from below `low` to above `high`."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [
        step * 10.0**decade for decade in decades for step in (1, 2, 5) if low / 2 <= step * 10.0**decade <= 2 * high
    ]


def _data(priced: Sequence[_Priced], costs: tuple[str, ...]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "variant": network.spec.name,
                **{name: getattr(network, name) for name in costs},
                headline("test_accuracy"): network.accuracy.mean,
                "low": network.accuracy.low,
                "high": network.accuracy.high,
            }
            for network in priced
        ]
    )


def _table(priced: Sequence[_Priced]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "network": network.spec.name,
                "parameters": f"{network.parameters:,}",
                "multiply-adds": f"{network.multiply_adds / 1e6:.1f} M",
                "images/s": f"{network.images_per_second:,.0f}",
                "seconds to target": NONE if math.isnan(network.seconds) else f"{network.seconds:,.1f}",
                "reached by": f"{network.arrived} of {network.seeds}",
                "test accuracy": percent(network.accuracy),
                f"test, {KINDS[OTHER]}": percent(network.other),
            }
            for network in priced
        ]
    )
