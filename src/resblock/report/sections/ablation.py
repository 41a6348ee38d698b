"""What the recipe does: trainings by recipes that differ from the data set's own in one thing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from resblock.evaluation.score import HEADLINE, headline, with_statistics
from resblock.report.material import Material, Picture, Section, Table
from resblock.report.style import INK, house_style, look, new_figure
from resblock.report.tables import bounds
from resblock.report.words import KINDS, OTHER
from resblock.study.effects import REBOUND, Effect, changes, effects
from resblock.study.numbers import NONE, points
from resblock.study.verdicts import Trained

TEST, OTHER_TEST = headline("test_accuracy"), with_statistics("test_accuracy", OTHER)
METRICS = {
    headline("train_accuracy"): f"train, {KINDS[HEADLINE]}",
    TEST: f"test, {KINDS[HEADLINE]}",
    OTHER_TEST: f"test, {KINDS[OTHER]}",
    REBOUND: "rebound (rises / falls)",
}


def section(material: Material) -> Section | None:
    """Show what each recipe of the ablation changes, paired by seed."""
    base, ablations = material.evidence.base, material.evidence.ablations
    found = {metric: list(effects(base, ablations, metric)) for metric in METRICS}
    if not any(effect.differences for effect in found[TEST]):
        return None
    caption = (
        "Each recipe minus the data set's own, in percentage points and paired by seed, over seeds that both have: "
        "small marks are seeds, large ones their mean, bars its paired 95 % t-interval. Right of zero the "
        "change raises accuracy, or the rebound of validation loss."
    )
    words = (
        "The same networks trained by recipes that differ from the data set's own in what the table says and in "
        "nothing else. One seed gives both trainings the same initial weights."
    )
    picture = Picture("recipes", caption, draw(found), _data(found))
    table = Table(
        "recipes-table",
        "Differences in percentage points; in brackets the 95 % t-interval. A training that diverged counts at chance "
        "in accuracies and is left out of the rebound, whose heights are summed over seeds.",
        _shown(base, ablations, found),
    )
    return Section("recipes", "What the recipe does", words, [picture], [table])


def draw(found: Mapping[str, Sequence[Effect]]) -> Figure:
    """Draw the effects on each metric, one panel each, a row per recipe and network."""
    rows = [(effect.recipe, effect.spec) for effect in found[TEST]]
    several = len({spec for _, spec in rows}) > 1
    with house_style():
        figure = new_figure(2.3 * len(METRICS) + 1.4, 0.4 * len(rows) + 1.2)
        axes = figure.subplots(1, len(METRICS), sharey=True, squeeze=False)[0]
        for axis, (metric, title) in zip(axes, METRICS.items(), strict=True):
            _panel(axis, found[metric])
            axis.set_title(title)
            axis.set_xlabel("points")
        labels = [f"{recipe}, {spec}" if several else recipe for recipe, spec in rows]
        axes[0].set_yticks(range(len(rows)), labels)
        axes[0].set_ylim(len(rows) - 0.5, -0.5)  # in the order of params.yaml, from above
    return figure


def _panel(axis: Axes, row: Sequence[Effect]) -> None:
    axis.axvline(0, color=INK, linewidth=0.8)
    for place, effect in enumerate(row):
        values = [100 * difference for difference in effect.differences.values()]
        axis.plot(values, [place] * len(values), linestyle="none", alpha=0.35, markersize=4, **look(effect.spec))
        half = float(np.nan_to_num(effect.interval.half_width))
        axis.errorbar([100 * effect.interval.mean], [place], xerr=[100 * half], capsize=3, **look(effect.spec))


def _shown(base: Trained, ablations: Mapping[str, Trained], found: Mapping[str, Sequence[Effect]]) -> pd.DataFrame:
    rows: list[dict[str, str]] = []
    for place, effect in enumerate(found[TEST]):
        trained = ablations[effect.recipe]
        remarks = [*trained.study.remarks([effect.spec]), *base.study.remarks([effect.spec])]
        rows.append(
            {
                "recipe": effect.recipe,
                "what differs": _words(changes(base.recipe, trained.recipe)),
                "network": effect.spec.name,
                "seeds": str(len(effect.differences)),
                **{title: points(found[metric][place].interval) for metric, title in METRICS.items()},
                "remarks": "; ".join(dict.fromkeys(remarks)) or NONE,
            }
        )
    frame = pd.DataFrame(rows)
    return frame if (frame["remarks"] != NONE).any() else frame.drop(columns="remarks")


def _words(changed: Mapping[str, tuple[Any, Any]]) -> str:
    return ", ".join(f"{key}: {_value(before)} → {_value(after)}" for key, (before, after) in changed.items())


def _value(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _data(found: Mapping[str, Sequence[Effect]]) -> pd.DataFrame:
    rows = [
        {
            "recipe": effect.recipe,
            "variant": effect.spec.name,
            "metric": metric,
            "seed": seed,
            "difference": difference,
            "mean": effect.interval.mean,
            **bounds("t", effect.interval),
        }
        for metric, row in found.items()
        for effect in row
        for seed, difference in effect.differences.items()
    ]
    return pd.DataFrame(rows)
