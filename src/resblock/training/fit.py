"""The training loop: epochs, what is measured after each, and when it ends."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from resblock.data.splits import DatasetDescription, Split
from resblock.errors import UserError
from resblock.model.cost import count_multiply_adds, count_parameters
from resblock.model.network import build_model, load_weights
from resblock.seeds import generator
from resblock.spec import ModelSpec, RunKey
from resblock.training.backend import machine_name
from resblock.training.checkpoint import Checkpoint, Progress
from resblock.training.gradients import GradientProbe
from resblock.training.inference import accuracy, cross_entropy, predict, reestimated, reestimation_images
from resblock.training.run import Cost, EpochRow, GradientRow, Run
from resblock.training.trainer import Trainer

if TYPE_CHECKING:
    from resblock.params import Recipe


def _ignore(*_: Any) -> None:
    """Do nothing: the default of every observer."""


@dataclass(frozen=True)
class Observers:
    """Who is told of a training's course. None of them can change its result."""

    steps: Callable[[int, int, int], None] = _ignore  # epoch, steps done, steps in an epoch
    epochs: Callable[[EpochRow], None] = _ignore
    resumed: Callable[[Sequence[EpochRow]], None] = _ignore  # epochs that an earlier, killed process finished
    warnings: Callable[[str], None] = _ignore


@dataclass
class _State:
    """What a training has seen so far."""

    started: str
    curve: list[EpochRow] = field(default_factory=list[EpochRow])
    epoch_seconds: list[float] = field(default_factory=list[float])
    train_seconds: list[float] = field(default_factory=list[float])
    gradients: list[GradientRow] = field(default_factory=list[GradientRow])


def fit(
    key: RunKey,
    train: Split,
    validation: Split,
    *,
    classes: int,
    recipe: Recipe,
    manifest: Mapping[str, Any],
    checkpoint: Checkpoint,
    threads: int,
    observers: Observers | None = None,
    trainer: Trainer | None = None,
) -> tuple[Run, Cost]:
    """Train the network of `key` and return its results and their cost.

    `manifest` goes into the run as it is. A process that was killed goes on from `checkpoint`, which the caller holds
    until it has written the results. A loss that is not finite ends the training with status ``diverged``. `trainer`
    is one made for the same spec, images and recipe, whose compiled step is used again.

    Raises UserError where a batch is larger than the training set, and OSError where `checkpoint` cannot be written.
    """
    observers = observers or Observers()
    images = len(train.labels)
    if recipe.batch_size > images:
        raise UserError(
            f"train.{key.dataset}.batch_size: got {recipe.batch_size}, must be at most {images}, "
            "the number of training images (params.yaml)"
        )
    trainer = trainer or Trainer(key.spec, train, classes=classes, recipe=recipe, seed=key.seed)
    trainer.start(key.seed)
    model = trainer.model
    statistics_images = reestimation_images(train, recipe.reestimate_images, key.seed)

    state = _resume(trainer, checkpoint, observers)
    # Looked at after the first epoch, so that the first step need not wait.
    moments = {0: trainer.weights()} if not state.curve and 0 in recipe.gradient_epochs else {}
    probe: GradientProbe | None = None
    for epoch in range(len(state.curve) + 1, recipe.epochs + 1):
        if state.curve and not math.isfinite(state.curve[-1].loss):
            break
        begin = time.perf_counter()
        loss, correct = _train_epoch(trainer, recipe.batch_size, key.seed, epoch, observers)
        state.train_seconds.append(time.perf_counter() - begin)
        row = EpochRow(
            epoch=epoch,
            learning_rate=trainer.rate_at(epoch * trainer.steps - 1),
            loss=loss,
            accuracy=correct,
            **_validate(model, validation, statistics_images, key.seed, finite=math.isfinite(loss)),
        )
        state.curve.append(row)
        if epoch in recipe.gradient_epochs:
            moments[epoch] = trainer.weights()
        for moment in sorted(moments):
            probe = probe or GradientProbe(trainer.twin(key.seed), train, recipe.gradient_images, key.seed)
            state.gradients += probe.measure(moments.pop(moment), moment)
        state.epoch_seconds.append(time.perf_counter() - begin)
        checkpoint.save(
            Progress(
                trainer.state(),
                state.started,
                state.curve,
                state.epoch_seconds,
                state.train_seconds,
                state.gradients,
            ),
            observers.warnings,
        )
        observers.epochs(row)

    run = Run(
        manifest=manifest,
        status="finished" if math.isfinite(state.curve[-1].loss) else "diverged",
        curve=state.curve,
        weights=trainer.weights(),
        gradients=state.gradients,
    )
    cost = Cost(
        started=state.started,
        epoch_seconds=tuple(state.epoch_seconds),
        images_per_second=images / float(np.median(state.train_seconds)),
        parameters=count_parameters(model),
        multiply_adds=count_multiply_adds(model),
        machine=machine_name(),
        threads=threads,
        versions=backend_versions(),
    )
    return run, cost


def backend_versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    return {name: version(name) for name in ("keras", keras.backend.backend(), "numpy")}


def trained_network(run: Run, dataset: DatasetDescription) -> keras.Model:
    """Return the network that `run` trained on `dataset`, with its weights and its statistics as trained."""
    from resblock.params import Recipe  # needs pydantic, which a machine that only trains may lack

    spec, recipe = ModelSpec.parse(run.manifest["variant"]), Recipe.model_validate(run.manifest["recipe"])
    model = build_model(spec, dataset.image_shape, len(dataset.classes), recipe, int(run.manifest["seed"]))
    load_weights(model, run.weights)
    return model


def _resume(trainer: Trainer, checkpoint: Checkpoint, observers: Observers) -> _State:
    """Put the trainer where an earlier process left it, if one did, and return what that one had seen."""
    progress = checkpoint.load(observers.warnings)
    if progress is None:
        return _State(datetime.now(UTC).isoformat(timespec="seconds"))
    if not trainer.restore(progress.variables):
        observers.warnings("the checkpoint does not fit this network; starting from the first epoch")
        return _State(datetime.now(UTC).isoformat(timespec="seconds"))
    observers.resumed(progress.curve)
    return _State(
        progress.started,
        list(progress.curve),
        list(progress.epoch_seconds),
        list(progress.train_seconds),
        list(progress.gradients),
    )


def _train_epoch(trainer: Trainer, batch_size: int, seed: int, epoch: int, observers: Observers) -> tuple[float, float]:
    """Show every training image once, in the order of (seed, epoch); return mean loss and accuracy.

    The loss is NaN where a weight is not finite: ReLU may hide that from the loss.
    """
    images = trainer.images
    order = generator(seed, "order", epoch).permutation(images).astype(np.int32)
    batches = [order[start : start + batch_size] for start in range(0, images, batch_size)]
    sums = trainer.engine.train(batches, lambda done: observers.steps(epoch, done, len(batches)))
    loss, correct = sums.sum(axis=0) / images
    finite = all(np.isfinite(values).all() for values in trainer.weights().values())
    return float(loss) if finite else math.nan, float(correct)


def _validate(
    model: keras.Model, validation: Split, statistics_images: np.ndarray, seed: int, *, finite: bool
) -> dict[str, float]:
    """Measure loss and accuracy on validation images, with both kinds of batch-norm statistics."""
    if not finite:
        names = ("loss", "accuracy", "loss_reestimated", "accuracy_reestimated")
        return dict.fromkeys((f"validation_{name}" for name in names), math.nan)
    images, labels = validation
    trained = predict(model, images)
    with reestimated(model, statistics_images, seed):
        fresh = predict(model, images)
    return {
        "validation_loss": cross_entropy(trained, labels),
        "validation_accuracy": accuracy(trained, labels),
        "validation_loss_reestimated": cross_entropy(fresh, labels),
        "validation_accuracy_reestimated": accuracy(fresh, labels),
    }
