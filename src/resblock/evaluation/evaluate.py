"""Trained networks on train, validation and test images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from resblock import paths
from resblock.core.backends import Inference, backend
from resblock.core.files import read_arrays, write_arrays
from resblock.core.model.network import Network
from resblock.core.recipe import Recipe
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.splits import DatasetDescription, Split, SplitName
from resblock.core.training.fit import trained_network
from resblock.core.training.inference import accuracy, cross_entropy
from resblock.core.training.manifest import read_recipe
from resblock.core.training.run import Run, is_there, read_run
from resblock.core.training.statistics import reestimated, reestimation_images
from resblock.evaluation.assessment import Assessment, Logits
from resblock.evaluation.corruption import Corrupted, Robustness
from resblock.evaluation.lesions import lesion, respond
from resblock.evaluation.score import Score, empty_score
from resblock.evaluation.specimens import Specimens


@dataclass
class Opener:
    """Opens trained networks one after the other; those that differ in their weights alone share what is compiled."""

    dataset: DatasetDescription
    _like: tuple[str, Recipe] | None = field(default=None, init=False)
    _opened: tuple[Network, Inference] | None = field(default=None, init=False)

    def open(self, run: Run) -> tuple[Network, Inference]:
        """Return the network of `run`, as trained; the one opened before is no longer to be used."""
        like = (run.manifest["variant"], read_recipe(run.manifest))
        if self._opened and like == self._like:
            self._opened[0].load(run.weights)
            return self._opened
        keras.backend.clear_session()  # each network would stay in memory otherwise
        network = trained_network(run, self.dataset)
        self._like, self._opened = like, (network, backend().inference(network.model))
        return self._opened


def assess(
    key: RunKey, splits: Mapping[SplitName, Split], opener: Opener, specimens: Specimens | None = None
) -> Assessment:
    """Evaluate the training of `key` if it is there and finished; otherwise its score says what befell it."""
    if not is_there(paths.run(key)):
        return Assessment(empty_score(key.spec, key.seed, "missing"), {})
    run = read_run(paths.run(key))
    if run.status != "finished":
        return Assessment(empty_score(key.spec, key.seed, run.status), {})
    return evaluate(run, splits, opener, specimens)


def evaluate(run: Run, splits: Mapping[SplitName, Split], opener: Opener, specimens: Specimens | None) -> Assessment:
    """Return a finished `run`'s score, its logits on `splits` by both kinds of statistics, and a closer look.

    Without `specimens` there is no closer look: at robustness, at what each block says, at what is lost without it.
    """
    spec, seed = ModelSpec.parse(run.manifest["variant"]), int(run.manifest["seed"])
    network, inference = opener.open(run)
    logits: dict[str, np.ndarray] = {name: inference.logits(split.images) for name, split in splits.items()}
    recipe = read_recipe(run.manifest)
    images = reestimation_images(splits["train"], recipe.reestimate_images, seed)
    with reestimated(network.model, inference, images, recipe.batch_size, seed):
        logits |= {f"{name}_reestimated": inference.logits(split.images) for name, split in splits.items()}
        looks: dict[str, Any] = {}
        if specimens:
            looks["robustness"] = _robustness(inference, specimens.corrupted, spec, seed)
            looks["responses"] = respond(network, specimens.responding.images, spec, seed)
            looks["lesions"] = lesion(network, inference, specimens.lesioned, spec, seed, specimens.draws)
    figures: dict[str, Any] = {}
    for name, split in splits.items():
        for suffix in ("", "_reestimated"):
            figures[f"{name}_loss{suffix}"] = cross_entropy(logits[name + suffix], split.labels)
            figures[f"{name}_accuracy{suffix}"] = accuracy(logits[name + suffix], split.labels)
    score = Score(spec.name, spec.family, spec.depth, seed, "finished", **figures)
    return Assessment(score, logits, **looks)


def _robustness(inference: Inference, corrupted: Corrupted, spec: ModelSpec, seed: int) -> list[Robustness]:
    rows: list[Robustness] = []
    for name, severity in corrupted.names:
        parts = [inference.logits(images) for images in corrupted.images(name, severity)]
        rows.append(corrupted.score(spec.name, seed, name, severity, np.concatenate(parts)))
    return rows


def write_predictions(path: Path, logits: Logits) -> None:
    """Keep the logits on validation and test images, by both kinds of statistics."""
    write_arrays(path, {name: values for name, values in logits.items() if not name.startswith("train")})


def read_predictions(path: Path) -> Logits:
    """Read what `write_predictions` wrote."""
    return read_arrays(path)
