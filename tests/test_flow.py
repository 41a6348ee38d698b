"""Gradient norms to one number a network."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from resblock.core.spec import ModelSpec
from resblock.core.training.run import GradientRow
from resblock.evaluation.flow import (
    Shattering,
    Untrained,
    read_untrained,
    write_untrained,
)
from resblock.study.gradients import last_epoch, nearest, slope, slopes

PLAIN, RESIDUAL = ModelSpec("plain", 8), ModelSpec("residual", 8)


def rows(*norms: float, epoch: int = 0) -> list[GradientRow]:
    return [GradientRow(epoch, "activations", f"b{n}", n, norm) for n, norm in enumerate(norms, start=1)]


def test_the_slope_is_that_of_a_planted_line() -> None:
    assert slope(rows(1e-3, 1e-2, 1e-1, 1.0), "activations") == pytest.approx(1.0)
    assert slope(rows(100.0, 10.0, 1.0), "activations") == pytest.approx(-1.0)
    assert slope(rows(2.0, 2.0, 2.0), "activations") == pytest.approx(0.0, abs=1e-12)


def test_norms_without_a_logarithm_are_left_out() -> None:
    assert slope(rows(1e-2, 0.0, 1.0, math.inf, math.nan), "activations") == pytest.approx(1.0)
    assert math.isnan(slope(rows(1.0, 0.0), "activations"))
    assert math.isnan(slope(rows(1.0, 2.0), "weights"))


def test_slopes_are_of_one_moment() -> None:
    gradients = {PLAIN: {0: rows(1.0, 10.0) + rows(10.0, 1.0, epoch=5)}, RESIDUAL: {0: rows(0.0, 1.0)}}
    assert slopes(gradients, "activations") == {PLAIN: {0: pytest.approx(1.0)}}
    assert slopes(gradients, "activations", epoch=5) == {PLAIN: {0: pytest.approx(-1.0)}}
    assert last_epoch(gradients) == 5


def test_what_was_found_survives_its_files(tmp_path: Path) -> None:
    cosines = [Shattering("plain-8", 1, lag, 1 / (3 + lag)) for lag in (0.25, 0.5, 1.0)]
    found = Untrained({PLAIN: {1: rows(1 / 3, 1e-9)}, RESIDUAL: {1: rows(0.0, 1.0)}}, cosines)
    write_untrained(tmp_path, found)
    assert read_untrained(tmp_path) == found
    assert nearest(found.shattering) == {PLAIN: {1: cosines[0].cosine}}
