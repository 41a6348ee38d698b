"""Summaries and paired gaps: who is paired with whom, and what stays a row."""

from __future__ import annotations

import pytest

from resblock.core.spec import ModelSpec
from resblock.evaluation.score import Score, empty_score
from resblock.study.summary import Study


def finished(variant: str, seed: int, test_accuracy: float) -> Score:
    """A score whose accuracy with statistics re-estimated is half of that as trained."""
    spec = ModelSpec.parse(variant)
    figures = {"test_accuracy": test_accuracy, "test_accuracy_reestimated": test_accuracy / 2}
    figures |= {"validation_accuracy": test_accuracy, "validation_accuracy_reestimated": test_accuracy / 4}
    return Score(spec.name, spec.family, spec.depth, seed, "finished", **figures)


def test_gaps_are_paired_by_seed() -> None:
    # Accuracies vary by 10 points over seeds, yet each pair differs by exactly one: pairing finds it without doubt.
    scores = [finished("plain-20", seed, 0.5 + seed / 10) for seed in range(3)]
    scores += [finished("residual-20", seed, 0.51 + seed / 10) for seed in (2, 0, 1)]
    (gap,) = Study("digits", tuple(scores)).gaps("test_accuracy")
    assert gap.depth == 20
    assert gap.interval.mean == pytest.approx(0.01)
    assert gap.interval.half_width == pytest.approx(0, abs=1e-12)


PLAIN, RESIDUAL = ModelSpec.parse("plain-20"), ModelSpec.parse("residual-20")
HALF_RUN = (
    finished("plain-20", 0, 0.5),
    empty_score(PLAIN, 1, "diverged"),
    empty_score(PLAIN, 2, "missing"),
    finished("residual-20", 0, 0.7),
    finished("residual-20", 1, 0.9),
    finished("residual-20", 2, 0.9),
    finished("residual-32", 0, 0.9),  # its twin is not in the study
)


def test_a_diverged_twin_counts_at_chance_in_a_gap_and_a_missing_one_is_left_out() -> None:
    study = Study("digits", HALF_RUN, classes=10)
    (gap,) = study.gaps("test_accuracy")
    assert gap.differences == {0: pytest.approx(0.2), 1: pytest.approx(0.9 - 0.1)}
    assert study.remarks([PLAIN, RESIDUAL]) == [
        "plain-20 diverged in 1 of 3 seeds, counted at chance (10 %)",
        "plain-20 left out, missing: seed 2",
    ]


def test_without_the_number_of_classes_a_diverged_training_is_refused_and_not_dropped() -> None:
    with pytest.raises(ValueError, match="give Study the number of classes"):
        Study("digits", HALF_RUN).gaps("test_accuracy")


def test_counts_of_images_leave_room_around_equal_differences() -> None:
    # Three seeds, each one image of 360 apart: t(0.975, 2) sqrt(1/6 / 3) = 4.3027 * 0.2357 = 1.014 images.
    scores = [finished("plain-8", seed, 0.5) for seed in range(3)]
    scores += [finished("residual-8", seed, 0.5 + 1 / 360) for seed in range(3)]
    (gap,) = Study("digits", tuple(scores), sizes={"test": 360}).gaps("test_accuracy")
    assert 360 * gap.interval.half_width == pytest.approx(1.014, abs=1e-3)
    assert gap.interval.low < 0


def test_a_diverged_run_stays_a_row_and_never_a_zero() -> None:
    spec = ModelSpec.parse("plain-20")
    study = Study(
        "digits", (finished("plain-20", 0, 0.5), empty_score(spec, 1, "diverged"), empty_score(spec, 2, "missing"))
    )
    (summary,) = study.summaries
    assert len(summary.scores) == 3
    assert summary.interval("test_accuracy").mean == 0.5
    assert summary.trouble == "1 diverged, 1 missing"


def test_metrics_are_two_figures_a_network_and_one_a_pair() -> None:
    """Each is a column of `dvc exp show`, beside a hundred parameters: no more than one can read."""
    accuracies = {"plain-8": 0.5, "residual-8": 0.75, "cnn-4": 0.25}
    study = Study("digits", tuple(finished(name, 0, value) for name, value in accuracies.items()))
    metrics = study.metrics()
    assert list(metrics) == ["validation_accuracy", "test_accuracy", "residual_minus_plain"]  # by the first one chooses
    gaps = metrics.pop("residual_minus_plain")
    assert gaps == {"8": 0.125}
    assert {tuple(means) for means in metrics.values()} == {tuple(accuracies)}
    assert metrics["test_accuracy"] == pytest.approx({name: value / 2 for name, value in accuracies.items()})
    assert metrics["validation_accuracy"]["cnn-4"] == 0.25 / 4


def test_twins_with_modifiers_stand_by_themselves() -> None:
    names = ("plain-20", "residual-20", "plain-20-nobn", "residual-20-nobn", "plain-8-w2", "residual-8-w2")
    study = Study("digits", tuple(finished(name, 0, 0.5) for name in names))
    assert [residual.name for residual, _ in study.twins] == ["residual-20"]
    assert [residual.name for residual, _ in study.modified_twins] == ["residual-8-w2", "residual-20-nobn"]
    assert [gap.label for gap in study.gaps("test_accuracy", modified=True)] == ["8-w2", "20-nobn"]


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
