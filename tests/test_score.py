"""Scores, confusions and predictions: what is stored comes back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix

from resblock.core.recipe import Recipe
from resblock.core.spec import ModelSpec
from resblock.core.splits import DatasetDescription, Split, SplitName
from resblock.core.training.checkpoint import Checkpoint
from resblock.core.training.run import Run
from resblock.core.training.watcher import Nobody
from resblock.evaluation.score import (
    METRICS,
    Confusion,
    Score,
    confuse,
    confusions_bytes,
    empty_score,
    read_confusions,
    read_scores,
    write_scores,
)
from resblock.evaluation.specimens import choose
from resblock.evaluation.statistics import normalizing_by
from resblock.params import Examination


def test_scores_round_trip_with_their_status(tmp_path: Path) -> None:
    figures = {name: (index + 1) / 7 for index, name in enumerate(METRICS)}
    scores = [
        Score("residual-8", "residual", 8, 0, "finished", **figures),
        empty_score(ModelSpec.parse("plain-8"), 4_000_000_000, "diverged"),
        empty_score(ModelSpec.parse("plain-8"), 1, "missing"),
    ]
    write_scores(tmp_path, scores)
    back = read_scores(tmp_path)
    assert back[0] == scores[0]
    assert [(score.variant, score.seed, score.status) for score in back[1:]] == [
        ("plain-8", 4_000_000_000, "diverged"),
        ("plain-8", 1, "missing"),
    ]
    assert all(np.isnan(score.test_accuracy) and score.metrics == {} for score in back[1:])


def test_a_study_without_finished_runs_round_trips(tmp_path: Path) -> None:
    write_scores(tmp_path, [empty_score(ModelSpec.parse("cnn-4"), 0, "missing")])
    assert [score.status for score in read_scores(tmp_path)] == ["missing"]
    (tmp_path / "none.csv").write_bytes(confusions_bytes([], ("a", "b")))
    assert read_confusions(tmp_path / "none.csv", ("a", "b")) == []


def test_confusions_round_trip(tmp_path: Path) -> None:
    confusions = [Confusion("cnn-4", seed, np.array([[3, 1], [seed, 4]])) for seed in (0, 1)]
    (tmp_path / "confusion.csv").write_bytes(confusions_bytes(confusions, ("cat", "dog")))
    back = read_confusions(tmp_path / "confusion.csv", ("cat", "dog"))
    for before, after in zip(confusions, back, strict=True):
        assert (before.variant, before.seed) == (after.variant, after.seed)
        np.testing.assert_array_equal(before.counts, after.counts)
    np.testing.assert_allclose(back[1].per_class_accuracy, [3 / 4, 4 / 5])


def test_confusions_are_counted_as_scikit_learn_counts_them() -> None:
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 4, 50).astype(np.int32), rng.integers(0, 3, 50)  # nobody answers with class 3
    expected = confusion_matrix(labels, predicted, labels=range(5))  # nothing is of class 4
    np.testing.assert_array_equal(confuse("cnn-4", 0, labels, predicted, classes=5).counts, expected)


@pytest.mark.usefixtures("backend")
def test_evaluation_repeats_the_last_epochs_validation_figures(
    tmp_path: Path, few_digits: dict[SplitName, Split], make_recipe: Callable[..., Recipe]
) -> None:
    from resblock.core.training.fit import fit
    from resblock.core.training.trainer import Trainer
    from resblock.evaluation.evaluate import Examiner

    recipe = make_recipe(horizontal_flip=True)
    manifest = {"variant": "residual-8", "seed": 3, "recipe": recipe.tree(), "key": "k"}
    trainer = Trainer(ModelSpec.parse("residual-8"), few_digits["train"], classes=10, recipe=recipe, seed=3)
    run, _ = fit(trainer, 3, few_digits["validation"], manifest, Checkpoint(tmp_path, "k"), 1, Nobody())
    sizes: dict[SplitName, int] = {name: len(split.labels) for name, split in few_digits.items()}
    description = DatasetDescription("digits", tuple("0123456789"), (8, 8, 1), sizes, {}, "test")
    examination = Examination(corrupted_images=20, response_images=30, lesion_images=40, lesion_draws=2)
    specimens = choose(few_digits["test"], examination)
    corrupted = specimens.corrupted
    examiner = Examiner(description, few_digits, specimens)
    assessment = examiner.look(run)
    score, logits = assessment.score, assessment.logits

    last = run.curve[-1]
    assert score.validation_accuracy == last.validation_accuracy
    assert score.validation_loss == last.validation_loss
    assert score.validation_loss_reestimated == last.validation_loss_reestimated
    assert score.validation_loss != score.validation_loss_reestimated
    test = few_digits["test"]
    assert score.test_accuracy == accuracy_score(test.labels, logits["test"].argmax(axis=-1))

    (counts,) = assessment.confusions
    assert counts.counts.sum() == len(test.labels)
    assert np.trace(counts.counts) == round(score.test_accuracy * len(test.labels))

    untouched, *worse = assessment.robustness
    images = corrupted.chosen.images
    chosen = [int(np.flatnonzero((test.images == image).all(axis=(1, 2, 3)))[0]) for image in images]
    expected = logits["test_reestimated"].argmax(axis=-1)[chosen] == test.labels[chosen]
    assert untouched.accuracy == pytest.approx(expected.mean())
    assert len(worse) == 25
    assert min(row.accuracy for row in worse) < untouched.accuracy
    assert [row.position for row in assessment.responses] == [3, 5, 7]
    assert [row.removed for row in assessment.lesions] == [0, 1, 1, 1, 2, 2]
    assert {row.images for row in assessment.lesions} == {40}

    # With the statistics that are kept, the network answers as its re-estimated figures say, and no longer as trained.
    used = examiner.look(normalizing_by(assessment.statistics, run))
    np.testing.assert_array_equal(used.logits["test"], logits["test_reestimated"])
    assert not np.array_equal(logits["test"], logits["test_reestimated"])

    diverged = examiner.look(replace(run, status="diverged"))
    assert (diverged.score.status, dict(diverged.logits), diverged.confusions) == ("diverged", {}, ())


def test_statistics_of_another_network_are_refused() -> None:
    run = Run({}, "finished", [], {"stage1_norm1/moving_mean": np.zeros(2)})
    with pytest.raises(ValueError, match="the weights have no stage2_norm1/moving_mean"):
        normalizing_by({"stage2_norm1/moving_mean": np.ones(2)}, run)
    assert normalizing_by({"stage1_norm1/moving_mean": np.ones(2)}, run).weights["stage1_norm1/moving_mean"][0] == 1
