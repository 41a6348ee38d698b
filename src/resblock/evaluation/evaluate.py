"""Trained networks on train, validation and test images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from resblock.core.backends import backend
from resblock.core.backends.normalization import normalizations
from resblock.core.backends.protocol import Inference
from resblock.core.model.network import Network
from resblock.core.recipe import Recipe
from resblock.core.spec import ModelSpec
from resblock.core.splits import DatasetDescription, Split, SplitName
from resblock.core.training.fit import trained_network
from resblock.core.training.inference import accuracy, cross_entropy
from resblock.core.training.manifest import read_recipe
from resblock.core.training.run import Run
from resblock.core.training.statistics import reestimated, reestimation_images
from resblock.evaluation.assessment import Assessment, assess
from resblock.evaluation.corruption import Corrupted, Robustness
from resblock.evaluation.lesions import lesion, respond
from resblock.evaluation.score import STATISTICS, Score, empty_score, with_statistics
from resblock.evaluation.specimens import Specimens


@dataclass
class Examiner:
    """Looks at trained networks one after the other; those that differ in their weights alone share what is compiled.

    Without `specimens` there is no closer look: at robustness, at what each block says, at what is lost without it.
    """

    dataset: DatasetDescription
    splits: Mapping[SplitName, Split]
    specimens: Specimens | None = None
    _like: tuple[str, Recipe] | None = field(default=None, init=False)
    _opened: tuple[Network, Inference] | None = field(default=None, init=False)

    def look(self, run: Run) -> Assessment:
        """Return what is found of `run`: all of one that finished, of one that diverged only that it did."""
        spec, seed = ModelSpec.parse(run.manifest["variant"]), int(run.manifest["seed"])
        if run.status != "finished":
            return Assessment(empty_score(spec, seed, run.status))
        network, inference = self._open(run)
        logits: dict[str, np.ndarray] = {name: inference.logits(split.images) for name, split in self.splits.items()}
        recipe = read_recipe(run.manifest)
        images = reestimation_images(self.splits["train"], recipe.reestimate_images, seed)
        with reestimated(network.model, inference, images, recipe.batch_size, seed):
            looks: dict[str, Any] = {"statistics": _statistics(network.model)}
            logits |= {f"{name}_reestimated": inference.logits(split.images) for name, split in self.splits.items()}
            if self.specimens:
                looks |= _closer(network, inference, self.specimens, spec, seed)
        score = Score(spec.name, spec.family, spec.depth, seed, "finished", **self._figures(logits))
        return assess(score, logits, self.splits, len(self.dataset.classes), **looks)

    def _open(self, run: Run) -> tuple[Network, Inference]:
        """Return the network of `run`, as trained; the one opened before is no longer to be used."""
        like = (run.manifest["variant"], read_recipe(run.manifest))
        if self._opened and like == self._like:
            self._opened[0].load(run.weights)
            return self._opened
        keras.backend.clear_session()  # each network would stay in memory otherwise
        network = trained_network(run, self.dataset)
        self._like, self._opened = like, (network, backend().inference(network.model))
        return self._opened

    def _figures(self, logits: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Return loss and accuracy on each split by each kind of statistics, as `Score` calls them."""
        figures: dict[str, float] = {}
        for name, split in self.splits.items():
            for statistics in STATISTICS:
                values = logits[with_statistics(name, statistics)]
                figures[with_statistics(f"{name}_loss", statistics)] = cross_entropy(values, split.labels)
                figures[with_statistics(f"{name}_accuracy", statistics)] = accuracy(values, split.labels)
        return figures


def _statistics(model: keras.Model) -> dict[str, np.ndarray]:
    """Return the statistics that `model` normalises with now, by variable path."""
    layers = normalizations(model)
    variables = [variable for layer in layers for variable in (layer.moving_mean, layer.moving_variance)]
    return {variable.path: keras.ops.convert_to_numpy(variable) for variable in variables}


def _closer(network: Network, inference: Inference, specimens: Specimens, spec: ModelSpec, seed: int) -> dict[str, Any]:
    return {
        "robustness": _robustness(inference, specimens.corrupted, spec, seed),
        "responses": respond(network, specimens.responding.images, spec, seed),
        "lesions": lesion(network, inference, specimens.lesioned, spec, seed, specimens.draws),
    }


def _robustness(inference: Inference, corrupted: Corrupted, spec: ModelSpec, seed: int) -> list[Robustness]:
    rows: list[Robustness] = []
    for name, severity in corrupted.names:
        parts = [inference.logits(images) for images in corrupted.images(name, severity)]
        rows.append(corrupted.score(spec.name, seed, name, severity, np.concatenate(parts)))
    return rows
