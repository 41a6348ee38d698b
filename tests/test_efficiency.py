"""Seconds to an accuracy, and networks that no cheaper one beats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from resblock.core.spec import ModelSpec
from resblock.core.training.run import Cost, EpochRow
from resblock.study.efficiency import Point, pareto_front, quiet_seconds, seconds_to, target_accuracy


def curve(accuracies: Sequence[float]) -> list[EpochRow]:
    return [EpochRow(n, 0.1, 1, 0.5, 1, 0.1, 1, accuracy, 1, 0.5) for n, accuracy in enumerate(accuracies, start=1)]


COST = Cost("2026-01-02T03:04:05+00:00", (3.0, 1.0, 1.5), 100.0, 1, 1, "a machine", 1, {})


def test_the_clock_stops_at_the_first_epoch_that_is_good_enough() -> None:
    assert seconds_to(0.7, curve([0.5, 0.7, 0.6]), COST) == 2.0  # of the fastest epoch: others were paused
    assert seconds_to(0.4, curve([0.5, 0.7, 0.6]), COST) == 1.0
    assert math.isnan(seconds_to(0.8, curve([0.5, 0.7, 0.6]), COST))
    assert math.isnan(seconds_to(math.nan, curve([0.5]), COST))


def test_a_training_costs_what_it_takes_on_a_quiet_machine() -> None:
    paused = replace(COST, epoch_seconds=(2.0, 2.0, 600.0))
    assert quiet_seconds([COST, paused]) == 3.0
    assert quiet_seconds([paused]) == 6.0


def test_the_target_is_95_per_cent_of_the_best_networks_mean() -> None:
    curves = {
        ModelSpec.parse("plain-8"): {0: curve([0.9, 0.6]), 1: curve([0.8])},  # mean of the last epochs 0.7
        ModelSpec.parse("cnn-4"): {0: curve([0.65])},
    }
    assert target_accuracy(curves) == pytest.approx(0.95 * 0.7)
    assert math.isnan(target_accuracy({}))
    assert math.isnan(target_accuracy({ModelSpec.parse("cnn-4"): {0: []}}))


def test_only_networks_that_no_other_beats_are_on_the_front() -> None:
    points = [Point("d", 4, 0.7), Point("b", 2, 0.8), Point("a", 1, 0.5), Point("c", 3, 0.9), Point("e", 2, 0.6)]
    assert [point.name for point in pareto_front(points)] == ["a", "b", "c"]
    assert [point.name for point in pareto_front(points, cheap_is_low=False)] == ["d", "c"]
    assert pareto_front([]) == []
