"""Whether gradients vanish: their norms behind each block, before and along training, and how shattered they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from resblock.core.spec import ModelSpec
from resblock.core.training.run import GradientRow
from resblock.evaluation.flow import (
    Gradients,
    NetworkGradient,
    Untrained,
    network_rows,
)
from resblock.evaluation.rows import rows_frame
from resblock.report.figures import network_line, over_depth
from resblock.report.material import Material, Picture, Section, Table
from resblock.report.style import INK, MARKS, house_style, legend_below, new_figure, shades
from resblock.study.gradients import growth, growths, last_epoch, nearest
from resblock.study.interval import t_interval
from resblock.study.measure import Measure
from resblock.study.numbers import counted, difference, number

WORDS = (
    "A gradient vanishes where its norm shrinks on its way from the last block to the stem. By how much is told in "
    "decades, powers of ten: above zero the norm grows towards the image, below zero it shrinks. Norms are of the "
    "gradient of the mean cross-entropy on training images, with batch statistics, by the activations behind each "
    "block. Each seed has its own images, the same ones for all of its networks and moments. Shattered gradients "
    "(Balduzzi et al. 2017) keep their norm, but at a neighbouring "
    "input they point elsewhere."
)


def section(material: Material) -> Section | None:
    """Show gradient norms along the network and along training, and what depth does to them before training."""
    pictures: list[Picture] = []
    tables: list[Table] = []
    trained = {spec: seeds for spec, seeds in material.gradients.items() if any(seeds.values())}
    if trained:
        caption = (
            "Gradient norm behind the stem and each block, geometric mean over seeds: at initialisation and after the "
            "epochs named. The deeper the network, the darker the line."
        )
        data = rows_frame(NetworkGradient, network_rows(trained))
        pictures.append(Picture("gradients", caption, draw(trained), data))
        note = (
            "Decades by which gradients grow on their way: from the activations behind the last block to those behind "
            "the stem, and from the last convolution's kernel to the first one's. Mean over seeds with its 95 % "
            "t-interval."
        )
        tables.append(Table("gradients-table", note, _growth_table(trained), _growth_data(trained)))
    if material.untrained and material.untrained.gradients:
        caption = (
            f"Networks before training, {_seeds(material.untrained)} each. Left: decades by which gradient norms grow "
            "from the last block to the stem. Right: cosine between the input gradients of neighbouring points on "
            f"lines between training images, {_step(material.untrained)} apart. Small marks are seeds, large ones "
            "their mean, bars its 95 % t-interval, "
            "which may reach beyond one, the largest cosine that there is; open marks: without batch normalisation, "
            "where residual branches start at zero and take no part yet. Networks of one depth stand side by side."
        )
        picture = Picture("untrained", caption, draw_untrained(material.untrained), _untrained_data(material.untrained))
        pictures.append(picture)
        note = "The same numbers: mean over seeds ± half of the 95 % t-interval, growth in decades."
        tables.append(Table("untrained-table", note, _untrained_table(material.untrained)))
    return Section("gradients", "Gradient flow", WORDS, pictures, tables) if pictures else None


def _seeds(found: Untrained) -> str:
    counts = sorted({len(seeds) for seeds in found.gradients.values()})
    return " to ".join(counted(count, "seed") for count in counts)


def _step(found: Untrained) -> str:
    lag = min(row.lag for row in found.shattering)
    return f"{lag:.2g} of a line"


def draw(gradients: Gradients) -> Figure:
    """Draw norms behind each block over the layers, a panel for each moment."""
    moments = sorted({row.epoch for seeds in gradients.values() for rows in seeds.values() for row in rows})
    shade = shades(gradients)
    with house_style():
        figure = new_figure(max(2.6 * len(moments) + 0.8, 9), 3.6)
        axes = figure.subplots(1, len(moments), sharex=True, sharey=True, squeeze=False)[0]
        for axis, epoch in zip(axes, moments, strict=True):
            for spec, seeds in gradients.items():
                positions, norms = _profile(list(seeds.values()), epoch)
                network_line(axis, spec, positions, norms, shade[spec])
            axis.set_title("at initialisation" if epoch == 0 else f"after epoch {epoch}")
            axis.set_yscale("log")
            axis.set_xlabel("layer, from the image")
        axes[0].set_ylabel("gradient norm")
        legend_below(figure, axes[0])
    return figure


def draw_untrained(found: Untrained) -> Figure:
    """Draw growth and cosine over depth, in networks before training."""
    panels = {
        "growth of gradient norms, decades": growths(found.gradients, "activations"),
        "cosine of neighbours' gradients": nearest(found.shattering),
    }
    with house_style():
        figure = new_figure(9, 4)
        axes = figure.subplots(1, 2)
        for axis, (label, measure) in zip(axes, panels.items(), strict=True):
            over_depth(axis, measure)
            axis.set_ylabel(label)
            axis.set_xlabel("depth (weight layers)")
            axis.set_xticks(sorted({spec.depth for spec in found.gradients}))
        axes[0].axhline(0, color=INK, linewidth=0.8)
        axes[0].set_title("above zero: gradients grow towards the image")
        axes[1].axhline(1, color=INK, linewidth=0.8)
        axes[1].set_title("near zero: shattered; at one: alike")
        legend_below(figure, axes[0], MARKS)
    return figure


def _profile(seeds: Sequence[Sequence[GradientRow]], epoch: int) -> tuple[list[int], list[float]]:
    """Return positions and the geometric mean over seeds of the norms of activations there."""
    norms: dict[int, list[float]] = {}
    for rows in seeds:
        for row in rows:
            if row.epoch == epoch and row.of == "activations" and row.norm > 0:
                norms.setdefault(row.position, []).append(float(np.log(row.norm)))
    return list(norms), [float(np.exp(np.mean(values))) for values in norms.values()]


def _moments(gradients: Gradients) -> dict[str, int]:
    last = last_epoch(gradients)
    return {"at initialisation": 0} | ({f"after epoch {last}": last} if last else {})


def _growth_table(gradients: Gradients) -> pd.DataFrame:
    columns = {
        f"{of}, {words}": growths(gradients, of, epoch)
        for words, epoch in _moments(gradients).items()
        for of in ("activations", "weights")
    }
    return _by_network(gradients, columns, signed=True)


def _growth_data(gradients: Gradients) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "variant": spec.name,
                "seed": seed,
                "epoch": epoch,
                "activations": growth((row for row in rows if row.epoch == epoch), "activations"),
                "weights": growth((row for row in rows if row.epoch == epoch), "weights"),
            }
            for spec, seeds in gradients.items()
            for seed, rows in seeds.items()
            for epoch in sorted({row.epoch for row in rows})
        ]
    )


def _untrained_table(found: Untrained) -> pd.DataFrame:
    columns = {
        "growth, activations": growths(found.gradients, "activations"),
        "growth, weights": growths(found.gradients, "weights"),
        "neighbours' cosine": nearest(found.shattering),
    }
    return _by_network(found.gradients, columns, signed=False)


def _untrained_data(found: Untrained) -> pd.DataFrame:
    growth_of, cosine_of = growths(found.gradients, "activations"), nearest(found.shattering)
    return pd.DataFrame(
        [
            {
                "variant": spec.name,
                "seed": seed,
                "growth": growth_of.get(spec, {}).get(seed),
                "cosine": cosine_of.get(spec, {}).get(seed),
            }
            for spec, seeds in found.gradients.items()
            for seed in seeds
        ]
    )


def _by_network(networks: Mapping[ModelSpec, object], columns: Mapping[str, Measure], *, signed: bool) -> pd.DataFrame:
    def cell(measure: Measure, spec: ModelSpec) -> str:
        interval = t_interval(list(measure.get(spec, {}).values()))
        return difference(interval, 1, digits=2) if signed else number(interval, 1, digits=2)

    return pd.DataFrame(
        [{"network": spec.name} | {name: cell(measure, spec) for name, measure in columns.items()} for spec in networks]
    )
