"""Why validation loss rises again: how often, how far, and which cause has which share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from resblock.evaluation.rows import rows_frame
from resblock.report.material import Material, Picture, Section, Table
from resblock.report.style import INK, SOFT, house_style, new_figure
from resblock.report.words import KINDS
from resblock.study.interval import Interval, t_interval
from resblock.study.numbers import NONE, difference, number, points
from resblock.study.rebound import (
    HEIGHTS,
    LONG,
    REACHED,
    REBOUND_MARGIN,
    RELATIVE,
    Rebound,
    lessened,
    ratio,
    rebounding,
)

# Dark, middle and light also in grey; hatches tell them apart in print.
CAUSES = {
    "moving_averages": ("moving averages, or chance:\nre-estimated loss does not share it", "#0072B2", ""),
    "optimisation": ("optimisation:\ntraining images share it", "#E69F00", "///"),
    "overfitting": ("overfitting, or chance:\ntraining images do not share it", "#F0E4D8", "..."),
}
WORDS = (
    "The rebound is the sum of the rises of validation loss, taken with batch-norm statistics as trained, from one "
    "epoch to the next. What a rise does not share, at its epoch, with validation loss re-estimated is put down to "
    "the moving averages: no weight differs between the two. Whether they lag or are merely noisy, the share does not "
    "tell. Chance that moves one of the two alone counts there, too. Two numbers tell how much that may be: the share "
    "the other way round, of rises re-estimated that the loss as trained does not share, and how high rises "
    "re-estimated are in all. By chance alone that moves both as much, both shares would be alike and the rises "
    "equally high. Of the rest, as much as the loss on training images rises too is put down to optimisation, and what "
    "remains to overfitting. On few validation images, chance looks like overfitting; but chance does not last, so the "
    "share of it that lasts to the end of the training is told too. All ratios are of heights summed over seeds, and "
    "over networks where there are several: of all networks with batch normalisation together, each weighs as much as "
    f"its loss rises. Where rises are less than {100 * REBOUND_MARGIN:.0f} % of the falls there is no rebound, and no "
    "cause is told."
)


Groups = dict[str, list[Rebound]]  # by network


def section(material: Material) -> Section | None:
    """Show rises, causes, what other recipes change in them, and the epoch at which accuracy has settled."""
    rebounds = [rebound for rebound in material.rebounds if rebound.epochs > 1]
    if not rebounds:
        return None
    caption = (
        f"Left: rises of validation loss, statistics {KINDS['trained']}, as a share of its falls; dots are seeds, bars "
        "all seeds together; counted from the first epoch on, so that at 100 % it ends where it stood then. A share "
        "is large where there was little to fall: heights are in the table. Right: each cause's share of the rises, "
        "all seeds "
        f"together; none is told of networks whose rises are less than {100 * REBOUND_MARGIN:.0f} % of their falls."
    )
    picture = Picture("rebound", caption, draw(rebounds), _data(rebounds))
    note = (
        "Numbers and heights (nats, summed over epochs) of rises from epoch to epoch: means over seeds ± half of the "
        "95 % t-interval. Shares: all seeds together, and of causes only where there is a rebound. Unshared: of the "
        "height re-estimated, what the loss as trained does not share. Lasting: that part of overfitting, or chance, "
        f"which no later epoch takes back. Settled: the epoch at which validation accuracy, smoothed, reaches "
        f"{100 * REACHED:.0f} % of its final value; not told of trainings of fewer than {LONG} epochs."
    )
    tables = [Table("rebound-table", note, _table(rebounds))]
    if effects := _effects(rebounds, material):
        note = (
            "What other recipes do to the rebound: the one named minus the data set's own recipe, with the 95 % "
            "t-interval over seeds. Rises of validation loss as a share of its falls, in points, and their height for "
            "each training, in nats, told apart into what moving averages did and what the weights did; not "
            "told apart where the data set's own recipe shows no rebound. Unmodified networks that both have."
        )
        tables.append(Table("rebound-recipes", note, pd.DataFrame(effects)))
    return Section("rebound", "The rebound and its causes", WORDS, [picture], tables)


def draw(rebounds: Sequence[Rebound]) -> Figure:
    """Draw how far validation loss rebounds for each network, and the causes' shares."""
    groups = _by_variant(rebounds)
    with house_style():
        figure = new_figure(9, 0.34 * len(groups) + 1.9)
        left, right = figure.subplots(1, 2, sharey=True)
        _draw_heights(left, groups)
        _draw_causes(right, groups)
        left.set_yticks(range(len(groups)), list(groups))
        left.invert_yaxis()
        for axis in (left, right):
            axis.grid(visible=False, axis="y")
        figure.legend(loc="outside lower center", ncols=len(CAUSES) + 2, fontsize=8)
    return figure


def _draw_heights(axis: Axes, groups: Groups) -> None:
    for place, members in enumerate(groups.values()):
        values, first = [100 * member.relative for member in members], place == 0
        whole = _percent(members, *RELATIVE)
        axis.barh(place, whole, color="#B8C4CE", height=0.65, label="all seeds" if first else None)
        dots: dict[str, Any] = {"color": INK, "markersize": 3, "alpha": 0.7, "label": "a seed" if first else None}
        axis.plot(values, [place] * len(values), "o", **dots)
    axis.set_xlabel("rises of validation loss as trained, % of its falls")


def _draw_causes(axis: Axes, groups: Groups) -> None:
    start = np.zeros(len(groups))
    for cause, (label, color, hatch) in CAUSES.items():
        shares = np.array([_percent(group, cause, "height_trained") * rebounding(group) for group in groups.values()])
        style: dict[str, Any] = {
            "color": color,
            "hatch": hatch,
            "edgecolor": INK,
            "linewidth": 0.4,
            "height": 0.65,
            "label": label,
        }
        axis.barh(np.arange(len(groups)), shares, left=start, **style)
        start += shares
    for place, members in enumerate(groups.values()):
        if not rebounding(members):
            axis.text(1, place, "no rebound", va="center", fontsize=8, color=SOFT)
    axis.set_xlabel("share of the rises, %")
    axis.set_xlim(0, 100)


def _percent(members: Sequence[Rebound], part: str, whole: str) -> float:
    """Return a ratio over all seeds in per cent; 0 where there is nothing to share."""
    return 100 * ratio(members, part, whole)


def _table(rebounds: Sequence[Rebound]) -> pd.DataFrame:
    def mean(members: Sequence[Rebound], name: str, digits: int = 1) -> str:
        values = [float(getattr(member, name)) for member in members]
        return number(t_interval([value for value in values if not math.isnan(value)]), 1, digits)

    def share(members: Sequence[Rebound], part: str, whole: str = "height_trained") -> str:
        told = members[0].spec.normalized or part not in _OF_AVERAGES  # else there are no averages
        return f"{_percent(members, part, whole):.0f}" if rebounding(members) and told else NONE

    return pd.DataFrame(
        [
            {
                "network": variant,
                "rises, as trained": mean(members, "rises_trained"),
                "rises, re-estimated": mean(members, "rises_reestimated"),
                "rises, training images": mean(members, "rises_training"),
                "height, as trained": mean(members, "height_trained", digits=3),
                "height, re-estimated": mean(members, "height_reestimated", digits=3),
                **{f"{name.replace('_', ' ')}, %": share(members, name) for name in (*CAUSES, "lasting")},
                "unshared, %": share(members, "unshared", "height_reestimated"),
                "height, re-estimated / as trained, %": share(members, *HEIGHTS),
                "settled, as trained": mean(members, "settled"),
                "settled, re-estimated": mean(members, "settled_reestimated"),
            }
            for variant, members in _by_variant(rebounds).items()
        ]
    )


def _effects(rebounds: Sequence[Rebound], material: Material) -> list[dict[str, str]]:
    columns = {"through moving averages, nats": "moving_averages", "through the weights, nats": "weights"}
    rows: list[dict[str, str]] = []
    for recipe, trained in material.ablations.items():
        there = {rebound.variant for rebound in trained.rebounds}
        told = rebounding([rebound for rebound in rebounds if rebound.variant in there])

        def change(part: str, whole: str | None = None, others: Sequence[Rebound] = trained.rebounds) -> Interval:
            return t_interval([-less for less in lessened(rebounds, others, part, whole).values()])

        if (relative := change(*RELATIVE)).n:
            cells = {name: difference(change(part), 1, 3) if told else NONE for name, part in columns.items()}
            rows.append({"recipe": recipe, "rises / falls": points(relative), **cells, "seeds": str(relative.n)})
    return rows


_OF_AVERAGES = ("moving_averages", "unshared", HEIGHTS[0])


def _data(rebounds: Sequence[Rebound]) -> pd.DataFrame:
    more = {name: [getattr(rebound, name) for rebound in rebounds] for name in ("unshared", "relative")}
    return rows_frame(Rebound, rebounds).assign(**more)


def _by_variant(rebounds: Sequence[Rebound]) -> Groups:
    groups: dict[str, list[Rebound]] = {}
    for rebound in rebounds:
        groups.setdefault(rebound.variant, []).append(rebound)
    return groups
