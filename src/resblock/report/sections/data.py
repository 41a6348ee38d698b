"""The data themselves: what was read, how classes lie in the splits, and what an owner must know before all numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from resblock.core.splits import SPLIT_NAMES
from resblock.data.review import Review
from resblock.report.material import Material, Picture, Section, Table
from resblock.report.style import house_style, legend_below, new_figure
from resblock.report.tables import shown_name
from resblock.study.numbers import capitalised

MOST_NAMED = 30  # classes whose bars can carry a name
SHADES = {"train": "#0072B2", "validation": "#E69F00", "test": "#D55E00"}  # of Okabe & Ito's palette


def section(material: Material) -> Section | None:
    """Show images per class and split, and say what was found out while the data were read."""
    review = material.review
    if review is None:
        return None
    counts = {split: np.asarray(review.counts[split]) for split in SPLIT_NAMES}
    frame = pd.DataFrame({"class": review.classes, **{split: counts[split] for split in SPLIT_NAMES}})
    caption = "Images of each class in each split" + (
        "." if len(review.classes) <= MOST_NAMED else ", the classes in the order of their training images."
    )
    return Section(
        "data",
        "The data",
        " ".join(_sentences(review)),
        [Picture("class-counts", caption, draw(review), frame)],
        [Table("data-counts", "Images of each split.", _table(review))],
    )


def draw(review: Review) -> Figure:
    """Draw a bar per class and split; many classes without their names, the largest first."""
    named = len(review.classes) <= MOST_NAMED
    order = range(len(review.classes)) if named else np.argsort(-np.asarray(review.counts["train"]), kind="stable")
    places = np.arange(len(review.classes))
    with house_style():
        figure = new_figure(9 if len(places) > 6 else 5, 3)
        axis = figure.subplots()
        for shift, split in zip((-0.3, 0.0, 0.3), SPLIT_NAMES, strict=True):
            heights = [review.counts[split][number] for number in order]
            axis.bar(places + shift, heights, width=0.3, label=split, color=SHADES[split])
        names = [shown_name(review.classes[number]) for number in order] if named else []
        axis.set_xticks(places if named else [], names, rotation=90 if len(places) > 6 else 0, fontsize=8)
        axis.grid(visible=False, axis="x")
        axis.set_ylabel("images")
        legend_below(figure, axis)
    return figure


def _sentences(review: Review) -> list[str]:
    height, width, channels = review.image_shape
    kind = "grey" if channels == 1 else "colour"
    smallest, largest = ("x".join(map(str, size)) for size in (review.smallest, review.largest))
    same = review.smallest == review.largest == (width, height)
    sizes = "" if same else f", made from pictures of {smallest} to {largest} pixels"
    start = f"{len(review.classes)} classes, {kind} images of {width}x{height} pixels{sizes}."
    baseline = f"Whoever always names the largest class is right on {100 * review.majority:.1f} % of the test images."
    warnings = [f"{capitalised(sentence)}." for sentence in review.warnings()]
    return [start, baseline, *(warnings or ["Nothing was found that speaks against the data."])]


def _table(review: Review) -> pd.DataFrame:
    rows: list[dict[str, str]] = []
    for split in SPLIT_NAMES:
        counts = review.counts[split]
        repeated = review.repeated.get(split)
        rows.append(
            {
                "split": split,
                "images": f"{sum(counts):,}",
                "smallest class": f"{min(counts):,}",
                "largest class": f"{max(counts):,}",
                "equal to a training image": "–" if repeated is None else f"{repeated:,}",
            }
        )
    return pd.DataFrame(rows)
