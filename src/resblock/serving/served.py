"""What MLflow calls to serve a logged model. It comes with the model, so resblock need not be installed there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from resblock.core.splits import read_description
from resblock.core.training.run import read_run
from resblock.evaluation.statistics import normalizing_by, read_statistics

if TYPE_CHECKING:
    from resblock.serving.classifier import Classifier


@dataclass(frozen=True)
class ServedClassifier:
    """A classifier with the interface that MLflow's Python models have."""

    classifier: Classifier

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Answer for raw images, uint8 (n, height, width, channel), in rows of class, probability, probabilities."""
        del params  # MLflow hands it to every model; this one has none
        predictions = self.classifier.predict(np.asarray(model_input, np.uint8))
        return pd.DataFrame([prediction.tree() for prediction in predictions])


def _load_pyfunc(data_path: str) -> ServedClassifier:  # pyright: ignore[reportUnusedFunction]  (MLflow's name for it)
    """Load the model whose run.json, weights.npz, statistics.npz and dataset.json lie in the folder `data_path`.

    Neither the number of threads nor a backend that is chosen already is touched: both are the caller's.
    """
    folder = Path(data_path)
    run = normalizing_by(read_statistics(folder), read_run(folder))
    os.environ.setdefault("KERAS_BACKEND", _backend(run.manifest["versions"]))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from resblock.serving.classifier import load_classifier  # Keras, its backend chosen by now

    return ServedClassifier(load_classifier(run, read_description(folder)))


def _backend(versions: Mapping[str, str]) -> str:
    """Return which of Keras' backends stands among the versions of a manifest."""
    return next(name for name in ("tensorflow", "jax", "torch") if name in versions)
