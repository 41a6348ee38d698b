"""A study as one self-contained page: text computed from the numbers, pictures inside, no script, no link outside."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from resblock.data.splits import DatasetDescription
from resblock.evaluation.score import Confusion
from resblock.evaluation.study import Study
from resblock.report import figures, tables
from resblock.report.figures import Curves
from resblock.report.style import svg
from resblock.report.tables import Costs


@dataclass(frozen=True)
class Picture:
    """A figure with its words and, where it has them, its data."""

    name: str
    title: str
    caption: str
    figure: Figure
    data: pd.DataFrame | None = None


@dataclass(frozen=True)
class Material:
    """All that a page is made from."""

    study: Study
    dataset: DatasetDescription
    curves: Curves
    costs: Costs
    confusions: Sequence[Confusion]
    recipes: Sequence[Mapping[str, Any]]  # of the runs that are there, each different one once


def pictures(material: Material) -> list[Picture]:
    """Draw every picture that the material allows."""
    study = material.study
    drawn: list[Picture] = []
    if figures.finished_summaries(study):
        drawn.append(
            Picture(
                "depth",
                "Depth against accuracy",
                "Small marks are seeds, large ones their mean, bars its 95 % t-interval. Left: test images, right: "
                "training images without augmentation. Below, batch-norm statistics re-estimated on training images.",
                figures.depth_against_accuracy(study),
                tables.depth_data(study),
            )
        )
    gap_metrics = ("train_accuracy", "test_accuracy", "test_accuracy_reestimated")
    if any(gap.differences for gap in study.gaps("test_accuracy")):
        drawn.append(
            Picture(
                "gap",
                "What the addition buys",
                "Accuracy of the residual network minus that of its plain twin, paired by seed, with the paired 95 % "
                "t-interval. Above zero the shortcut helps.",
                figures.gaps(study, gap_metrics),
                tables.gap_data(study, gap_metrics),
            )
        )
    for name, columns, title in (
        ("accuracy", figures.ACCURACIES, "Accuracy over epochs"),
        ("loss", figures.LOSSES, "Loss over epochs"),
    ):
        if material.curves:
            caption = (
                "Training figures are averages over an epoch on augmented images, while the weights move. A validation "
                "curve that jumps in the middle row and not in the lower one shows statistics that lag behind."
            )
            drawn.append(Picture(name, title, caption, figures.learning_curves(material.curves, columns)))
    if material.confusions:
        drawn.append(
            Picture(
                "confusion",
                "Which classes are taken for which",
                "Per cent of each true class on the test images, all seeds together, statistics as trained.",
                figures.confusion_matrices(material.confusions, material.dataset.classes),
            )
        )
    return drawn


def render(material: Material, drawn: Sequence[Picture]) -> str:
    """Return the page's HTML."""
    room = files("resblock.report")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string((room / "page.html").read_text(encoding="utf-8"))
    dataset, study = material.dataset, material.study
    gap_table = tables.gap_table(study)
    return template.render(
        css=Markup((room / "page.css").read_text(encoding="utf-8")),  # noqa: S704  (our own file)
        dataset=dataset,
        lead=lead(study),
        trouble=_trouble(study),
        networks=_table(tables.network_table(study, material.costs)),
        gaps=_table(gap_table) if len(gap_table) else "",
        classes=_table(tables.class_table(material.confusions, dataset.classes)) if material.confusions else "",
        figures=[
            {
                "name": picture.name,
                "title": picture.title,
                "caption": picture.caption,
                "svg": Markup(svg(picture.figure)),  # noqa: S704  (Matplotlib's)
                "data": f"data/{picture.name}.csv" if picture.data is not None else "",
            }
            for picture in drawn
        ],
        sizes=", ".join(f"{size:,} {name}" for name, size in dataset.sizes.items()) + " images.",
        recipe=_table(_recipe_table(material.recipes)),
        costs=_table(_cost_table(material)),
    )


def lead(study: Study) -> str:
    """Say in words what the deepest pair of twins shows, from the numbers alone."""
    gaps = [gap for gap in study.gaps("test_accuracy") if gap.differences]
    if not gaps:
        best = max(figures.finished_summaries(study), key=lambda s: s.interval("test_accuracy").mean, default=None)
        if best is None:
            return "No training has finished yet."
        return f"Best so far: {best.spec.name} with {tables.percent(best.interval('test_accuracy'))} % on test images."
    deepest = gaps[-1]
    interval = deepest.interval
    amount = f"{100 * interval.mean:+.1f} points"
    seeds = f"{interval.n} seed{'s' if interval.n > 1 else ''}"
    statement = (
        f"At depth {deepest.depth}, the deepest with both twins, the residual network's test accuracy lies {amount} "
        f"from its plain twin's ({seeds}"
    )
    if math.isnan(interval.low):
        return f"{statement}; one seed gives no interval, so this decides nothing)."
    bounds = f"95 % interval {100 * interval.low:+.1f} to {100 * interval.high:+.1f}"
    if interval.low > 0:
        verdict = "the addition helps there"
    elif interval.high < 0:
        verdict = "the addition hurts there"
    else:
        verdict = "the interval holds zero, so this study does not decide whether the addition helps there"
    return f"{statement}, {bounds}): {verdict}."


def _trouble(study: Study) -> str:
    return "; ".join(f"{summary.spec.name}: {summary.trouble}" for summary in study.summaries if summary.trouble)


def _recipe_table(recipes: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    columns = {"value" if len(recipes) == 1 else f"recipe {n}": recipe for n, recipe in enumerate(recipes, start=1)}
    keys = list(dict.fromkeys(key for recipe in recipes for key in recipe))
    shown = {name: [str(recipe.get(key, "–")) for key in keys] for name, recipe in columns.items()}
    return pd.DataFrame({"key": keys, **shown})


def _cost_table(material: Material) -> pd.DataFrame:
    rows = [
        {
            "training": f"{spec.name}, seed {seed}",
            "started (UTC)": cost.started.removesuffix("+00:00").replace("T", " "),
            "seconds": f"{cost.seconds:,.0f}",
            "images/s": f"{cost.images_per_second:,.0f}",
            "threads": cost.threads,
            "machine": cost.machine,
            "versions": ", ".join(f"{name} {number}" for name, number in cost.versions.items()),
        }
        for spec, seeds in material.costs.items()
        for seed, cost in seeds.items()
    ]
    columns = ["training", "started (UTC)", "seconds", "images/s", "threads", "machine", "versions"]
    return pd.DataFrame(rows, columns=columns)


def _table(frame: pd.DataFrame) -> Markup:
    html = frame.to_html(index=False, border=0, na_rep="–")  # escapes its cells
    return Markup(f'<div class="scroll">{html}</div>')  # noqa: S704
