"""How every figure looks: one colour and one marker per family, the same bytes for the same numbers."""

from __future__ import annotations

import io
from collections.abc import Collection, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from resblock.core.files import write_bytes
from resblock.core.spec import ModelSpec
from resblock.report.palette import COLORS
from resblock.study.interval import CONFIDENCE

MARKERS = {"cnn": "s", "plain": "o", "residual": "^", "preact": "D", "bottleneck": "v"}
DASHES = {
    "cnn": (0, (1, 1)),
    "plain": (0, (4, 2)),
    "residual": "solid",
    "preact": (0, (5, 1, 1, 1)),
    "bottleneck": (0, (3, 1, 1, 1, 1, 1)),
}
INK, SOFT = "#222222", "#666666"
# How a modified network's marker is filled, by its first modifier.
FILLS: dict[str, dict[str, Any]] = {
    "nobn": {"fillstyle": "none"},
    "projection": {"fillstyle": "left"},
    "allprojection": {"fillstyle": "right"},
    "maxpool": {"fillstyle": "bottom"},
    "w": {"fillstyle": "top"},
    "sd": {"markeredgecolor": INK, "markeredgewidth": 1.5},
}
MARKS = f"small marks: seeds; large marks: their mean, with its {100 * CONFIDENCE:.0f} % t-interval"
SPACE = 0.6  # layers between the marks of different series at one depth

SETTINGS: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # ships with Matplotlib: the same letters everywhere
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.hashsalt": "resblock",  # else the ids differ in every file
    "svg.fonttype": "path",
    "figure.dpi": 150,
}


def series(spec: ModelSpec) -> str:
    """Return what networks that differ in depth alone share, for instance ``residual`` or ``plain-nobn``."""
    family, _, rest = spec.name.partition("-")
    return "-".join(filter(None, (family, rest.partition("-")[2])))


def series_of(specs: Iterable[ModelSpec]) -> dict[str, ModelSpec]:
    """Return each series once, with the first of its networks."""
    found: dict[str, ModelSpec] = {}
    for spec in specs:
        found.setdefault(series(spec), spec)
    return found


def look(spec: ModelSpec) -> dict[str, Any]:
    """Return a network's colour and marker; one that is modified has the family's marker, filled in another way."""
    family, _, *modifiers = spec.name.split("-")
    marks = {"color": COLORS[family], "marker": MARKERS[family]}
    return {**marks, **FILLS[modifiers[0].rstrip("0123456789")], "markerfacecoloralt": "white"} if modifiers else marks


def dash(spec: ModelSpec) -> Any:
    """Return the line style of a network's family."""
    return DASHES[spec.name.partition("-")[0]]


def shades(specs: Collection[ModelSpec]) -> dict[ModelSpec, float]:
    """Return each network's opacity: the deeper, the darker; a CNN's is full."""
    depths = sorted({spec.depth for spec in specs if spec.family != "cnn"})
    steps = np.linspace(0.35, 1, len(depths)) if len(depths) > 1 else np.ones(1)
    return {spec: float(steps[depths.index(spec.depth)]) if spec.family != "cnn" else 1.0 for spec in specs}


def dodged(specs: Iterable[ModelSpec]) -> dict[ModelSpec, float]:
    """Return where, in layers, each network's marks stand: side by side at one depth, so that bars of twins hide none.

    Those of one depth stand in the order of their series, around the depth itself.
    """
    known = list(specs)
    at: dict[int, list[ModelSpec]] = {}
    for name in series_of(known):
        for spec in (spec for spec in known if series(spec) == name):
            at.setdefault(spec.depth, []).append(spec)
    return {
        spec: depth + SPACE * (place - (len(there) - 1) / 2)
        for depth, there in at.items()
        for place, spec in enumerate(there)
    }


def legend_below(figure: Figure, axis: Axes, title: str = "") -> None:
    """Put `axis`' legend under the whole figure."""
    handles, labels = axis.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(handles), 6), title=title or None)


@contextmanager
def house_style() -> Generator[None]:
    """Draw within the block as every figure of the project is drawn."""
    with mpl.rc_context(SETTINGS):
        yield


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, sizes in inches, that no window or global state knows of."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _settle(figure: Figure) -> None:
    """Lay a figure out once, which takes as long as drawing it; every file of it shows the same arrangement."""
    if engine := figure.get_layout_engine():
        engine.execute(figure)
        figure.set_layout_engine(None)


def svg(figure: Figure) -> str:
    """Return the figure as an <svg> element to stand in a page."""
    with house_style():
        _settle(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)  # the page's own ground shows
    return buffer.getvalue()[buffer.getvalue().index("<svg") :]


def save_figure(figure: Figure, path: Path, dots: float | None = None) -> None:
    """Write the figure as PNG or SVG, by the path's suffix, without dates; `dots` per inch, else as it was made."""
    with house_style():
        _settle(figure)
        buffer = io.BytesIO()
        metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
        figure.savefig(buffer, format=path.suffix[1:], metadata=metadata, dpi=dots or "figure")
    write_bytes(path, buffer.getvalue())
