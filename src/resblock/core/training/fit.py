"""The training loop: epochs, what is measured after each, and when it ends."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from resblock.core.backends import backend
from resblock.core.backends.machine import processor
from resblock.core.model.network import Network, build_network
from resblock.core.seeds import generator
from resblock.core.spec import ModelSpec
from resblock.core.splits import DatasetDescription, Split
from resblock.core.training.checkpoint import Checkpoint, Progress
from resblock.core.training.gradients import GradientProbe
from resblock.core.training.inference import accuracy, cross_entropy
from resblock.core.training.job import Watcher
from resblock.core.training.manifest import read_recipe, versions
from resblock.core.training.run import Cost, EpochRow, GradientRow, Run
from resblock.core.training.statistics import reestimated, reestimation_images
from resblock.core.training.trainer import Trainer


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
    statistics_images = reestimation_images(trainer.train, recipe.reestimate_images, seed)

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
            **_validate(trainer, validation, statistics_images, seed, finite=math.isfinite(loss)),
        )
        state.curve.append(row)
        if epoch in recipe.moments:
            moments[epoch] = network.weights()
        for moment in sorted(moments):
            probe = probe or GradientProbe(trainer.twin(seed), trainer.train, recipe.gradient_images, seed)
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


def _validate(
    trainer: Trainer, validation: Split, statistics_images: np.ndarray, seed: int, *, finite: bool
) -> dict[str, float]:
    """Measure loss and accuracy on validation images, with both kinds of batch-norm statistics."""
    if not finite:
        names = ("loss", "accuracy", "loss_reestimated", "accuracy_reestimated")
        return dict.fromkeys((f"validation_{name}" for name in names), math.nan)
    images, labels = validation
    trained = trainer.inference.logits(images)
    with reestimated(trainer.network, trainer.inference, statistics_images, seed):
        fresh = trainer.inference.logits(images)
    return {
        "validation_loss": cross_entropy(trained, labels),
        "validation_accuracy": accuracy(trained, labels),
        "validation_loss_reestimated": cross_entropy(fresh, labels),
        "validation_accuracy_reestimated": accuracy(fresh, labels),
    }
