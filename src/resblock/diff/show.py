"""A comparison of two revisions as a reader sees it: in the terminal, in a pull request, as a page, as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from resblock.core.spec import ModelSpec
from resblock.core.training.run import EpochRow
from resblock.diff.compare import (
    HEADLINE,
    HEADLINE_LOSS,
    LOSS_MARGIN,
    Change,
    Comparison,
    Outcome,
    Shift,
    shared_keys,
)
from resblock.diff.side import by_network, label
from resblock.evaluation.rows import rows_frame
from resblock.report.palette import COLORS
from resblock.report.style import SOFT, house_style, new_figure, svg
from resblock.report.tables import markdown
from resblock.report.words.verdicts import figure_of
from resblock.study.claims.basis import HALF_A_POINT
from resblock.study.interval import Interval
from resblock.study.numbers import NONE, difference, number

WIDE = 160  # characters of a line where there is no terminal to say
MOST_FILES = 8  # of code that are named each
OUTCOMES: tuple[Outcome, ...] = ("moved", "too small to matter", "undecided", "equal")
DRAWN = {
    "validation_accuracy_reestimated": "validation accuracy",
    "validation_loss_reestimated": "validation loss",
}
RULE = (
    "Differences are after minus before, paired by seed, with their 95 % t-interval. *Moved*: the whole interval lies "
    f"beyond {100 * HALF_A_POINT:g} points of accuracy or {LOSS_MARGIN:g} nats of loss. *Too small to matter*: it "
    "lies within them. *Equal*: every seed gave the same number to its last bit."
)


@dataclass(frozen=True)
class Block:
    """One table with its heading and words."""

    title: str
    words: str
    frame: pd.DataFrame | None = None  # text
    left: Sequence[str] = ()  # columns that are set to the left, besides the first


def blocks(comparison: Comparison) -> list[Block]:
    """Return the comparison as tables of text; what has nothing to tell is left out."""
    changed = [shift for shift in comparison.gaps if shift.outcome != "equal"]
    made = [
        Block("What was changed", _what_was_changed(comparison), _change_frame(_few_files(comparison)), _SIDES),
        Block("Trainings", "", _change_frame(comparison.trainings), _SIDES),
        Block("Networks", _count(comparison.of(HEADLINE)), _network_frame(comparison), ("outcome", "loss outcome")),
        Block("Residual minus plain", "Gaps in test accuracy that are not equal.", _gap_frame(changed), ("outcome",)),
        Block("Verdicts that changed", "Drawn by the code that is here.", _verdict_frame(comparison), _VERDICT_COLUMNS),
        Block("Left out", "; ".join(_left_out(comparison))),
    ]
    return [block for block in made if (block.frame is not None and len(block.frame)) or _tells(block)]


_SIDES = ("before", "after")
_VERDICT_COLUMNS = ("claim", "before", "after")


def _tells(block: Block) -> bool:
    """Return whether a block says something without a table."""
    return block.title in ("What was changed", "Networks") or (block.title == "Left out" and bool(block.words))


def heading(comparison: Comparison) -> str:
    """Return what is compared with what."""
    return f"{comparison.dataset}: {comparison.before.name} → {comparison.after.name}"


def as_markdown(comparisons: Sequence[Comparison]) -> str:
    """Return the comparisons for a pull request."""
    parts: list[str] = []
    for comparison in comparisons:
        parts.append(f"## {heading(comparison)}\n")
        parts += map(block_as_markdown, blocks(comparison))
    return "\n".join([*parts, RULE]) + "\n"


def block_as_markdown(block: Block) -> str:
    """Return one table with its heading and words."""
    shown = block.frame is not None and len(block.frame)
    parts = [f"### {block.title}\n", f"{block.words}\n" if block.words else ""]
    parts += [markdown(block.frame, block.left)] if shown and block.frame is not None else []
    return "\n".join(filter(None, parts))


def print_tables(comparisons: Sequence[Comparison], console: Console | None = None) -> None:
    """Print the comparisons."""
    console = console or wide_console()
    for comparison in comparisons:
        console.print(heading(comparison), style="bold", highlight=False)
        for block in blocks(comparison):
            print_block(block, console)
    console.print(RULE.replace("*", ""), style="dim", highlight=False)


def wide_console() -> Console:
    """Return a console as wide as the terminal, or WIDE where there is none."""
    console = Console()
    if not console.is_terminal:
        console.width = WIDE
    return console


def print_block(block: Block, console: Console) -> None:
    """Print one table with its heading and words."""
    console.print(f"\n{block.title}", style="bold")
    if block.words:
        console.print(block.words.replace("*", ""), highlight=False)
    if block.frame is not None and len(block.frame):
        console.print(_table(block.frame, block.left), highlight=False)


def as_page(comparisons: Sequence[Comparison]) -> str:
    """Return the comparisons as one page of HTML that needs nothing else, curves of both sides laid over another."""
    report, here = files("resblock.report"), files("resblock.diff")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    css = (report / "page.css").read_text(encoding="utf-8")
    template = environment.from_string((here / "page.html").read_text(encoding="utf-8"))
    return template.render(
        css=Markup(css),  # noqa: S704  (our own file)
        rule=RULE.replace("*", ""),
        comparisons=[
            {
                "heading": heading(comparison),
                "blocks": [_html(block) for block in (*blocks(comparison), _all_figures(comparison))],
                "curves": [Markup(svg(figure)) for figure in curves(comparison)],  # noqa: S704  (Matplotlib's)
            }
            for comparison in comparisons
        ],
    )


def as_tree(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison as JSON holds it, numbers in stored units."""
    return {
        "dataset": comparison.dataset,
        "before": comparison.before.name,
        "after": comparison.after.name,
        "changes": [_change_tree(change) for change in comparison.changes],
        "trainings": [_change_tree(change) for change in comparison.trainings],
        "trainings_with_equal_curves": comparison.repeated,
        "networks": [_shift_tree(shift) for shift in comparison.shifts],
        "gaps": [_shift_tree(shift) for shift in comparison.gaps],
        "verdicts": [
            {"claim": change.claim, "before": change.before.outcome, "after": change.after.outcome}
            for change in comparison.verdicts
        ],
        "left_out": _left_out(comparison),
    }


def curves(comparison: Comparison) -> list[Figure]:
    """Draw the mean curves of every network that both sides have, one over the other; a figure for each recipe."""
    recipes = [name for name in comparison.before.studies if name in comparison.after.studies]
    return [figure for recipe in recipes if (figure := _curves(comparison, recipe)) is not None]


def _curves(comparison: Comparison, recipe: str) -> Figure | None:
    both = shared_keys(comparison)
    sides = [
        by_network({key: side.curves[key] for key in both}, recipe) for side in (comparison.before, comparison.after)
    ]
    shared = list(sides[0])
    if not shared:
        return None
    with house_style():
        figure = new_figure(8, 2.2 * len(shared) + 0.5)
        axes = figure.subplots(len(shared), len(DRAWN), sharex="row", sharey="col", squeeze=False)
        for row, spec in zip(axes, shared, strict=True):
            for axis, (column, words) in zip(row, DRAWN.items(), strict=True):
                axis.set_title(f"{label(spec, recipe)}: {words}")
                axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
                for side, name, style in zip(sides, ("before", "after"), _styles(spec), strict=True):
                    frames = [rows_frame(EpochRow, curve).set_index("epoch")[column] for curve in side[spec].values()]
                    for frame in frames:
                        axis.plot(frame.index, frame, **{**style, "linewidth": 0.6}, alpha=0.35)
                    mean = sum(frames[1:], frames[0]) / len(frames)
                    axis.plot(mean.index, mean, **style, linewidth=1.6, label=name)
            row[0].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            row[1].set_yscale("log")
        for axis in axes[-1]:
            axis.set_xlabel("epoch")
        handles, names = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=2, title="thin: seeds; thick: mean")
    return figure


def _styles(spec: ModelSpec) -> tuple[dict[str, Any], dict[str, Any]]:
    return {"color": SOFT, "linestyle": "dashed"}, {"color": COLORS[spec.family], "linestyle": "solid"}


def _what_was_changed(comparison: Comparison) -> str:
    sides = (comparison.before, comparison.after)
    both = len(shared_keys(comparison))
    trained = f"{len(sides[0].manifests)} trainings before, {len(sides[1].manifests)} after"
    lead = f"{trained}; {comparison.repeated} of the {both} on both sides have the same curve to its last bit."
    return lead if comparison.changes else f"Nothing. {lead}"


def _few_files(comparison: Comparison) -> list[Change]:
    """Return the changes; where there are many files of code, their number instead."""
    code = [change for change in comparison.changes if change.what.startswith("code, ")]
    others = [change for change in comparison.changes if change not in code]
    if len(code) <= MOST_FILES:
        return [*others, *code]
    return [*others, Change(f"code, {len(code)} files of core and evaluation", "", "")]


def _change_frame(changes: Sequence[Change]) -> pd.DataFrame:
    rows = [(change.what, _or_none(change.before), _or_none(change.after)) for change in changes]
    return pd.DataFrame(rows, columns=["what", *_SIDES])


def _or_none(text: str | None) -> str:
    return NONE if text is None else text


def _network_frame(comparison: Comparison) -> pd.DataFrame:
    losses = {shift.label: shift for shift in comparison.of(HEADLINE_LOSS)}
    return pd.DataFrame(
        [
            {
                "network": shift.label,
                "seeds": str(len(shift.differences)),
                "test accuracy, %": _from_to(shift, 100, 1),
                "points": _difference(shift, 100, 1),
                "outcome": shift.outcome,
                "test loss": _from_to(losses[shift.label], 1, 3),
                "nats": _difference(losses[shift.label], 1, 3),
                "loss outcome": losses[shift.label].outcome,
            }
            for shift in comparison.of(HEADLINE)
        ]
    )


def _gap_frame(gaps: Sequence[Shift]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "twins": gap.label,
                "before, points": difference(gap.before, 100, 1),
                "after, points": difference(gap.after, 100, 1),
                "difference": difference(gap.interval, 100, 1),
                "outcome": gap.outcome,
            }
            for gap in gaps
        ]
    )


def _verdict_frame(comparison: Comparison) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "claim": change.statement,
                "before": f"{change.before.outcome}: {figure_of(change.before)}",
                "after": f"{change.after.outcome}: {figure_of(change.after)}",
            }
            for change in comparison.verdicts
        ]
    )


def _all_figures(comparison: Comparison) -> Block:
    """Return every figure that is not equal on both sides: for the page, which has room for it."""
    moved = [shift for shift in comparison.shifts if shift.outcome != "equal"]
    rows = [
        {
            "network": shift.label,
            "figure": shift.metric,
            "before": number(shift.before, digits=4),
            "after": number(shift.after, digits=4),
            "difference": difference(shift.interval, 1, 4),
            "outcome": shift.outcome,
        }
        for shift in moved
    ]
    words = "Losses in nats, accuracies as fractions." if rows else "All are equal."
    return Block("Every figure that is not equal", words, pd.DataFrame(rows), ("figure", "outcome"))


def _count(shifts: Sequence[Shift]) -> str:
    if not shifts:
        return "No network has scores on both sides."
    counts = {outcome: sum(shift.outcome == outcome for shift in shifts) for outcome in OUTCOMES}
    told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
    return f"Test accuracy, batch-norm statistics re-estimated, of {len(shifts)} networks on both sides: {told}."


def _from_to(shift: Shift, scale: float, digits: int) -> str:
    before, after = (f"{scale * interval.mean:.{digits}f}" for interval in (shift.before, shift.after))
    return before if before == after else f"{before} → {after}"


def _difference(shift: Shift, scale: float, digits: int) -> str:
    return NONE if shift.outcome == "equal" else difference(shift.interval, scale, digits)


def _left_out(comparison: Comparison) -> list[str]:
    return [f"{side.name}: {words}" for side in (comparison.before, comparison.after) for words in side.left_out]


def _table(frame: pd.DataFrame, left: Sequence[str]) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for index, column in enumerate(map(str, frame.columns)):
        table.add_column(column, justify="left" if index == 0 or column in left else "right")
    for row in frame.to_numpy().tolist():
        table.add_row(*(Text(str(cell)) for cell in row))  # a name may look like markup
    return table


def _html(block: Block) -> dict[str, Any]:
    shown = block.frame is not None and len(block.frame)
    table = block.frame.to_html(index=False, border=0, escape=True) if shown and block.frame is not None else ""
    return {"title": block.title, "words": block.words, "table": Markup(table)}  # noqa: S704  (escaped by pandas)


def _change_tree(change: Change) -> dict[str, str | None]:
    return {"what": change.what, "before": change.before, "after": change.after}


def _shift_tree(shift: Shift) -> dict[str, Any]:
    return {
        "name": shift.label,
        "metric": shift.metric,
        "before": _interval_tree(shift.before),
        "after": _interval_tree(shift.after),
        "difference": _interval_tree(shift.interval),
        "by_seed": {str(seed): value for seed, value in shift.differences.items()},
        "outcome": shift.outcome,
    }


def _interval_tree(interval: Interval) -> dict[str, float | int | None]:
    bounds = {"mean": interval.mean, "low": interval.low, "high": interval.high}
    return {**{name: None if math.isnan(value) else value for name, value in bounds.items()}, "seeds": interval.n}
