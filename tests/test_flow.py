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
from resblock.study.gradients import deepest_twins, growth, growths, last_epoch, nearest

PLAIN, RESIDUAL = ModelSpec("plain", 8), ModelSpec("residual", 8)


def rows(*norms: float, epoch: int = 0) -> list[GradientRow]:
    return [GradientRow(epoch, "activations", f"b{n}", n, norm) for n, norm in enumerate(norms, start=1)]


def test_growth_is_told_in_decades_from_the_end_to_the_image() -> None:
    assert growth(rows(1e-3, 1e-2, 1e-1, 1.0), "activations") == pytest.approx(-3.0)
    assert growth(rows(100.0, 1e-9, 1.0), "activations") == pytest.approx(2.0)
    assert growth(rows(2.0, 3.0, 2.0), "activations") == 0


def test_norms_without_a_logarithm_give_no_growth() -> None:
    assert growth(rows(1e-2, 0.0, 1.0), "activations") == pytest.approx(-2.0)
    for norms in ((1.0, 0.0), (0.0, 1.0), (math.inf, 1.0), (1.0, math.nan), (1.0,)):
        assert math.isnan(growth(rows(*norms), "activations"))
    assert math.isnan(growth(rows(1.0, 2.0), "weights"))


def test_growths_are_of_one_moment() -> None:
    gradients = {PLAIN: {0: rows(1.0, 10.0) + rows(10.0, 1.0, epoch=5)}, RESIDUAL: {0: rows(0.0, 1.0)}}
    assert growths(gradients, "activations") == {PLAIN: {0: pytest.approx(-1.0)}}
    assert growths(gradients, "activations", epoch=5) == {PLAIN: {0: pytest.approx(1.0)}}
    assert last_epoch(gradients) == 5


def test_the_deepest_twins_are_those_that_every_measure_has_with_these_modifiers_alone() -> None:
    names = ("plain-8", "residual-8", "plain-20", "residual-20", "residual-32", "plain-20-nobn", "residual-20-nobn")
    first = {ModelSpec.parse(name): {0: 1.0} for name in names}
    second = {spec: values for spec, values in first.items() if spec.name != "plain-20"}
    assert [spec.name for spec in deepest_twins(first) or ()] == ["plain-20", "residual-20"]
    assert [spec.name for spec in deepest_twins(first, second) or ()] == ["plain-8", "residual-8"]
    assert [spec.name for spec in deepest_twins(first, modifiers=["nobn"]) or ()] == [
        "plain-20-nobn",
        "residual-20-nobn",
    ]
    assert deepest_twins({}) is None


def test_what_was_found_survives_its_files(tmp_path: Path) -> None:
    cosines = [Shattering("plain-8", 1, lag, 1 / (3 + lag)) for lag in (0.25, 0.5, 1.0)]
    found = Untrained({PLAIN: {1: rows(1 / 3, 1e-9)}, RESIDUAL: {1: rows(0.0, 1.0)}}, cosines)
    write_untrained(tmp_path, found)
    assert read_untrained(tmp_path) == found
    assert nearest(found.shattering) == {PLAIN: {1: cosines[0].cosine}}
