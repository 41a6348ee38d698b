"""A trained network that names what it sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from resblock.core.backends import backend
from resblock.core.backends.protocol import Inference
from resblock.core.splits import DatasetDescription
from resblock.core.training.fit import trained_network
from resblock.core.training.inference import softmax
from resblock.core.training.run import Run


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
    """A network with its weights and batch-norm statistics, and the names of its classes."""

    inference: Inference
    classes: tuple[str, ...]

    def predict(self, images: np.ndarray) -> list[Prediction]:
        """Name what is in raw images, uint8 (n, height, width, channel)."""
        probabilities = softmax(self.inference.logits(images))  # (n, class)
        return [self._prediction(row) for row in probabilities]

    def _prediction(self, row: np.ndarray) -> Prediction:
        order = np.argsort(-row, kind="stable")
        return Prediction({self.classes[index]: float(row[index]) for index in order})


def load_classifier(run: Run, dataset: DatasetDescription) -> Classifier:
    """Return the network of `run`, trained on `dataset`, with the statistics that stand among its weights.

    Raises ValueError where its weights do not fit this code.
    """
    return Classifier(backend().inference(trained_network(run, dataset).model), dataset.classes)
