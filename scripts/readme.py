#!/usr/bin/env python
"""Write the README's tables and pictures from the results in the repository; with --check, only compare the tables."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from blocks import markdown, replace_blocks

from resblock import paths
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.training.run import read_cost, read_curve
from resblock.evaluation.flow import nearest, read_untrained, slopes
from resblock.evaluation.interval import t_interval
from resblock.evaluation.score import read_scores
from resblock.evaluation.study import Study
from resblock.report.figures import run_curves
from resblock.report.style import save_figure, series_of
from resblock.report.tables import number, percent, points

README = Path("README.md")
IMAGES = Path("docs/images")
INDEPENDENT = Path("docs/results/cifar10-independent-flips")  # the same trainings with `flips: independent`
TWINS = [RunKey("cifar10", ModelSpec.parse(name), 0) for name in ("residual-20", "plain-20")]
EPOCHS = (1, 5, 10, 15, 20)


def digits() -> str:
    """Return accuracy by network and the paired gaps, on the bundled digits."""
    study = Study("digits", tuple(read_scores(paths.scores("digits"))))
    gaps = {f"residual-{gap.depth}": points(gap.interval) for gap in study.gaps("test_accuracy")}
    rows = [
        {
            "network": f"`{summary.spec}`",
            "train accuracy, %": percent(summary.interval("train_accuracy")),
            "test accuracy, %": percent(summary.interval("test_accuracy")),
            "every seed": ", ".join(f"{100 * value:.1f}" for value in summary.values("test_accuracy")),
            "residual − plain, points": gaps.get(summary.spec.name, ""),
        }
        for summary in study.summaries
    ]
    return _markdown(pd.DataFrame(rows))


def cifar10() -> str:
    """Return both twins' accuracies along the paper's recipe."""
    columns = {
        "training": "accuracy",
        "validation, as trained": "validation_accuracy",
        "validation, re-estimated": "validation_accuracy_reestimated",
    }
    rows = [
        {"network": f"`{key.spec}`", "accuracy, %": label}
        | {f"epoch {epoch}": f"{100 * getattr(curve[epoch - 1], column):.1f}" for epoch in EPOCHS}
        for key in TWINS
        for curve in [read_curve(paths.run(key))]
        for label, column in columns.items()
    ]
    return _markdown(pd.DataFrame(rows))


def rebound() -> str:
    """Return how often each loss rose from one epoch to the next, and the last epoch's test accuracy."""
    scores = {score.variant: score for score in read_scores(paths.scores("cifar10")) if score.seed == 0}
    rows: list[dict[str, object]] = []
    for key in TWINS:
        curve = pd.DataFrame(read_curve(paths.run(key)))
        rises = {name: int((curve[name].diff() > 0).sum()) for name in curve.columns}
        score, cost = scores[key.spec.name], read_cost(paths.cost(key))
        rows.append(
            {
                "network": f"`{key.spec}`",
                "rises of training loss": rises["loss"],
                "of validation loss, as trained": rises["validation_loss"],
                "of validation loss, re-estimated": rises["validation_loss_reestimated"],
                "test accuracy, as trained, %": f"{100 * score.test_accuracy:.1f}",
                "test accuracy, re-estimated, %": f"{100 * score.test_accuracy_reestimated:.1f}",
                "minutes": f"{cost.seconds / 60:.0f}",
                "fastest epoch, s": f"{min(cost.epoch_seconds):.0f}",
            }
        )
    return _markdown(pd.DataFrame(rows))


def flips() -> str:
    """Return training accuracies with one coin for both flips and with two."""
    rows = [
        {"network": f"`{key.spec}`", "`flips`": name}
        | {f"epoch {epoch}": f"{100 * curve[epoch - 1].accuracy:.1f}" for epoch in EPOCHS}
        for key in TWINS
        for name, folder in (("joint", paths.run(key)), ("independent", INDEPENDENT / key.spec.name))
        for curve in [read_curve(folder)]
    ]
    return _markdown(pd.DataFrame(rows))


def untrained() -> str:
    """Return what depth does to gradients before training, on CIFAR-10."""
    found = read_untrained(paths.untrained("cifar10"))
    measures = {"slope": slopes(found.gradients, "activations"), "cosine": nearest(found.shattering)}
    depths = sorted({spec.depth for spec in found.gradients})
    rows = [
        {"network": f"`{series}`", "number": words}
        | {
            f"depth {depth}": number(t_interval(list(measure[ModelSpec.parse(name)].values())), 1, 3)
            for depth in depths
            for name in [series.replace("-", f"-{depth}-", 1) if "-" in series else f"{series}-{depth}"]
        }
        for words, measure in measures.items()
        for series in series_of(found.gradients)
    ]
    return _markdown(pd.DataFrame(rows))


# Pictures that a report has made: the dataset's name, the figure's, and the README's own.
PICTURES = (("digits", "depth", "digits-depth"), ("cifar10", "untrained", "cifar10-untrained"))

BLOCKS: dict[str, Callable[[], str]] = {
    "digits": digits,
    "cifar10": cifar10,
    "rebound": rebound,
    "flips": flips,
    "untrained": untrained,
}


def main() -> None:
    """Rewrite the README's blocks and pictures, or fail where a block is not what the results say."""
    before = README.read_text(encoding="utf-8")
    after = replace_blocks(README, before, {name: make() for name, make in BLOCKS.items()})
    if "--check" in sys.argv:
        sys.exit("README.md: its tables are not what the results say; run make readme" if after != before else 0)
    figures = {paths.report(dataset) / f"figures/{figure}.png": name for dataset, figure, name in PICTURES}
    if missing := [figure for figure in figures if not figure.exists()]:
        sys.exit(f"{missing[0]}: not here, as in a clone without DVC's cache; resblock report {missing[0].parts[-3]}")
    README.write_text(after, encoding="utf-8")
    for figure, name in figures.items():
        shutil.copy(figure, IMAGES / f"{name}.png")
    curves = {str(key.spec): read_curve(paths.run(key)) for key in TWINS}
    save_figure(run_curves(curves), IMAGES / "cifar10-curves.png")


def _markdown(frame: pd.DataFrame) -> str:
    return markdown(frame, text=("network", "`flips`", "accuracy, %", "number"))


if __name__ == "__main__":
    main()
