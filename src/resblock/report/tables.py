"""The numbers behind the pictures, as frames: written as CSV next to them and shown on the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from resblock.evaluation.score import Confusion
from resblock.evaluation.study import HEADLINES, Interval, Study
from resblock.spec import ModelSpec
from resblock.training.run import Cost

Costs = Mapping[ModelSpec, Mapping[int, Cost]]


def percent(interval: Interval) -> str:
    """Return a mean with its half-width in per cent, for instance ``91.3 ± 0.4``; a dash where there is none."""
    if math.isnan(interval.mean):
        return "–"
    if math.isnan(interval.half_width):
        return f"{100 * interval.mean:.1f}"
    return f"{100 * interval.mean:.1f} ± {100 * interval.half_width:.1f}"


def points(interval: Interval) -> str:
    """Return a difference with its interval in percentage points, for instance ``+1.2 [0.3, 2.1]``."""
    if math.isnan(interval.mean):
        return "–"
    if math.isnan(interval.half_width):
        return f"{100 * interval.mean:+.1f}"
    return f"{100 * interval.mean:+.1f} [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]"


def network_table(study: Study, costs: Costs) -> pd.DataFrame:
    """Return a row per network: accuracies in per cent with half-widths, every seed's test accuracy, and the cost."""
    rows: list[dict[str, object]] = []
    for summary in study.summaries:
        known = list(costs.get(summary.spec, {}).values())
        row: dict[str, object] = {
            "network": summary.spec.name,
            "parameters": f"{known[0].parameters:,}" if known else "–",
            "multiply-adds": f"{known[0].multiply_adds / 1e6:.1f} M" if known else "–",
        }
        for metric in HEADLINES:
            row[metric.removesuffix("_accuracy")] = percent(summary.interval(metric))
        row["test, re-estimated"] = percent(summary.interval("test_accuracy_reestimated"))
        row["test, every seed"] = ", ".join(f"{100 * value:.1f}" for value in summary.values("test_accuracy")) or "–"
        row["images/s"] = f"{pd.Series([cost.images_per_second for cost in known]).median():,.0f}" if known else "–"
        row["remarks"] = summary.trouble
        rows.append(row)
    frame = pd.DataFrame(rows)
    return frame if frame["remarks"].any() else frame.drop(columns="remarks")


def gap_table(study: Study) -> pd.DataFrame:
    """Return a row per depth: the paired residual-minus-plain gap in points on each split and by both statistics."""
    metrics = {
        "train": "train_accuracy",
        "test": "test_accuracy",
        "train, re-estimated": "train_accuracy_reestimated",
        "test, re-estimated": "test_accuracy_reestimated",
    }
    gaps = {label: study.gaps(metric) for label, metric in metrics.items()}
    return pd.DataFrame(
        [
            {"depth": gap.depth, "seeds": len(gap.differences)}
            | {label: points(gaps[label][index].interval) for label in metrics}
            for index, gap in enumerate(gaps["test"])
        ]
    )


def depth_data(study: Study) -> pd.DataFrame:
    """Return the points and intervals of depth against accuracy."""
    rows = [
        {
            "variant": summary.spec.name,
            "family": summary.spec.family,
            "depth": summary.spec.depth,
            "metric": metric,
            "mean": interval.mean,
            "low": interval.low,
            "high": interval.high,
            "seeds": interval.n,
        }
        for summary in study.summaries
        for split in ("train", "validation", "test")
        for metric in (f"{split}_accuracy", f"{split}_accuracy_reestimated")
        for interval in [summary.interval(metric)]
    ]
    return pd.DataFrame(rows)


def gap_data(study: Study, metrics: Sequence[str]) -> pd.DataFrame:
    """Return the residual-minus-plain gap of every seed."""
    rows = [
        {"depth": gap.depth, "metric": metric, "seed": seed, "residual_minus_plain": difference}
        for metric in metrics
        for gap in study.gaps(metric)
        for seed, difference in gap.differences.items()
    ]
    return pd.DataFrame(rows, columns=["depth", "metric", "seed", "residual_minus_plain"])


def class_table(confusions: Sequence[Confusion], classes: Sequence[str]) -> pd.DataFrame:
    """Return each network's accuracy per class in per cent, the mean over seeds."""
    variants = list(dict.fromkeys(confusion.variant for confusion in confusions))
    rows: list[dict[str, object]] = []
    for variant in variants:
        mine = [confusion.per_class_accuracy for confusion in confusions if confusion.variant == variant]
        shares = sum(mine[1:], mine[0]) / len(mine)
        row: dict[str, object] = {"network": variant}
        row |= {name: f"{100 * share:.1f}" for name, share in zip(classes, shares, strict=True)}
        rows.append(row)
    return pd.DataFrame(rows)
