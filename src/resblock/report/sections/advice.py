"""Which network to use, and what that rests on."""

from __future__ import annotations

import pandas as pd

from resblock.report.material import Material, Section, Table
from resblock.study.advice import METRIC, Advice, Circumstances, advise
from resblock.study.numbers import NONE, number, points
from resblock.study.summary import lead


def section(material: Material) -> Section | None:
    """Say which network is the shallowest within noise of the best, and show every network's distance from it."""
    advice = advice_on(material)
    if advice is None:
        return None
    note = (
        "Validation accuracy with batch-norm statistics re-estimated, mean over seeds ± half of the 95 % t-interval, "
        "and the best network's lead, paired by seed, in points."
    )
    # Costs are of a clock, so the page says them and no file that a repeat must make again.
    return Section(
        "advice", "Which network to use", " ".join(advice.sentences()), tables=[Table("advice", note, _table(advice))]
    )


def advice_on(material: Material) -> Advice | None:
    """Return the advice that a report's material allows; its `sentences` are for the abstract, too."""
    recipe = material.recipes[0] if material.recipes else {}
    return advise(
        material.study,
        material.costs,
        Circumstances(
            material.dataset.image_shape, material.dataset.sizes["validation"], int(recipe.get("batch_size", 1))
        ),
    )


def _table(advice: Advice) -> pd.DataFrame:
    rows: list[dict[str, str]] = []
    for summary in sorted(advice.study.summaries, key=lambda each: each.spec.depth):
        best = summary is advice.best
        mark = "chosen" if summary is advice.choice else "best" if best else ""
        rows.append(
            {
                "network": summary.spec.name,
                "validation accuracy, %": number(summary.interval(METRIC), scale=100),
                "seeds": str(len(summary.finished)),
                "lead of the best": NONE if best else points(lead(advice.best, summary, METRIC).interval),
                "": mark or summary.trouble,
            }
        )
    return pd.DataFrame(rows)
