"""What is found out of one training, and the files that hold it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from resblock.core.files import arrays_bytes, json_bytes, read_arrays, write_together
from resblock.core.splits import Split, SplitName
from resblock.core.training.run import MANIFEST
from resblock.evaluation.blocks import Lesion, Response
from resblock.evaluation.calibration import Calibration, ReliabilityBin, calibrate
from resblock.evaluation.corruption import Robustness
from resblock.evaluation.rows import read_rows, rows_bytes
from resblock.evaluation.score import (
    STATISTICS,
    Confusion,
    Score,
    confuse,
    confusions_bytes,
    read_confusions,
    with_statistics,
)
from resblock.evaluation.statistics import STATISTICS_FILE, statistics_bytes

SCORE, CONFUSION, PREDICTIONS = "score.csv", "confusion.csv", "predictions.npz"
CALIBRATION, RELIABILITY = "calibration.csv", "reliability.csv"
ROBUSTNESS, RESPONSES, LESIONS = "robustness.csv", "responses.csv", "lesions.csv"
TABLES = (SCORE, CONFUSION, CALIBRATION, RELIABILITY, ROBUSTNESS, RESPONSES, LESIONS)

Logits = Mapping[str, np.ndarray]  # "<split>" and "<split>_reestimated" to float32 (n, class)


@dataclass(frozen=True)
class Assessment:
    """One training, looked at. One that diverged has a score without figures, and nothing else."""

    score: Score
    logits: Logits = field(default_factory=dict[str, np.ndarray])  # empty, too, where predictions are not here
    statistics: Mapping[str, np.ndarray] = field(default_factory=dict[str, np.ndarray])  # re-estimated, by path
    confusions: Sequence[Confusion] = ()
    calibrations: Sequence[Calibration] = ()
    reliability: Sequence[ReliabilityBin] = ()
    robustness: Sequence[Robustness] = ()
    responses: Sequence[Response] = ()
    lesions: Sequence[Lesion] = ()

    @property
    def name(self) -> tuple[str, int]:
        """The network's name and the seed."""
        return self.score.variant, self.score.seed


def assess(score: Score, logits: Logits, splits: Mapping[SplitName, Split], classes: int, **looks: Any) -> Assessment:
    """Return what follows from a training's `logits` on `splits`, beside its `score` and closer `looks`."""
    variant, seed = score.variant, score.seed
    validation, test = splits["validation"], splits["test"]
    calibrated = [
        calibrate(
            variant,
            seed,
            statistics,
            validation=validation,
            test=test,
            logits=tuple(logits[with_statistics(split, statistics)] for split in ("validation", "test")),
        )
        for statistics in STATISTICS
    ]
    return Assessment(
        score,
        logits,
        confusions=[confuse(variant, seed, test.labels, logits["test"].argmax(axis=-1), classes)],
        calibrations=[calibration for calibration, _ in calibrated],
        reliability=[row for _, bins in calibrated for row in bins],
        **looks,
    )


def write_assessment(folder: Path, assessment: Assessment, classes: Sequence[str], manifest: Mapping[str, Any]) -> None:
    """Write the same files for every training, `manifest`, which says who looked at which, the last.

    Of the logits, those on validation and test images are kept, by both kinds of statistics. On a full disk, what stood
    there before stays whole.
    """
    kept = {name: values for name, values in assessment.logits.items() if not name.startswith("train")}
    contents = {
        SCORE: rows_bytes(Score, [assessment.score]),
        CONFUSION: confusions_bytes(assessment.confusions, classes),
        CALIBRATION: rows_bytes(Calibration, assessment.calibrations),
        RELIABILITY: rows_bytes(ReliabilityBin, assessment.reliability),
        ROBUSTNESS: rows_bytes(Robustness, assessment.robustness),
        RESPONSES: rows_bytes(Response, assessment.responses),
        LESIONS: rows_bytes(Lesion, assessment.lesions),
        PREDICTIONS: arrays_bytes(kept),
        STATISTICS_FILE: statistics_bytes(assessment.statistics),
        MANIFEST: json_bytes(manifest),
    }
    write_together({folder / name: content for name, content in contents.items()})


def read_score(folder: Path) -> Score:
    """Read the score that `write_assessment` wrote."""
    (score,) = read_rows(folder / SCORE, Score)
    return score


def read_assessment(folder: Path, classes: Sequence[str]) -> Assessment:
    """Read what `write_assessment` wrote for the same `classes`; the statistics are for those who use the network.

    Where DVC has not brought the predictions, as in a clone, there are no logits.
    """
    predictions = folder / PREDICTIONS
    return Assessment(
        read_score(folder),
        read_arrays(predictions) if predictions.is_file() else {},
        confusions=read_confusions(folder / CONFUSION, classes),
        calibrations=read_rows(folder / CALIBRATION, Calibration),
        reliability=read_rows(folder / RELIABILITY, ReliabilityBin),
        robustness=read_rows(folder / ROBUSTNESS, Robustness),
        responses=read_rows(folder / RESPONSES, Response),
        lesions=read_rows(folder / LESIONS, Lesion),
    )
