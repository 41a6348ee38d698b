"""What the addition buys: twins against each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from resblock.core.spec import ModelSpec
from resblock.evaluation.score import HEADLINE, headline, with_statistics
from resblock.report.material import Material, Picture, Section, Table
from resblock.report.style import INK, house_style, legend_below, look, new_figure
from resblock.report.tables import bounds, p_value
from resblock.report.words import KINDS, OTHER
from resblock.study.comparison import Comparison, ImagePairs, adjusted_image_p_values, compare
from resblock.study.interval import CONFIDENCE, seeds_in_words
from resblock.study.numbers import NONE, plain, points
from resblock.study.summary import Gap, Study

ORDER = (HEADLINE, OTHER)
SPLITS = ("test", "train")
METRICS = tuple(with_statistics(f"{split}_accuracy", kind) for kind in ORDER for split in SPLITS)


def section(material: Material) -> Section | None:
    """Show the paired gap of every pair of twins, and what may be said of it."""
    study = material.study
    test = headline("test_accuracy")
    if not any(gap.differences for modified in (False, True) for gap in study.gaps(test, modified=modified)):
        return None
    caption = (
        "Accuracy of the residual network minus that of its plain twin, paired by seed: small marks are seeds, large "
        "ones their mean, bars its paired 95 % t-interval. Above zero the shortcut helps. Left: test images, right: "
        "training images, on a scale of their own. Twins with modifiers are not drawn; a table names them."
    )
    words = (
        "Twins share initial weights and batches and differ in the addition alone, so each seed is a pair. The "
        "t-interval assumes normal differences and adds the variance of rounding to whole images; the bootstrap "
        "resamples seeds and assumes nothing, but is too narrow for few of them. Holm's adjustment holds the errors "
        "of one family together: every pair of twins without modifiers, on train and on test, by one kind of "
        "statistics. The decision rests on the adjusted p-value of the paired t-test; the seeds to tell are those "
        "that would find a gap as large as the one seen four times in five, in words where the spread of so few seeds "
        "is hardly known. Detectable is the smallest true gap that a t-test at this number of seeds, taken alone, "
        "finds four times in five at the spread seen. A training that diverged counts at chance."
    )
    tables = [
        Table(
            f"gaps-{'modified-' if modified else ''}{statistics}",
            f"Gaps in percentage points, statistics {KINDS[statistics]}."
            f"{' Twins with modifiers are a family of their own.' if modified else ''}",
            _shown_gaps(study, comparisons),
            gaps_frame(study, comparisons),
        )
        for modified in (False, True)
        for statistics in ORDER
        for comparisons in [compare(study, statistics, modified=modified)]
        if comparisons
    ]
    tables += [
        Table(f"pairs-{statistics}", _PAIRS_CAPTION.format(KINDS[statistics]), *_pairs(pairs))
        for statistics in ORDER
        for pairs in [[pair for pair in material.results.pairs if pair.statistics == statistics]]
        if pairs
    ]
    there = any(gap.differences for gap in study.gaps(test))
    pictures = [Picture("gap", caption, draw(study), _data(study))] if there else []
    return Section("gap", "What the addition buys", words, pictures, tables)


def draw(study: Study) -> Figure:
    """Draw the paired residual-minus-plain gap over depth, a row per kind of statistics and a column per split."""
    with house_style():
        figure = new_figure(9, 5.4)
        axes = figure.subplots(len(ORDER), len(SPLITS), sharex=True, sharey="col")
        for row, kind in zip(axes, ORDER, strict=True):
            for axis, split in zip(row, SPLITS, strict=True):
                _panel(axis, study.gaps(with_statistics(f"{split}_accuracy", kind)))
                axis.set_title(f"{split} images, statistics {KINDS[kind]}")
            row[0].set_ylabel("residual − plain (points)")
        for axis in axes[-1]:
            axis.set_xlabel("depth (weight layers)")
        legend_below(figure, axes[0, 0])
    return figure


_SEED, _MEAN = "a seed's twins", f"mean over seeds, with its {100 * CONFIDENCE:.0f} % t-interval"


def _panel(axis: Axes, gaps: Sequence[Gap]) -> None:
    axis.axhline(0, color=INK, linewidth=0.8)
    for gap in gaps:
        points_, first = [100 * difference for difference in gap.differences.values()], gap is gaps[0]
        seeds: dict[str, Any] = {"linestyle": "none", "alpha": 0.35, "markersize": 4, "label": _SEED if first else None}
        axis.plot([gap.depth] * len(points_), points_, **seeds, **look(gap.residual))
        interval, label = gap.interval, _MEAN if first else None
        half = float(np.nan_to_num(interval.half_width))
        axis.errorbar(
            [gap.depth], [100 * interval.mean], yerr=[100 * half], capsize=3, label=label, **look(gap.residual)
        )
    axis.set_xticks(sorted({gap.depth for gap in gaps}))


GAP_COLUMNS = (
    "twins",
    "metric",
    "seeds",
    "mean",
    "t_low",
    "t_high",
    "bootstrap_low",
    "bootstrap_high",
    "p",
    "p_holm",
    "detectable",
    "seeds_needed",
    "decision",
    "remarks",
)


def gaps_frame(study: Study, comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """Return a row per comparison, numbers in stored units."""
    remarks = _remarks(study)
    rows = [
        {
            "twins": comparison.gap.label,
            "metric": comparison.gap.metric,
            "seeds": len(comparison.gap.differences),
            "mean": comparison.gap.interval.mean,
            **bounds("t", comparison.gap.interval),
            **bounds("bootstrap", comparison.bootstrap),
            "p": comparison.p_value,
            "p_holm": comparison.adjusted_p_value,
            "detectable": comparison.detectable,
            "seeds_needed": comparison.seeds_needed,
            "decision": comparison.decision,
            "remarks": remarks[comparison.gap.residual],
        }
        for comparison in comparisons
    ]
    return pd.DataFrame(rows, columns=list(GAP_COLUMNS))  # pyright: ignore[reportArgumentType]


def _shown_gaps(study: Study, comparisons: Sequence[Comparison]) -> pd.DataFrame:
    remarks = _remarks(study)
    shown = [
        {
            "twins": comparison.gap.label,
            "images": comparison.gap.metric.partition("_")[0],
            "seeds": str(len(comparison.gap.differences)),
            "gap [95 % t-interval]": points(comparison.gap.interval),
            "bootstrap": points(comparison.bootstrap).partition(" ")[2] or NONE,
            "p": p_value(comparison.p_value),
            "p, Holm": p_value(comparison.adjusted_p_value),
            "detectable": plain(100 * comparison.detectable, 1) if comparison.detectable > 0 else NONE,
            "decision": comparison.decision,
            "seeds to tell": _seeds_needed(comparison),
            "remarks": remarks[comparison.gap.residual],
        }
        for comparison in comparisons
    ]
    frame = pd.DataFrame(shown)
    return frame if (frame["remarks"] != NONE).any() else frame.drop(columns="remarks")


def _remarks(study: Study) -> dict[ModelSpec, str]:
    """Return what befell trainings of a pair of twins, by its residual network."""
    return {pair[0]: "; ".join(study.remarks(pair)) or NONE for pair in (*study.twins, *study.modified_twins)}


def _seeds_needed(comparison: Comparison) -> str:
    if comparison.decision != "undecided":
        return NONE
    if comparison.gap.interval.n < 2:
        return "2 at least"
    return seeds_in_words(comparison.seeds_needed, comparison.gap.interval.n)


_PAIRS_CAPTION = (
    "Test images that one twin got right and the other wrong, statistics {}, with McNemar's exact p-value, "
    "adjusted by Holm over all rows. It tells two trained networks apart, not two ways to train."
)


def _pairs(pairs: Sequence[ImagePairs]) -> tuple[pd.DataFrame, pd.DataFrame]:
    adjusted = adjusted_image_p_values(pairs)
    shown = [
        {
            "twins": f"{pair.residual} / {pair.plain}",
            "seed": str(pair.seed),
            "both right": str(pair.both_right),
            "only residual": str(pair.only_residual),
            "only plain": str(pair.only_plain),
            "both wrong": str(pair.both_wrong),
            "p": p_value(pair.p_value),
            "p, Holm": p_value(p),
        }
        for pair, p in zip(pairs, adjusted, strict=True)
    ]
    data = pd.DataFrame(pairs).assign(p=[pair.p_value for pair in pairs], p_holm=adjusted)
    return pd.DataFrame(shown), data


def _data(study: Study) -> pd.DataFrame:
    rows = [
        {"twins": gap.label, "metric": metric, "seed": seed, "residual_minus_plain": difference}
        for metric in METRICS
        for gap in study.gaps(metric)
        for seed, difference in gap.differences.items()
    ]
    return pd.DataFrame(rows)
