"""All that an evaluation finds: gathered from planted predictions, stored, and read back."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from resblock.core.files import read_json
from resblock.core.spec import ModelSpec
from resblock.core.splits import Split, SplitName
from resblock.evaluation.assessment import Assessment, assess, read_assessment, write_assessment
from resblock.evaluation.corruption import Robustness
from resblock.evaluation.rows import read_rows, write_rows
from resblock.evaluation.score import METRICS, Score, empty_score
from resblock.evaluation.statistics import read_statistics
from resblock.study.results import Results, gather

CLASSES = ("cat", "dog", "frog")


def assessed(variant: str, seed: int, splits: dict[SplitName, Split]) -> Assessment:
    """A network that is right of about three images in four."""
    spec = ModelSpec.parse(variant)
    rng = np.random.default_rng([spec.depth, seed])
    logits = {
        name + suffix: np.eye(3)[split.labels] * 2 + rng.normal(0, 1, size=(len(split.labels), 3))
        for name, split in splits.items()
        for suffix in ("", "_reestimated")
    }
    figures = dict.fromkeys(METRICS, 0.5)
    score = Score(spec.name, spec.family, spec.depth, seed, "finished", **figures)
    robustness = [Robustness(variant, seed, "none", 0, 30, 0.75)]
    statistics = {"norm/moving_mean": np.array([seed, 0.1], np.float32)}
    return assess(score, logits, splits, len(CLASSES), robustness=robustness, statistics=statistics)


@pytest.fixture(scope="module")
def splits() -> dict[SplitName, Split]:
    rng = np.random.default_rng(0)
    names: tuple[SplitName, ...] = ("train", "validation", "test")
    return {
        name: Split(rng.integers(0, 256, size=(30, 4, 4, 3), dtype=np.uint8), rng.integers(0, 3, 30)) for name in names
    }


@pytest.fixture(scope="module")
def assessments(splits: dict[SplitName, Split]) -> list[Assessment]:
    there = [assessed(variant, seed, splits) for variant in ("plain-8", "residual-8", "cnn-4") for seed in (0, 1)]
    lost = [
        Assessment(empty_score(ModelSpec.parse("plain-20"), 0, "diverged")),
        Assessment(empty_score(ModelSpec.parse("residual-20"), 0, "missing")),
    ]
    return there + lost


@pytest.fixture(scope="module")
def results(assessments: list[Assessment], splits: dict[SplitName, Split]) -> Results:
    return gather("pets", assessments, splits["test"])


def test_every_finished_training_is_looked_at_and_no_other(results: Results) -> None:
    assert len(results.scores) == 8
    assert [score.status for score in results.scores[-2:]] == ["diverged", "missing"]
    assert len(results.confusions) == 6
    assert len(results.calibrations) == 6 * 2  # by both kinds of statistics
    assert len(results.reliability) == 6 * 2 * 2 * 15
    assert [(row.variant, row.seed, row.other_seed) for row in results.agreements] == [
        (variant, 0, 1) for variant in ("plain-8", "residual-8", "cnn-4")
    ]
    assert [(pair.seed, pair.statistics) for pair in results.pairs] == [
        (seed, statistics) for statistics in ("trained", "reestimated") for seed in (0, 1)
    ]
    assert len(results.robustness) == 6


def test_the_pieces_agree_with_each_other(results: Results) -> None:
    for pair in results.pairs:
        assert pair.both_right + pair.only_residual + pair.only_plain + pair.both_wrong == 30
        if pair.statistics == "trained":
            (confusion,) = (c for c in results.confusions if (c.variant, c.seed) == (pair.residual, pair.seed))
            assert np.trace(confusion.counts) == pair.both_right + pair.only_residual
    for mistake in results.mistakes:
        assert mistake.true != mistake.predicted


MANIFEST = {"stage": "evaluate@pets", "key": "0"}
ROWS = ("calibrations", "reliability", "robustness", "responses", "lesions")


def test_what_is_found_of_a_training_round_trips(tmp_path: Path, assessments: list[Assessment]) -> None:
    whole = assessments[0]
    write_assessment(tmp_path, whole, CLASSES, MANIFEST)
    assert read_json(tmp_path / "run.json") == MANIFEST
    back = read_assessment(tmp_path, CLASSES)
    assert repr(back.score) == repr(whole.score)
    for kind in ROWS:  # NaN is not equal to itself, its text is
        assert repr(list(getattr(back, kind))) == repr(list(getattr(whole, kind))), kind
    assert [c.counts.tolist() for c in back.confusions] == [c.counts.tolist() for c in whole.confusions]
    assert sorted(back.logits) == ["test", "test_reestimated", "validation", "validation_reestimated"]
    np.testing.assert_array_equal(back.logits["test"], whole.logits["test"])
    np.testing.assert_array_equal(read_statistics(tmp_path)["norm/moving_mean"], whole.statistics["norm/moving_mean"])


def test_a_diverged_training_leaves_the_same_files(tmp_path: Path, assessments: list[Assessment]) -> None:
    for name, assessment in (("finished", assessments[0]), ("diverged", assessments[-2])):
        write_assessment(tmp_path / name, assessment, CLASSES, MANIFEST)
    names = [{path.name for path in (tmp_path / name).iterdir()} for name in ("finished", "diverged")]
    assert names[0] == names[1]
    back = read_assessment(tmp_path / "diverged", CLASSES)
    assert repr(back) == repr(replace(assessments[-2], confusions=[], **{name: [] for name in ROWS}))


def test_without_predictions_only_what_compares_images_is_absent(
    tmp_path: Path, assessments: list[Assessment], splits: dict[SplitName, Split], results: Results
) -> None:
    write_assessment(tmp_path, assessments[0], CLASSES, MANIFEST)
    (tmp_path / "predictions.npz").unlink()  # as in a clone without DVC's cache
    back = [read_assessment(tmp_path, CLASSES), *assessments[1:]]
    found = gather("pets", back, splits["test"])
    assert (found.scores, len(found.confusions)) == (results.scores, len(results.confusions))
    assert [pair.seed for pair in found.pairs] == [1, 1]
    assert len(found.agreements) == len(results.agreements) - 1


def test_the_same_results_are_the_same_bytes(tmp_path: Path, assessments: list[Assessment]) -> None:
    for name in ("once", "again"):
        write_assessment(tmp_path / name, assessments[0], CLASSES, MANIFEST)
    for path in (tmp_path / "once").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_a_study_without_a_finished_training_has_only_its_scores(splits: dict[SplitName, Split]) -> None:
    nothing = gather("pets", [Assessment(empty_score(ModelSpec.parse("cnn-4"), 0, "missing"))], splits["test"])
    assert [score.status for score in nothing.scores] == ["missing"]
    assert (nothing.confusions, nothing.pairs, nothing.calibrations, nothing.mistakes) == ([], [], [], [])


@dataclass(frozen=True)
class Kind:
    name: str
    count: int
    share: float


def test_rows_keep_every_bit_and_text_that_looks_like_a_number(tmp_path: Path) -> None:
    rows = [Kind("007", 2**53 + 1, 0.1 + 0.2), Kind("plain-8", -1, math.inf), Kind("NA", 0, 5e-324)]
    write_rows(tmp_path / "rows.csv", Kind, rows)
    assert read_rows(tmp_path / "rows.csv", Kind) == rows


def test_rows_of_another_kind_are_refused_with_both_their_columns(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("name,number\na,1\n")
    with pytest.raises(ValueError, match="name, number, expected name, count, share"):
        read_rows(tmp_path / "rows.csv", Kind)
