"""A study as one self-contained page: text computed from numbers, pictures inside, no script, nothing from outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from resblock.report.material import Material, Picture, Section, Table
from resblock.report.sections import (
    ablation,
    accuracy,
    advice,
    blocks,
    calibration,
    comparison,
    cost,
    curves,
    data,
    errors,
    gradients,
    rebound,
    robustness,
)
from resblock.report.style import svg
from resblock.report.template import LINKS, fill_template
from resblock.report.words import verdicts as said
from resblock.report.words.abstract import abstract, trouble
from resblock.report.words.answer import answer
from resblock.study.verdicts import Verdict

METHODS = "../../../docs/methods.md"  # from a report's folder
SECTIONS: tuple[Callable[[Material], Section | None], ...] = (
    accuracy.section,
    comparison.section,
    curves.accuracy,
    curves.loss,
    rebound.section,
    gradients.section,
    blocks.section,
    ablation.section,
    calibration.section,
    errors.section,
    robustness.section,
    cost.section,
    advice.section,
    data.section,
)


def compose(material: Material) -> list[Section]:
    """Draw every section that the material allows."""
    return [section for make in SECTIONS if (section := make(material)) is not None]


def render(material: Material, sections: Sequence[Section]) -> str:
    """Return the page's HTML."""
    verdicts = said.verdicts_on(material)
    there = {section.name for section in sections}
    return fill_template(
        "page.html",
        dataset=material.dataset,
        answer=[_unbroken(part) for part in answer(material.study)],
        abstract=[_unbroken(part) for part in abstract(material, verdicts)],
        trouble=trouble(material.study),
        left_out=material.left_out,
        mixtures=material.mixtures,
        sections=[_section(section) for section in sections],
        verdicts=[_verdict(verdict, there) for verdict in verdicts],
        statistics=said.STATISTICS,
        survival=said.survival(verdicts),
        sizes=", ".join(f"{size:,} {name}" for name, size in material.dataset.sizes.items()) + " images.",
        recipe=_html(_recipe_table(material.recipes)),
        environment=_html(_environment_table(material)),
        times=_html(_time_table(material)),
        whose=_whose(material),
        keys=material.keys,
        links=LINKS,
        methods=METHODS,
    )


def _unbroken(text: str) -> str:
    return text.replace(" %", "\N{NO-BREAK SPACE}%")


def _section(section: Section) -> dict[str, Any]:
    return {
        "name": section.name,
        "title": section.title,
        "words": section.words,
        "pictures": [
            {
                "caption": picture.caption,
                "svg": Markup(svg(picture.figure)),  # noqa: S704  (Matplotlib's)
                "files": [data_file(picture), figure_file(picture)],
            }
            for picture in section.pictures
        ],
        "tables": [
            {
                "caption": table.caption,
                "html": _html(table.frame),
                "files": [data_file(table)],
            }
            for table in section.tables
        ],
    }


def data_file(item: Picture | Table) -> str:
    """Return where a picture's or table's numbers lie, relative to the page."""
    return f"{'timing' if item.timed else 'data'}/{item.name}.csv"


def figure_file(picture: Picture) -> str:
    """Return where a picture lies as a file, relative to the page."""
    return f"{'timing' if picture.timed else 'figures'}/{picture.name}.png"


def _verdict(verdict: Verdict, there: set[str]) -> dict[str, str]:
    claim = verdict.claim
    return {
        "statement": claim.statement,
        "source": claim.source,
        "measured": claim.measured,
        "compared": verdict.contrast.compared if verdict.contrast else "",
        "figure": said.figure_of(verdict),
        "basis": said.basis_of(verdict),
        "remarks": "; ".join(verdict.contrast.remarks) if verdict.contrast else "",
        "outcome": said.told_outcome(verdict),
        "kind": verdict.outcome.partition(" ")[0],
        "advice": verdict.advice,
        "picture": claim.picture if claim.picture in there and verdict.contrast else "",
    }


def _recipe_table(recipes: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    columns = {"value" if len(recipes) == 1 else f"recipe {n}": recipe for n, recipe in enumerate(recipes, start=1)}
    keys = list(dict.fromkeys(key for recipe in recipes for key in recipe))
    shown = {name: [str(recipe.get(key, "–")) for key in keys] for name, recipe in columns.items()}
    return pd.DataFrame({"key": keys, **shown})


def _environment_table(material: Material) -> pd.DataFrame:
    counts: dict[tuple[str, str, str], int] = {}
    for seeds in material.costs.values():
        for cost_ in seeds.values():
            versions = ", ".join(f"{name} {number}" for name, number in cost_.versions.items())
            place = (cost_.machine, str(cost_.threads), versions)
            counts[place] = counts.get(place, 0) + 1
    rows = [(*place, str(count)) for place, count in counts.items()]
    return pd.DataFrame(rows, columns=["machine", "threads", "versions", "trainings"])


def _whose(material: Material) -> str:
    trainings = sum(len(seeds) for seeds in material.costs.values())
    name = f"<code>resblock times {material.dataset.name}</code>"
    ours = f"of {material.unpublished} trainings, for which nothing is published, those of this folder"
    if material.unpublished == trainings:
        ours = "those of this folder's own trainings; nothing is published"
    said = "those published with the results" if material.unpublished < trainings else ours
    more = f"; {ours}" if 0 < material.unpublished < trainings else ""
    return Markup(f"Times on this page are {said}{more}. {name} shows both.")  # noqa: S704  (a data set's name is a word)


def _time_table(material: Material) -> pd.DataFrame:
    rows = [
        {
            "training": f"{spec.name}, seed {seed}",
            "started (UTC)": cost_.started.removesuffix("+00:00").replace("T", " "),
            "seconds": f"{cost_.seconds:,.0f}",
            "images/s": f"{cost_.images_per_second:,.0f}",
        }
        for spec, seeds in material.costs.items()
        for seed, cost_ in seeds.items()
    ]
    return pd.DataFrame(rows, columns=["training", "started (UTC)", "seconds", "images/s"])


def _html(frame: pd.DataFrame) -> Markup:
    html = frame.to_html(index=False, border=0, na_rep="–")  # escapes its cells
    return Markup(f'<div class="scroll">{html}</div>')  # noqa: S704
