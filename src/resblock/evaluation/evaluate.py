"""Trained networks on train, validation and test images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np
from sklearn.metrics import confusion_matrix

from resblock.data.splits import DatasetDescription, Split, SplitName
from resblock.evaluation.score import Confusion, Score
from resblock.files import read_arrays, write_arrays
from resblock.params import Recipe
from resblock.spec import ModelSpec
from resblock.training.fit import trained_network
from resblock.training.inference import accuracy, cross_entropy, predict, reestimated, reestimation_images
from resblock.training.run import Run

Logits = Mapping[str, np.ndarray]  # "<split>" and "<split>_reestimated" to float32 (n, class)


def evaluate(run: Run, splits: Mapping[SplitName, Split], dataset: DatasetDescription) -> tuple[Score, Logits]:
    """Return the score of a finished `run` and its logits on each of `splits`, by both kinds of statistics."""
    spec, seed = ModelSpec.parse(run.manifest["variant"]), int(run.manifest["seed"])
    recipe = Recipe.model_validate(run.manifest["recipe"])
    model = trained_network(run, dataset)
    logits: dict[str, np.ndarray] = {name: predict(model, split.images) for name, split in splits.items()}
    with reestimated(model, reestimation_images(splits["train"], recipe.reestimate_images, seed), seed):
        logits |= {f"{name}_reestimated": predict(model, split.images) for name, split in splits.items()}
    keras.backend.clear_session()  # each network would stay in memory otherwise
    figures: dict[str, Any] = {}
    for name, split in splits.items():
        for suffix in ("", "_reestimated"):
            figures[f"{name}_loss{suffix}"] = cross_entropy(logits[name + suffix], split.labels)
            figures[f"{name}_accuracy{suffix}"] = accuracy(logits[name + suffix], split.labels)
    return Score(spec.name, spec.family, spec.depth, seed, "finished", **figures), logits


def confusion(score: Score, logits: Logits, test: Split, classes: int) -> Confusion:
    """Count which classes of the test split `score`'s network takes for which, with its statistics as trained."""
    predicted = logits["test"].argmax(axis=-1)
    counts = confusion_matrix(test.labels, predicted, labels=range(classes))
    return Confusion(score.variant, score.seed, cast(np.ndarray, counts))


def write_predictions(path: Path, logits: Logits) -> None:
    """Keep the logits on validation and test images, by both kinds of statistics."""
    write_arrays(path, {name: values for name, values in logits.items() if not name.startswith("train")})


def read_predictions(path: Path) -> Logits:
    """Read what `write_predictions` wrote."""
    return read_arrays(path)
