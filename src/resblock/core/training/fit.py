"""The training loop: epochs, what is measured after each, and when it ends."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

import numpy as np

from resblock.core.backends import backend
from resblock.core.backends.machine import processor
from resblock.core.model.network import Network, build_network
from resblock.core.seeds import generator, sample
from resblock.core.spec import ModelSpec
from resblock.core.splits import DatasetDescription, Split
from resblock.core.training.checkpoint import Checkpoint, Progress
from resblock.core.training.gradients import GradientProbe
from resblock.core.training.inference import accuracy, cross_entropy
from resblock.core.training.manifest import read_recipe, versions
from resblock.core.training.run import Cost, EpochRow, GradientRow, Run
from resblock.core.training.statistics import reestimated, reestimation_images
from resblock.core.training.trainer import Trainer
from resblock.core.training.watcher import Watcher


@dataclass
class _State:
    """What a training has seen so far."""

    started: str
    curve: list[EpochRow] = field(default_factory=list[EpochRow])
    epoch_seconds: list[float] = field(default_factory=list[float])
    train_seconds: list[float] = field(default_factory=list[float])
    gradients: list[GradientRow] = field(default_factory=list[GradientRow])


def fit(
    trainer: Trainer,
    seed: int,
    validation: Split,
    manifest: Mapping[str, Any],
    checkpoint: Checkpoint,
    threads: int,
    watcher: Watcher,
) -> tuple[Run, Cost]:
    """Train the network of `seed` and return its results and their cost.

    `manifest` goes into the run as it is. A process that was killed goes on from `checkpoint`, which the caller holds
    until it has written the results. A loss that is not finite ends the training with status ``diverged``.

    Raises OSError where `checkpoint` cannot be written.
    """
    recipe, network = trainer.recipe, trainer.network
    trainer.start(seed)
    looks = _Looks.choose(trainer, seed, validation)

    state = _resume(trainer, checkpoint, watcher)
    # Looked at after the first epoch, so that the first step need not wait.
    moments = {0: network.weights()} if not state.curve and 0 in recipe.moments else {}
    probe: GradientProbe | None = None
    for epoch in range(len(state.curve) + 1, recipe.epochs + 1):
        if state.curve and not math.isfinite(state.curve[-1].loss):
            break
        begin = time.perf_counter()
        loss, correct = _train_epoch(trainer, seed, epoch, watcher)
        state.train_seconds.append(time.perf_counter() - begin)
        row = EpochRow(
            epoch=epoch,
            learning_rate=trainer.rate_at(epoch * trainer.steps_per_epoch - 1),
            loss=loss,
            accuracy=correct,
            **looks.take(finite=math.isfinite(loss)),
        )
        state.curve.append(row)
        if epoch in recipe.moments:
            moments[epoch] = network.weights()
        for moment in sorted(moments):
            probe = probe or GradientProbe(
                trainer.twin(seed), trainer.train, recipe.gradient_images, recipe.batch_size, seed
            )
            state.gradients += probe.measure(moments.pop(moment), moment)
        state.epoch_seconds.append(time.perf_counter() - begin)
        progress = Progress(
            trainer.state(), state.started, state.curve, state.epoch_seconds, state.train_seconds, state.gradients
        )
        checkpoint.save(progress, watcher.warn)
        watcher.epoch(row)

    run = Run(
        manifest=manifest,
        status="finished" if math.isfinite(state.curve[-1].loss) else "diverged",
        curve=state.curve,
        weights=network.weights(),
        gradients=state.gradients,
    )
    cost = Cost(
        started=state.started,
        epoch_seconds=tuple(state.epoch_seconds),
        images_per_second=trainer.images / float(np.median(state.train_seconds)),
        parameters=network.parameters,
        multiply_adds=network.multiply_adds,
        machine=backend().accelerator() or processor(),
        threads=threads,
        versions=versions(),
    )
    return run, cost


def trained_network(run: Run, dataset: DatasetDescription) -> Network:
    """Return the network that `run` trained on `dataset`, with its weights and its statistics as trained.

    Raises ValueError where its weights do not fit this code, and UserError where its recipe does not.
    """
    spec, recipe, seed = ModelSpec.parse(run.manifest["variant"]), read_recipe(run.manifest), run.manifest["seed"]
    network = build_network(spec, dataset.image_shape, len(dataset.classes), recipe, int(seed))
    network.load(run.weights)
    return network


def _resume(trainer: Trainer, checkpoint: Checkpoint, watcher: Watcher) -> _State:
    """Put the trainer where an earlier process left it, if one did, and return what that one had seen."""
    progress = checkpoint.load(watcher.warn)
    if progress is None:
        return _State(datetime.now(UTC).isoformat(timespec="seconds"))
    if not trainer.restore(progress.variables):
        watcher.warn("the checkpoint does not fit this network; starting from the first epoch")
        return _State(datetime.now(UTC).isoformat(timespec="seconds"))
    watcher.resumed(progress.curve)
    return _State(
        progress.started,
        list(progress.curve),
        list(progress.epoch_seconds),
        list(progress.train_seconds),
        list(progress.gradients),
    )


def _train_epoch(trainer: Trainer, seed: int, epoch: int, watcher: Watcher) -> tuple[float, float]:
    """Show every training image once, in the order of (seed, epoch); return mean loss and accuracy.

    The loss is NaN where a weight is not finite: ReLU may hide that from the loss.
    """
    images, size = trainer.images, trainer.recipe.batch_size
    order = generator(seed, "order", epoch).permutation(images).astype(np.int32)
    batches = [order[start : start + size] for start in range(0, images, size)]
    sums = trainer.steps.train(batches, lambda done: watcher.step(epoch, done, len(batches)))
    loss, correct = sums.sum(axis=0) / images
    finite = all(np.isfinite(values).all() for values in trainer.network.weights().values())
    return float(loss) if finite else math.nan, float(correct)


@dataclass(frozen=True)
class _Looks:
    """What is measured at the weights of each epoch's end, on the same images each time."""

    trainer: Trainer
    seed: int
    validation: Split
    sample: Split  # of training images, as many as there are validation images, at most `reestimate_images`
    statistics_images: np.ndarray

    @classmethod
    def choose(cls, trainer: Trainer, seed: int, validation: Split) -> Self:
        """Choose the images for a training with `seed`."""
        count = trainer.recipe.reestimate_images
        chosen = sample(trainer.images, min(count, len(validation.labels)), seed, "training sample")
        statistics_images = reestimation_images(trainer.train, count, seed)
        return cls(trainer, seed, validation, trainer.train.take(chosen), statistics_images)

    def take(self, *, finite: bool) -> dict[str, float]:
        """Return losses and accuracies by their names in `EpochRow`; NaN where a weight is not finite."""
        names = ("validation", "validation_reestimated", "train_reestimated")
        logits: dict[str, np.ndarray] = {}
        if finite:
            trainer = self.trainer
            model, inference, batch_size = trainer.network.model, trainer.inference, trainer.recipe.batch_size
            logits["validation"] = inference.logits(self.validation.images)
            with reestimated(model, inference, self.statistics_images, batch_size, self.seed):
                logits["validation_reestimated"] = inference.logits(self.validation.images)
                logits["train_reestimated"] = inference.logits(self.sample.images)
        figures: dict[str, float] = {}
        for name in names:
            split, _, suffix = name.partition("_")
            labels = (self.sample if split == "train" else self.validation).labels
            for what, measure in (("loss", cross_entropy), ("accuracy", accuracy)):
                key = "_".join(filter(None, (split, what, suffix)))
                figures[key] = measure(logits[name], labels) if finite else math.nan
        return figures
