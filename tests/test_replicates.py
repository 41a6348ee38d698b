"""What splits and seeds add to a number's spread: against a table from the literature, and planted ones."""

from __future__ import annotations

import numpy as np
import pytest

from resblock.study.replicates import Replicated, parts_of_spread

# Shrout & Fleiss 1979, table 2: six targets, each rated by four judges. Table 3 gives mean squares of 11.24 between
# targets, 32.49 between judges and 1.02 for what is left.
RATINGS = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]


def test_a_published_table_comes_out_as_published() -> None:
    spread = parts_of_spread(RATINGS)
    assert spread.rest**2 == pytest.approx(1.02, abs=0.005)
    assert spread.split**2 == pytest.approx((11.24 - 1.02) / 4, abs=0.005)
    assert spread.seed**2 == pytest.approx((32.49 - 1.02) / 6, abs=0.005)


def test_planted_spreads_come_back() -> None:
    draws = np.random.default_rng(0)
    found = []
    for _ in range(400):
        values = 2.0 * draws.normal(size=(5, 1)) + 0.5 * draws.normal(size=(1, 4)) + draws.normal(size=(5, 4))
        spread = parts_of_spread(values.tolist())
        found.append((spread.split**2, spread.seed**2, spread.rest**2))
    split, seed, rest = np.mean(found, axis=0)
    assert split == pytest.approx(4.0, rel=0.1)
    assert rest == pytest.approx(1.0, rel=0.1)
    assert 0.2 < seed < 0.4  # 0.25, and something more: estimates below zero are zero


def test_what_chance_explains_is_zero() -> None:
    spread = parts_of_spread([[1.0, 2.0], [2.0, 1.0]])
    assert (spread.split, spread.seed) == (0.0, 0.0)
    assert spread.rest > 0


@pytest.mark.parametrize("values", [[[1.0, 2.0]], [[1.0], [2.0]]])
def test_one_split_or_one_seed_tells_nothing(values: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="expected at least two of each"):
        parts_of_spread(values)


def test_the_interval_speaks_of_splits_and_not_of_trainings() -> None:
    number = Replicated("residual-8", [[0.90, 0.92], [0.95, 0.97], [0.99, 1.01]])
    # Student's t for 95 % and two degrees of freedom is 4.3027, however many seeds there are.
    assert number.split_means == pytest.approx([0.91, 0.96, 1.0])
    assert number.interval.n == 3
    assert number.interval.half_width == pytest.approx(4.3027 * np.std([0.91, 0.96, 1.0], ddof=1) / 3**0.5, rel=1e-4)
    rounded = Replicated("residual-8", [[0.9, 0.9], [0.9, 0.9]], rounding=0.02)
    assert rounded.interval.half_width == pytest.approx(12.7062 * (0.02 / 2) ** 0.5 / 2**0.5, rel=1e-4)
