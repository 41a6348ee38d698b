"""The test images on which trained networks are looked at more closely: chosen by seed, the same for every network."""

from __future__ import annotations

from dataclasses import dataclass

from resblock.core.seeds import sample
from resblock.core.splits import Split
from resblock.evaluation.corruption import Corrupted, corrupt
from resblock.params import Examination

SEED = 0


@dataclass(frozen=True)
class Specimens:
    """What is looked at beside the whole splits."""

    corrupted: Corrupted
    responding: Split  # on which blocks' responses are measured
    lesioned: Split  # on which accuracy is taken without blocks
    draws: int  # random choices of each number of blocks to remove


def choose(test: Split, examination: Examination) -> Specimens:
    """Return what `examination` asks for, from `test`; where it has fewer images, all of them."""
    return Specimens(
        corrupt(test, examination.corrupted_images),
        _some(test, examination.response_images, "responses"),
        _some(test, examination.lesion_images, "lesions"),
        examination.lesion_draws,
    )


def _some(test: Split, count: int, purpose: str) -> Split:
    return test.take(sample(len(test.labels), count, SEED, purpose))
