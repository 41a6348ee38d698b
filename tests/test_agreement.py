"""Seeds against each other, and the surest mistakes, on predictions small enough to check by eye."""

from __future__ import annotations

import math

import numpy as np
import pytest

from resblock.core.splits import Split
from resblock.study.agreement import agreements, surest_mistakes

LABELS = np.array([0, 0, 1, 1, 2])


def test_agreement_counts_all_images_and_those_both_got_wrong() -> None:
    predicted = {
        ("plain-8", 1): np.array([0, 1, 1, 2, 0]),  # wrong at 1, 3, 4
        ("plain-8", 0): np.array([0, 1, 1, 0, 1]),  # wrong at 1, 3, 4; only at 1 as the other
        ("cnn-4", 0): LABELS,
    }
    (row,) = agreements(predicted, LABELS)
    assert (row.variant, row.seed, row.other_seed, row.images) == ("plain-8", 0, 1, 5)
    assert row.agree == pytest.approx(3 / 5)
    assert row.both_wrong == 3
    assert row.agree_when_wrong == pytest.approx(1 / 3)


def test_seeds_that_never_err_together_have_no_such_share() -> None:
    rows = agreements({("cnn-4", seed): LABELS for seed in (0, 1, 2)}, LABELS)
    assert [(row.seed, row.other_seed) for row in rows] == [(0, 1), (0, 2), (1, 2)]
    assert all(row.agree == 1 and row.both_wrong == 0 and math.isnan(row.agree_when_wrong) for row in rows)


@pytest.fixture
def test_split() -> Split:
    return Split(np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1), LABELS)


def sure(predicted: list[int], logits: list[float]) -> np.ndarray:
    """Return logits, float (n, 3), whose largest stand at `predicted`."""
    return np.eye(3)[predicted] * np.array(logits)[:, None]


def test_the_surest_mistakes_come_first_and_each_image_once(test_split: Split) -> None:
    logits = {
        0: sure([0, 1, 1, 1, 0], [9, 2, 9, 9, 1]),  # wrong at 1 and 4
        7: sure([0, 1, 2, 1, 2], [9, 5, 3, 9, 9]),  # wrong at 1, surer, and at 2
    }
    found = surest_mistakes("plain-8", logits, test_split)
    assert [(mistake.index, mistake.seed) for mistake in found] == [(1, 7), (2, 7), (4, 0)]
    first = found[0]
    assert (first.true, first.predicted, int(first.image[0, 0, 0])) == (0, 1, 1)
    assert first.confidence == pytest.approx(math.exp(5) / (math.exp(5) + 2))
    assert len(surest_mistakes("plain-8", logits, test_split, count=2)) == 2


def test_a_network_without_mistakes_has_none_to_show(test_split: Split) -> None:
    assert surest_mistakes("cnn-4", {0: sure([0, 0, 1, 1, 2], [3] * 5)}, test_split) == []
