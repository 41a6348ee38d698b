"""Summaries and paired gaps: who is paired with whom, and what stays a row."""

from __future__ import annotations

import pytest

from resblock.core.spec import ModelSpec
from resblock.evaluation.score import Score, empty_score
from resblock.study.summary import Study


def finished(variant: str, seed: int, test_accuracy: float) -> Score:
    spec = ModelSpec.parse(variant)
    return Score(spec.name, spec.family, spec.depth, seed, "finished", test_accuracy=test_accuracy)


def test_gaps_are_paired_by_seed() -> None:
    # Accuracies vary by 10 points over seeds, yet each pair differs by exactly one: pairing finds it without doubt.
    scores = [finished("plain-20", seed, 0.5 + seed / 10) for seed in range(3)]
    scores += [finished("residual-20", seed, 0.51 + seed / 10) for seed in (2, 0, 1)]
    (gap,) = Study("digits", tuple(scores)).gaps("test_accuracy")
    assert gap.depth == 20
    assert gap.interval.mean == pytest.approx(0.01)
    assert gap.interval.half_width == pytest.approx(0, abs=1e-12)


def test_only_seeds_that_finished_both_twins_enter_a_gap() -> None:
    scores = (
        finished("plain-20", 0, 0.5),
        empty_score(ModelSpec.parse("plain-20"), 1, "diverged"),
        finished("residual-20", 0, 0.7),
        finished("residual-20", 1, 0.9),
        finished("residual-32", 0, 0.9),  # its twin is not in the study
    )
    (gap,) = Study("digits", scores).gaps("test_accuracy")
    assert gap.differences == {0: pytest.approx(0.2)}


def test_a_diverged_run_stays_a_row_and_never_a_zero() -> None:
    spec = ModelSpec.parse("plain-20")
    study = Study(
        "digits", (finished("plain-20", 0, 0.5), empty_score(spec, 1, "diverged"), empty_score(spec, 2, "missing"))
    )
    (summary,) = study.summaries
    assert len(summary.scores) == 3
    assert summary.interval("test_accuracy").mean == 0.5
    assert summary.trouble == "1 diverged, 1 missing"


def test_metrics_name_networks_and_depths() -> None:
    scores = (finished("plain-8", 0, 0.5), finished("residual-8", 0, 0.75), finished("cnn-4", 0, 0.25))
    metrics = Study("digits", scores).metrics()
    assert metrics["test_accuracy"] == {"plain-8": 0.5, "residual-8": 0.75, "cnn-4": 0.25}
    assert metrics["residual_minus_plain"] == {"8": 0.25}


def test_measures_and_twins_leave_out_what_is_not_there() -> None:
    scores = (
        finished("residual-20", 0, 0.5),
        finished("plain-20", 0, 0.4),
        finished("residual-8", 1, 0.75),
        finished("plain-8", 1, 0.7),
        finished("residual-32", 0, 0.9),
        empty_score(ModelSpec.parse("cnn-4"), 0, "missing"),
    )
    study = Study("digits", scores)
    assert [(residual.name, plain.name) for residual, plain in study.twins] == [
        ("residual-8", "plain-8"),
        ("residual-20", "plain-20"),
    ]
    assert study.measure("test_accuracy")[ModelSpec.parse("residual-8")] == {1: 0.75}
    assert ModelSpec.parse("cnn-4") not in study.measure("test_accuracy")
