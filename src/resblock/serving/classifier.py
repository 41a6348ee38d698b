"""A trained network that names what it sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from scipy.special import softmax

from resblock.data.splits import DatasetDescription
from resblock.training.fit import trained_network
from resblock.training.inference import predict
from resblock.training.run import Run


@dataclass(frozen=True)
class Prediction:
    """What a network says of one picture: each class's probability, the most probable class first."""

    probabilities: dict[str, float]

    @property
    def best(self) -> str:
        """The most probable class."""
        return next(iter(self.probabilities))

    def top(self, count: int) -> dict[str, float]:
        """Return the `count` most probable classes."""
        return dict(list(self.probabilities.items())[:count])

    def tree(self, count: int | None = None) -> dict[str, Any]:
        """Return the class, its probability and the `count` highest probabilities (None: all)."""
        probabilities = self.probabilities if count is None else self.top(count)
        return {"class": self.best, "probability": self.probabilities[self.best], "probabilities": probabilities}


@dataclass(frozen=True)
class Classifier:
    """A network with its weights, batch-norm statistics as trained, and the names of its classes."""

    model: keras.Model
    classes: tuple[str, ...]

    def predict(self, images: np.ndarray) -> list[Prediction]:
        """Name what is in raw images, uint8 (n, height, width, channel)."""
        probabilities = softmax(predict(self.model, images).astype(np.float64), axis=-1)  # (n, class)
        return [self._prediction(row) for row in probabilities]

    def _prediction(self, row: np.ndarray) -> Prediction:
        order = np.argsort(-row, kind="stable")
        return Prediction({self.classes[index]: float(row[index]) for index in order})


def load_classifier(run: Run, dataset: DatasetDescription) -> Classifier:
    """Return the network that `run` trained on `dataset`. Raises ValueError where its weights do not fit this code."""
    return Classifier(trained_network(run, dataset), dataset.classes)
