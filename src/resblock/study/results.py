"""Everything `evaluate` finds out of a data set's trainings: gathered, written, read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from resblock.core.splits import Split, SplitName
from resblock.evaluation.assessment import Assessment
from resblock.evaluation.blocks import Lesion, Response
from resblock.evaluation.calibration import Calibration, ReliabilityBin, calibrate
from resblock.evaluation.corruption import Robustness
from resblock.evaluation.rows import read_rows, write_rows
from resblock.evaluation.score import (
    STATISTICS,
    Confusion,
    Score,
    confuse,
    read_confusions,
    read_scores,
    with_statistics,
    write_confusions,
    write_scores,
)
from resblock.study.agreement import (
    Agreement,
    Mistake,
    agreements,
    read_mistakes,
    surest_mistakes,
    write_mistakes,
)
from resblock.study.comparison import ImagePairs, pair_images
from resblock.study.summary import Study

CALIBRATION, RELIABILITY, PAIRS = "calibration.csv", "reliability.csv", "pairs.csv"
AGREEMENT, ROBUSTNESS, MISTAKES = "agreement.csv", "robustness.csv", "mistakes.npz"
RESPONSES, LESIONS = "responses.csv", "lesions.csv"


@dataclass(frozen=True)
class Results:
    """What is stored in ``evaluation/<dataset>`` beside the predictions. Only `scores` have rows for what failed."""

    scores: Sequence[Score] = ()
    confusions: Sequence[Confusion] = ()
    pairs: Sequence[ImagePairs] = ()
    calibrations: Sequence[Calibration] = ()
    reliability: Sequence[ReliabilityBin] = ()
    agreements: Sequence[Agreement] = ()
    robustness: Sequence[Robustness] = ()
    responses: Sequence[Response] = ()
    lesions: Sequence[Lesion] = ()
    mistakes: Sequence[Mistake] = ()


def gather(dataset: str, assessments: Sequence[Assessment], splits: Mapping[SplitName, Split], classes: int) -> Results:
    """Look at all trainings of a data set together; `splits` are those that the logits stand for."""
    test = splits["test"]
    study = Study(dataset, tuple(assessment.score for assessment in assessments))
    there = {assessment.name: assessment for assessment in assessments if assessment.logits}
    predicted = {name: assessment.logits["test"].argmax(axis=-1) for name, assessment in there.items()}
    calibrated = [
        calibrate(
            *name,
            statistics,
            validation=splits["validation"],
            test=test,
            logits=tuple(assessment.logits[with_statistics(split, statistics)] for split in ("validation", "test")),
        )
        for name, assessment in there.items()
        for statistics in STATISTICS
    ]
    pairs: list[ImagePairs] = []
    for statistics in STATISTICS:
        logits = {name: assessment.logits[with_statistics("test", statistics)] for name, assessment in there.items()}
        right = {name: values.argmax(axis=-1) == test.labels for name, values in logits.items()}
        pairs += pair_images(study, right, statistics)
    mistakes: list[Mistake] = []
    for variant in dict.fromkeys(name for name, _ in there):
        of_seeds = {seed: there[variant, seed].logits["test"] for name, seed in there if name == variant}
        mistakes += surest_mistakes(variant, of_seeds, test)
    return Results(
        scores=study.scores,
        confusions=[confuse(*name, test.labels, classes_seen, classes) for name, classes_seen in predicted.items()],
        pairs=pairs,
        calibrations=[calibration for calibration, _ in calibrated],
        reliability=[row for _, bins in calibrated for row in bins],
        agreements=agreements(predicted, test.labels),
        robustness=[row for assessment in assessments for row in assessment.robustness],
        responses=[row for assessment in assessments for row in assessment.responses],
        lesions=[row for assessment in assessments for row in assessment.lesions],
        mistakes=mistakes,
    )


def write_results(folder: Path, results: Results, classes: Sequence[str]) -> None:
    """Write one small file per kind of result."""
    write_scores(folder, results.scores)
    write_confusions(folder, results.confusions, classes)
    write_rows(folder / PAIRS, ImagePairs, results.pairs)
    write_rows(folder / CALIBRATION, Calibration, results.calibrations)
    write_rows(folder / RELIABILITY, ReliabilityBin, results.reliability)
    write_rows(folder / AGREEMENT, Agreement, results.agreements)
    write_rows(folder / ROBUSTNESS, Robustness, results.robustness)
    write_rows(folder / RESPONSES, Response, results.responses)
    write_rows(folder / LESIONS, Lesion, results.lesions)
    write_mistakes(folder / MISTAKES, results.mistakes)


def read_results(folder: Path, classes: Sequence[str]) -> Results:
    """Read what `write_results` wrote for the same `classes`."""
    return Results(
        scores=read_scores(folder),
        confusions=read_confusions(folder, classes),
        pairs=read_rows(folder / PAIRS, ImagePairs),
        calibrations=read_rows(folder / CALIBRATION, Calibration),
        reliability=read_rows(folder / RELIABILITY, ReliabilityBin),
        agreements=read_rows(folder / AGREEMENT, Agreement),
        robustness=read_rows(folder / ROBUSTNESS, Robustness),
        responses=read_rows(folder / RESPONSES, Response),
        lesions=read_rows(folder / LESIONS, Lesion),
        mistakes=read_mistakes(folder / MISTAKES),
    )
