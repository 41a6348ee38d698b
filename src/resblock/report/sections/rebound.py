"""Why validation loss rises again: how often, how far, and which cause has which share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from resblock.evaluation.rows import rows_frame
from resblock.report.material import Material, Picture, Section, Table
from resblock.report.style import INK, house_style, legend_below, new_figure
from resblock.study.interval import t_interval
from resblock.study.numbers import NONE, difference, number, points
from resblock.study.rebound import LONG, REACHED, Rebound, lessened, pooled

# Dark, middle and light also in grey; hatches tell them apart in print.
CAUSES = {
    "lagging_statistics": ("lagging batch-norm statistics", "#0072B2", ""),
    "optimisation": ("optimisation: training images share it", "#E69F00", "///"),
    "overfitting": ("overfitting, or chance: they do not", "#F0E4D8", "..."),
}
WORDS = (
    "The rebound is the sum of the rises of validation loss, taken with batch-norm statistics as trained, from one "
    "epoch to the next. What a rise does not share with validation loss re-estimated is gone without any change of a "
    "weight: lagging statistics. Of the rest, as much as the loss on training images rises too is put down to "
    "optimisation, and what remains to overfitting. On few validation images, chance looks like overfitting; but "
    "chance does not last, so the share of it that lasts to the end of the training is told too. All ratios are of "
    "heights summed over seeds, and over networks where there are several."
)


def section(material: Material) -> Section | None:
    """Show rises, causes, what other recipes change in them, and the epoch at which accuracy has settled."""
    rebounds = [rebound for rebound in material.rebounds if rebound.epochs > 1]
    if not rebounds:
        return None
    caption = (
        "Left: rises of validation loss as a share of its falls; small marks are seeds, bars all seeds together; at "
        "100 % it ends where it began. Right: each cause's share of the rises, all seeds together."
    )
    picture = Picture("rebound", caption, draw(rebounds), _data(rebounds))
    note = (
        "Numbers and heights (nats, summed over epochs) of rises from epoch to epoch: means over seeds ± half of the "
        "95 % t-interval. Shares of the rises: all seeds together. Lasting: that part of overfitting, or chance, which "
        f"no later epoch takes back. Settled: the epoch at which validation accuracy, smoothed, reaches "
        f"{100 * REACHED:.0f} % of its final value; not told of trainings of fewer than {LONG} epochs."
    )
    tables = [Table("rebound-table", note, _table(rebounds))]
    if effects := _effects(rebounds, material):
        note = (
            "What other recipes take from the rebound: the data set's own recipe minus the one named, with the 95 % "
            "t-interval over seeds. Rises of validation loss as a share of its falls, in points, and their height for "
            "each training, in nats, told apart into what statistics did by being late and what the weights did. "
            "Unmodified networks that both have."
        )
        tables.append(Table("rebound-recipes", note, pd.DataFrame(effects)))
    return Section("rebound", "The rebound and its causes", WORDS, [picture], tables)


def draw(rebounds: Sequence[Rebound]) -> Figure:
    """Draw how far validation loss rebounds for each network, and the causes' shares."""
    groups = _by_variant(rebounds)
    places = np.arange(len(groups))
    with house_style():
        figure = new_figure(9, 0.34 * len(groups) + 1.5)
        left, right = figure.subplots(1, 2, sharey=True)
        for place, members in zip(places, groups.values(), strict=True):
            values = [100 * member.relative for member in members]
            left.barh(place, _percent(members, "height_trained", "falls_trained"), color="#B8C4CE", height=0.65)
            left.plot(values, [place] * len(values), "o", color=INK, markersize=3, alpha=0.7)
        start = np.zeros(len(groups))
        for cause, (label, color, hatch) in CAUSES.items():
            shares = np.array([_percent(members, cause, "height_trained") for members in groups.values()])
            right.barh(
                places,
                shares,
                left=start,
                color=color,
                hatch=hatch,
                edgecolor=INK,
                linewidth=0.4,
                height=0.65,
                label=label,
            )
            start += shares
        left.set_yticks(places, list(groups))
        left.invert_yaxis()
        left.set_xlabel("rises of validation loss, % of its falls")
        right.set_xlabel("share of the rises, %")
        right.set_xlim(0, 100)
        for axis in (left, right):
            axis.grid(visible=False, axis="y")
        legend_below(figure, right)
    return figure


def _percent(members: Sequence[Rebound], part: str, whole: str) -> float:
    """Return a ratio over all seeds in per cent; 0 where there is nothing to share."""
    return 100 * t_interval(list(pooled(members, part, whole).values()) or [0.0]).mean


def _table(rebounds: Sequence[Rebound]) -> pd.DataFrame:
    def mean(members: Sequence[Rebound], name: str, digits: int = 1) -> str:
        values = [float(getattr(member, name)) for member in members]
        return number(t_interval([value for value in values if not math.isnan(value)]), 1, digits)

    def share(members: Sequence[Rebound], part: str) -> str:
        there = any(member.height_trained for member in members)
        late = members[0].spec.normalized or part != "lagging_statistics"  # else no statistics could be late
        return f"{_percent(members, part, 'height_trained'):.0f}" if there and late else NONE

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
                "settled, as trained": mean(members, "settled"),
                "settled, re-estimated": mean(members, "settled_reestimated"),
            }
            for variant, members in _by_variant(rebounds).items()
        ]
    )


def _effects(rebounds: Sequence[Rebound], material: Material) -> list[dict[str, str]]:
    columns = {"through late statistics, nats": "lagging_statistics", "through the weights, nats": "weights"}
    rows: list[dict[str, str]] = []
    for recipe, trained in material.ablations.items():
        if relative := lessened(rebounds, trained.rebounds, "height_trained", "falls_trained"):
            parts = {name: lessened(rebounds, trained.rebounds, part, None) for name, part in columns.items()}
            cells = {name: difference(t_interval(list(values.values())), 1, 3) for name, values in parts.items()}
            all_of_it = points(t_interval(list(relative.values())))
            rows.append({"recipe": recipe, "rises / falls": all_of_it, **cells, "seeds": str(len(relative))})
    return rows


def _data(rebounds: Sequence[Rebound]) -> pd.DataFrame:
    return rows_frame(Rebound, rebounds).assign(relative=[rebound.relative for rebound in rebounds])


def _by_variant(rebounds: Sequence[Rebound]) -> dict[str, list[Rebound]]:
    groups: dict[str, list[Rebound]] = {}
    for rebound in rebounds:
        groups.setdefault(rebound.variant, []).append(rebound)
    return groups
