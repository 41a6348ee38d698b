"""What flips of the training images say."""

from __future__ import annotations

from collections.abc import Iterator

from resblock.study.claims.basis import HALF_A_POINT, differing_keys
from resblock.study.verdicts import Claim, Contrast, Evidence, Trained, paired


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
    measures = [trained.study.measure("test_accuracy_reestimated") for trained in (with_flips, without)]
    shared = [spec for spec in measures[0] if spec in measures[1]]
    words = ", ".join(spec.name for spec in shared)
    return Contrast(paired(measures[0], measures[1]), f"with − without, {words}", margin=HALF_A_POINT)


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
