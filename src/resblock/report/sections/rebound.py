"""Why validation loss rises again: how often, how far, and which cause has which share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from resblock.evaluation.rows import rows_frame
from resblock.report.material import Material, Picture, Section, Table
from resblock.report.style import INK, house_style, legend_below, new_figure
from resblock.report.tables import NONE, number
from resblock.study.interval import t_interval
from resblock.study.rebound import SHARES, Rebound

# Dark, middle and light also in grey; hatches tell them apart in print.
CAUSES = {
    "lagging_statistics": ("lagging batch-norm statistics", "#0072B2", ""),
    "optimisation": ("optimisation: training loss rises too", "#E69F00", "///"),
    "overfitting": ("overfitting, or chance: training loss falls", "#F0E4D8", "..."),
}
WORDS = (
    "The rebound is the sum of the rises of validation loss, taken with batch-norm statistics as trained, from one "
    "epoch to the next. What a rise does not share with validation loss re-estimated is gone without any change of a "
    "weight: lagging statistics. The rest is put down to optimisation where training loss rises in the same epoch, and "
    "to overfitting where it falls. On few validation images, chance looks like overfitting."
)


def section(material: Material) -> Section | None:
    """Show rises, causes, and the epoch from which accuracy settles."""
    rebounds = [rebound for rebound in material.rebounds if rebound.epochs > 1]
    if not rebounds:
        return None
    caption = (
        "Left: rises of validation loss as a share of its falls; small marks are seeds, bars their mean; at 100 % it "
        "ends where it began. Right: each cause's share of the rises, all seeds together."
    )
    picture = Picture("rebound", caption, draw(rebounds), rows_frame(Rebound, rebounds))
    note = (
        "Means over seeds ± half of the 95 % t-interval. Rises are from epoch to epoch; depths are nats, summed. "
        "Settled: the epoch from which validation accuracy stays within 1 % of its final value."
    )
    return Section(
        "rebound", "The rebound and its causes", WORDS, [picture], [Table("rebound-table", note, _table(rebounds))]
    )


def draw(rebounds: Sequence[Rebound]) -> Figure:
    """Draw how far validation loss rebounds for each network, and the causes' shares."""
    groups = _by_variant(rebounds)
    places = np.arange(len(groups))
    with house_style():
        figure = new_figure(9, 0.34 * len(groups) + 1.5)
        left, right = figure.subplots(1, 2, sharey=True)
        for place, members in zip(places, groups.values(), strict=True):
            values = [100 * member.relative for member in members]
            left.barh(place, np.nanmean(values) if np.isfinite(values).any() else 0, color="#B8C4CE", height=0.65)
            left.plot(values, [place] * len(values), "o", color=INK, markersize=3, alpha=0.7)
        start = np.zeros(len(groups))
        for cause, (label, color, hatch) in CAUSES.items():
            shares = np.array([_share(members, cause) for members in groups.values()])
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


def _share(members: Sequence[Rebound], cause: str) -> float:
    total = sum(member.depth_trained for member in members)
    part = sum(getattr(member, cause) * member.depth_trained for member in members if member.depth_trained)
    return 100 * part / total if total else 0.0


def _table(rebounds: Sequence[Rebound]) -> pd.DataFrame:
    def mean(members: Sequence[Rebound], name: str, scale: float = 1, digits: int = 1) -> str:
        return number(t_interval([float(getattr(member, name)) for member in members]), scale, digits)

    return pd.DataFrame(
        [
            {
                "network": variant,
                "rises, as trained": mean(members, "rises_trained"),
                "rises, re-estimated": mean(members, "rises_reestimated"),
                "rises, training loss": mean(members, "rises_training"),
                "depth, as trained": mean(members, "depth_trained", digits=3),
                "depth, re-estimated": mean(members, "depth_reestimated", digits=3),
                **{
                    f"{cause.replace('_', ' ')}, %": f"{_share(members, cause):.0f}"
                    if any(member.depth_trained for member in members)
                    else NONE
                    for cause in SHARES
                },
                "settled, as trained": mean(members, "settled"),
                "settled, re-estimated": mean(members, "settled_reestimated"),
            }
            for variant, members in _by_variant(rebounds).items()
        ]
    )


def _by_variant(rebounds: Sequence[Rebound]) -> dict[str, list[Rebound]]:
    groups: dict[str, list[Rebound]] = {}
    for rebound in rebounds:
        groups.setdefault(rebound.variant, []).append(rebound)
    return groups
