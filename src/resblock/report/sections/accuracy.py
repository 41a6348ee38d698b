"""How accurate each network is, and how accuracy changes with depth."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from resblock.evaluation.score import HEADLINE, headline, with_statistics
from resblock.report.figures import over_depth
from resblock.report.material import Material, Picture, Section, Table
from resblock.report.style import MARKS, house_style, legend_below, new_figure
from resblock.report.tables import percent
from resblock.report.words import KINDS, OTHER
from resblock.study.numbers import NONE
from resblock.study.summary import SHOWN, Study


def section(material: Material) -> Section | None:
    """Show depth against accuracy and the table of networks."""
    study = material.study
    finished = any(summary.finished for summary in study.summaries)
    caption = (
        "Small marks are seeds, large ones their mean, bars its 95 % t-interval. Networks of one depth stand side by "
        "side. Left: test images, right: training images without augmentation, on a scale of their own. Above, "
        "batch-norm statistics re-estimated on training images, the weights untouched; below, as trained. Trainings "
        "that diverged are not drawn; the table names them. Counting whole images widens every bar a little, so that "
        "one may reach beyond 100 %."
    )
    pictures = [Picture("depth", caption, draw(study), _data(study))] if finished else []
    words = (
        "Accuracy at the last epoch: nothing was chosen by test images, and every seed is shown. Batch-norm statistics "
        "are of two kinds: as trained are the moving averages that training leaves, re-estimated those of training "
        "images passed through the final weights. Intervals are Student's, of the mean over seeds, with the variance "
        "of counting whole images added: they say what other seeds would do on "
        f"{_these(material)}, not what other images would."
    )
    note = (
        f"Accuracy in per cent, batch-norm statistics {KINDS[HEADLINE]} unless the column says otherwise: mean over "
        "the seeds that finished ± half of the 95 % t-interval."
    )
    return Section(
        "depth", "Depth against accuracy", words, pictures, [Table("networks", note, _networks(material), _data(study))]
    )


def _these(material: Material) -> str:
    images = material.dataset.sizes.get("test")
    return f"these {images:,} test images of one split" if images else "these test images"


def draw(study: Study) -> Figure:
    """Draw accuracy over depth on test and training images: every seed, the mean, and its t-interval."""
    with house_style():
        figure = new_figure(9, 6.4)
        axes = figure.subplots(2, 2, sharex=True, sharey="col")
        for row, (suffix, statistics) in enumerate(
            (("_reestimated", "batch-norm statistics re-estimated"), ("", "statistics as trained"))
        ):
            for column, split in enumerate(("test", "train")):
                axis = axes[row, column]
                _panel(axis, study, f"{split}_accuracy{suffix}")
                axis.set_title(f"{split} images, {statistics}")
        for axis in axes[1]:
            axis.set_xlabel("depth (weight layers)")
        for axis in axes[:, 0]:
            axis.set_ylabel("accuracy")
        legend_below(figure, axes[0, 0], MARKS)
    return figure


def _panel(axis: Axes, study: Study, metric: str) -> None:
    over_depth(axis, study.measure(metric), study.rounding(metric))
    axis.set_xticks(sorted({summary.spec.depth for summary in study.summaries}))
    axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))


def _networks(material: Material) -> pd.DataFrame:
    rows: list[dict[str, object]] = []
    for summary in material.study.summaries:
        size = material.size(summary.spec)
        row: dict[str, object] = {
            "network": summary.spec.name,
            "parameters": f"{size[0]:,}" if size else NONE,
            "multiply-adds": f"{size[1] / 1e6:.1f} M" if size else NONE,
        }
        for metric in SHOWN:
            row[metric.removesuffix("_accuracy")] = percent(summary.interval(headline(metric)))
        row[f"test, {KINDS[OTHER]}"] = percent(summary.interval(with_statistics("test_accuracy", OTHER)))
        values = summary.values(headline("test_accuracy"))
        row["test, every seed"] = ", ".join(f"{100 * value:.1f}" for value in values) or NONE
        row["remarks"] = summary.trouble
        rows.append(row)
    frame = pd.DataFrame(rows)
    return frame if frame["remarks"].any() else frame.drop(columns="remarks")


def _data(study: Study) -> pd.DataFrame:
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
