"""What single blocks do: how strongly they respond, and what is lost without them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from resblock.core.spec import ModelSpec
from resblock.evaluation.blocks import Lesion, Response
from resblock.evaluation.rows import rows_frame
from resblock.report.figures import network_line
from resblock.report.material import Material, Picture, Section, Table
from resblock.report.style import dash, house_style, legend_below, look, new_figure, shades
from resblock.report.tables import percent
from resblock.study.interval import t_interval
from resblock.study.summary import rounding_among

WORDS = (
    "Layer responses (He et al. 2015, Figure 7): the standard deviation of what a block puts out before the shortcut "
    "is added. Lesions (Veit et al. 2016): test accuracy after blocks are taken out of the trained network, without "
    "training it again; a residual block is left by its shortcut, a plain one as its twin's shortcut would leave it. "
    "Where accuracy hardly falls, blocks do not depend strongly on one another. Batch-norm statistics are re-estimated "
    "with all blocks in place."
)


def section(material: Material) -> Section | None:
    """Show responses by block, accuracy without each block, and without several."""
    responses, lesions = material.results.responses, material.results.lesions
    if not responses or not lesions:
        return None
    images = lesions[0].images
    pictures = [
        Picture(
            "responses",
            "Standard deviation of each block's response, mean over seeds. Deeper networks have darker lines.",
            draw_responses(responses),
            rows_frame(Response, responses),
        ),
        Picture(
            "lesions",
            f"Accuracy on {images:,} test images: without one block, a panel for each depth, thin lines are seeds and "
            "thick ones their mean, horizontal lines the whole network; last, without several blocks chosen at random.",
            draw_lesions(lesions),
            rows_frame(Lesion, lesions),
        ),
    ]
    note = (
        f"Per cent of {images:,} test images, mean over seeds ± half of the 95 % t-interval. Without one: the mean "
        "over blocks, and the block whose loss costs most."
    )
    return Section("blocks", "Single blocks", WORDS, pictures, [Table("lesions-table", note, _table(lesions))])


def draw_responses(responses: Sequence[Response]) -> Figure:
    """Draw each block's response over the layers."""
    specs = _specs(responses)
    shade = shades(specs)
    with house_style():
        figure = new_figure(7, 3.8)
        axis = figure.subplots()
        for spec in specs:
            mine = [(row.position, row.deviation) for row in responses if row.variant == spec.name]
            network_line(axis, spec, *_means(mine), shade[spec])
        axis.set_xlabel("layer, from the image")
        axis.set_ylabel("standard deviation of the response")
        axis.set_ylim(bottom=0)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        legend_below(figure, axis)
    return figure


def draw_lesions(lesions: Sequence[Lesion]) -> Figure:
    """Draw accuracy without each block, a panel for each depth, and without several."""
    specs = _specs(lesions)
    depths = sorted({spec.depth for spec in specs})
    shade = shades(specs)
    with house_style():
        figure = new_figure(2.5 * (len(depths) + 1) + 0.6, 3.4)
        *panels, last = figure.subplots(1, len(depths) + 1, sharey=True)
        for axis, depth in zip(panels, depths, strict=True):
            for spec in (spec for spec in specs if spec.depth == depth):
                _without_one(axis, [row for row in lesions if row.variant == spec.name], spec)
            axis.set_title(f"depth {depth}")
            axis.set_xlabel("block that is removed")
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        for spec in specs:
            mine = [(row.removed, row.accuracy) for row in lesions if row.variant == spec.name]
            network_line(last, spec, *_means(mine), shade[spec])
        last.set_title("several blocks")
        last.set_xlabel("blocks removed")
        last.xaxis.set_major_locator(MaxNLocator(integer=True))
        panels[0].set_ylabel("test accuracy")
        panels[0].set_ylim(0, 1.02)
        panels[0].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        legend_below(figure, last)
    return figure


def _means(points: Sequence[tuple[int, float]]) -> tuple[list[int], list[float]]:
    """Return each place among `points` once, in order, with the mean of the values there."""
    places = sorted({place for place, _ in points})
    return places, [float(np.mean([value for place, value in points if place == at])) for at in places]


def _without_one(axis: Axes, rows: Sequence[Lesion], spec: ModelSpec) -> None:
    color = look(spec)["color"]
    alone = [row for row in rows if row.removed == 1]
    numbers = sorted({row.draw for row in alone})
    for seed in dict.fromkeys(row.seed for row in alone):
        values = [row.accuracy for row in alone if row.seed == seed]
        axis.plot([number + 1 for number in numbers], values, color=color, linewidth=0.7, alpha=0.4)
    means = [np.mean([row.accuracy for row in alone if row.draw == number]) for number in numbers]
    axis.plot([number + 1 for number in numbers], means, linestyle=dash(spec), markersize=4, **look(spec))
    whole = np.mean([row.accuracy for row in rows if row.removed == 0])
    axis.axhline(float(whole), color=color, linewidth=0.8, linestyle=dash(spec), alpha=0.7)


def _table(lesions: Sequence[Lesion]) -> pd.DataFrame:
    rows: list[dict[str, str]] = []
    counts = sorted({row.removed for row in lesions if row.removed > 1})
    for spec in _specs(lesions):
        mine = [row for row in lesions if row.variant == spec.name]
        by_seed = {seed: [row for row in mine if row.seed == seed] for seed in dict.fromkeys(row.seed for row in mine)}

        rounding = rounding_among(mine[0].images)

        def mean(removed: int, by_seed: dict[int, list[Lesion]] = by_seed, rounding: float = rounding) -> str:
            shares = [[row.accuracy for row in rows if row.removed == removed] for rows in by_seed.values()]
            return percent(t_interval([float(np.mean(values)) for values in shares if values], rounding=rounding))

        worst = [min(row.accuracy for row in rows if row.removed == 1) for rows in by_seed.values()]
        rows.append(
            {
                "network": spec.name,
                "whole": mean(0),
                "without one": mean(1),
                "without the one that costs most": percent(t_interval(worst, rounding=rounding)),
                **{f"without {count}": mean(count) for count in counts},
            }
        )
    return pd.DataFrame(rows)


def _specs(rows: Sequence[Response] | Sequence[Lesion]) -> list[ModelSpec]:
    return [ModelSpec.parse(name) for name in dict.fromkeys(row.variant for row in rows)]
