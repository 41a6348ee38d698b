"""What flips of the training images say."""

from __future__ import annotations

from collections.abc import Iterator

from resblock.evaluation.score import headline
from resblock.study.claims.basis import HALF_A_POINT, differing_keys, each_alone, seeds_left_out
from resblock.study.summary import unmodified
from resblock.study.verdicts import Claim, Contrast, Evidence, Trained, over_networks

TEST = headline("test_accuracy")


def both_flips_help(evidence: Evidence) -> Contrast | None:
    """Compare both flips with none on test images."""
    return _flips(evidence, horizontal=True, vertical=True)


def horizontal_flips_help(evidence: Evidence) -> Contrast | None:
    """Compare horizontal flips with none on test images."""
    return _flips(evidence, horizontal=True, vertical=False)


def vertical_flips_help(evidence: Evidence) -> Contrast | None:
    """Compare vertical flips with none on test images."""
    return _flips(evidence, horizontal=False, vertical=True)


def _flips(evidence: Evidence, *, horizontal: bool, vertical: bool) -> Contrast | None:
    with_flips, without = (
        next(_with_flips(evidence, *flips), None) for flips in ((horizontal, vertical), (False, False))
    )
    if with_flips is None or without is None:
        return None
    sides = {"with": with_flips.study, "without": without.study}
    first, second = (study.accuracies(TEST) for study in sides.values())
    shared = [spec for spec in first if spec in second and unmodified(spec)]
    rows = {s: {seed: first[s][seed] - second[s][seed] for seed in first[s] if seed in second[s]} for s in shared}
    values = over_networks(rows)
    told = [f"{side} flips, {remark}" for side, study in sides.items() for remark in study.remarks(shared)]
    there = [spec for spec in shared if rows[spec]]
    rounding = sum(study.rounding(TEST) for study in sides.values())
    return Contrast(
        values,
        f"with − without, {each_alone({spec.name: rows[spec] for spec in shared}, rounding)}",
        margin=HALF_A_POINT,
        rounding=rounding / max(len(there), 1),
        networks=len(there),
        remarks=[*told, *seeds_left_out(rows, values)],
    )


def _with_flips(evidence: Evidence, horizontal: bool, vertical: bool) -> Iterator[Trained]:
    for trained in (evidence.base, *evidence.ablations.values()):
        recipe = trained.recipe
        changed = differing_keys(evidence.base.recipe, recipe) - {"horizontal_flip", "vertical_flip"}
        flips = (recipe.get("horizontal_flip"), recipe.get("vertical_flip"))
        if not changed and flips == (horizontal, vertical):
            yield trained


CLAIMS = (
    Claim(
        "flips",
        "Horizontal and vertical flips together raise generalisation.",
        "method",
        "Test accuracy with both flips minus that without any.",
        "depth",
        both_flips_help,
    ),
    Claim(
        "flips-horizontal",
        "Horizontal flips raise generalisation.",
        "method",
        "Test accuracy with horizontal flips minus that without any.",
        "depth",
        horizontal_flips_help,
    ),
    Claim(
        "flips-vertical",
        "Vertical flips raise generalisation.",
        "method",
        "Test accuracy with vertical flips minus that without any.",
        "depth",
        vertical_flips_help,
    ),
)
