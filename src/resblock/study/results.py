"""Everything that evaluations found out of a data set's trainings, and what only shows when they stand together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from resblock.core.splits import Split
from resblock.evaluation.assessment import Assessment
from resblock.evaluation.blocks import Lesion, Response
from resblock.evaluation.calibration import Calibration, ReliabilityBin
from resblock.evaluation.corruption import Robustness
from resblock.evaluation.score import STATISTICS, Confusion, Score, with_statistics
from resblock.study.agreement import Agreement, Mistake, agreements, surest_mistakes
from resblock.study.comparison import ImagePairs, pair_images
from resblock.study.summary import Study

Row = TypeVar("Row")


@dataclass(frozen=True)
class Results:
    """All rows of a study. Only `scores` have rows for what failed."""

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


def gather(dataset: str, assessments: Sequence[Assessment], test: Split) -> Results:
    """Put the trainings of a data set side by side; `test` is the split that their logits stand for.

    What compares single images is of those whose predictions are here.
    """
    study = Study(dataset, tuple(assessment.score for assessment in assessments))
    there = {assessment.name: assessment.logits for assessment in assessments if assessment.logits}
    predicted = {name: logits["test"].argmax(axis=-1) for name, logits in there.items()}
    pairs: list[ImagePairs] = []
    for statistics in STATISTICS:
        answers = {name: logits[with_statistics("test", statistics)] for name, logits in there.items()}
        right = {name: values.argmax(axis=-1) == test.labels for name, values in answers.items()}
        pairs += pair_images(study, right, statistics)
    mistakes: list[Mistake] = []
    for variant in dict.fromkeys(name for name, _ in there):
        of_seeds = {seed: there[variant, seed]["test"] for name, seed in there if name == variant}
        mistakes += surest_mistakes(variant, of_seeds, test)
    return Results(
        scores=study.scores,
        confusions=_all(assessment.confusions for assessment in assessments),
        pairs=pairs,
        calibrations=_all(assessment.calibrations for assessment in assessments),
        reliability=_all(assessment.reliability for assessment in assessments),
        agreements=agreements(predicted, test.labels),
        robustness=_all(assessment.robustness for assessment in assessments),
        responses=_all(assessment.responses for assessment in assessments),
        lesions=_all(assessment.lesions for assessment in assessments),
        mistakes=mistakes,
    )


def _all(parts: Iterable[Sequence[Row]]) -> list[Row]:
    return [row for rows in parts for row in rows]
