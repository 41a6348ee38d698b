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

from resblock.data.splits import Split
from resblock.errors import UserError
from resblock.model.cost import count_multiply_adds, count_parameters
from resblock.model.network import build_model
from resblock.seeds import generator
from resblock.spec import RunKey
from resblock.training.backend import machine_name
from resblock.training.checkpoint import Checkpoint, Progress
from resblock.training.engine import Engine, make_engine
from resblock.training.inference import accuracy, cross_entropy, predict, reestimated, reestimation_images
from resblock.training.optimization import make_optimizer
from resblock.training.run import Cost, EpochRow, Run

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
) -> tuple[Run, Cost]:
    """Train the network of `key` and return its results and their cost.

    `manifest` goes into the run as it is. A process that was killed goes on from `checkpoint`, which the caller holds
    until it has written the results. A loss that is not finite ends the training with status ``diverged``.

    Raises UserError where a batch is larger than the training set, and OSError where `checkpoint` cannot be written.
    """
    observers = observers or Observers()
    images = len(train.labels)
    if recipe.batch_size > images:
        raise UserError(
            f"train.{key.dataset}.batch_size: got {recipe.batch_size}, must be at most {images}, "
            "the number of training images (params.yaml)"
        )
    height, width, channels = train.images.shape[1:]
    model = build_model(key.spec, (height, width, channels), classes, recipe, key.seed)
    steps = math.ceil(images / recipe.batch_size)
    optimizer = make_optimizer(recipe, recipe.epochs * steps)
    optimizer.build(model.trainable_variables)
    engine = make_engine(model, optimizer, train)
    statistics_images = reestimation_images(train, recipe.reestimate_images, key.seed)

    state = _State(datetime.now(UTC).isoformat(timespec="seconds"))
    if (progress := checkpoint.load(observers.warnings)) and _restore(model, optimizer, progress, observers):
        state = _State(
            progress.started, list(progress.curve), list(progress.epoch_seconds), list(progress.train_seconds)
        )
        observers.resumed(state.curve)

    for epoch in range(len(state.curve) + 1, recipe.epochs + 1):
        if state.curve and not math.isfinite(state.curve[-1].loss):
            break
        begin = time.perf_counter()
        loss, correct = _train_epoch(engine, images, recipe.batch_size, key.seed, epoch, observers)
        state.train_seconds.append(time.perf_counter() - begin)
        row = EpochRow(
            epoch=epoch,
            learning_rate=_rate_at(optimizer, epoch * steps - 1),
            loss=loss,
            accuracy=correct,
            **_validate(model, validation, statistics_images, key.seed, finite=math.isfinite(loss)),
        )
        state.curve.append(row)
        state.epoch_seconds.append(time.perf_counter() - begin)
        checkpoint.save(
            Progress(
                _variables(model, optimizer), state.started, state.curve, state.epoch_seconds, state.train_seconds
            ),
            observers.warnings,
        )
        observers.epochs(row)

    run = Run(
        manifest=manifest,
        status="finished" if math.isfinite(state.curve[-1].loss) else "diverged",
        curve=state.curve,
        weights={variable.path: keras.ops.convert_to_numpy(variable) for variable in model.weights},
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


def load_weights(model: keras.Model, weights: Mapping[str, np.ndarray]) -> None:
    """Put a run's weights into a network of the same spec."""
    for variable in model.weights:
        variable.assign(weights[variable.path])


def _train_epoch(
    engine: Engine, images: int, batch_size: int, seed: int, epoch: int, observers: Observers
) -> tuple[float, float]:
    """Show every training image once, in the order of (seed, epoch); return mean loss and accuracy."""
    order = generator(seed, "order", epoch).permutation(images).astype(np.int32)
    batches = [order[start : start + batch_size] for start in range(0, images, batch_size)]
    handles: list[Any] = []
    for number, batch in enumerate(batches, start=1):
        handles.append(engine.step(batch))
        observers.steps(epoch, number, len(batches))
    loss, correct = engine.collect(handles).sum(axis=0) / images
    return float(loss), float(correct)


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


def _rate_at(optimizer: keras.optimizers.Optimizer, step: int) -> float:
    """Return the learning rate of `step`, counted from 0."""
    schedule = getattr(optimizer, "_learning_rate")  # noqa: B009  (the public property gives the next step's rate)
    rate = schedule(step) if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule) else schedule
    return float(f"{float(keras.ops.convert_to_numpy(rate)):.6g}")  # what float32 holds of 0.001 is no 0.001


def _variables(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> dict[str, np.ndarray]:
    return {name: keras.ops.convert_to_numpy(variable) for name, variable in _named(model, optimizer).items()}


def _named(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> dict[str, Any]:
    """Name every variable that the next step reads: weights, moving averages, random states, optimiser state."""
    return {
        **{f"model/{number}/{variable.name}": variable for number, variable in enumerate(model.variables)},
        **{f"optimizer/{number}/{variable.name}": variable for number, variable in enumerate(optimizer.variables)},
    }


def _restore(
    model: keras.Model, optimizer: keras.optimizers.Optimizer, progress: Progress, observers: Observers
) -> bool:
    """Put the saved variables back; report and refuse a checkpoint that does not fit."""
    named = _named(model, optimizer)
    kinds = {name: (tuple(variable.shape), str(variable.dtype)) for name, variable in named.items()}
    if kinds != {name: (value.shape, str(value.dtype)) for name, value in progress.variables.items()}:
        observers.warnings("the checkpoint does not fit this network; starting from the first epoch")
        return False
    for name, variable in named.items():
        variable.assign(progress.variables[name])
    return True
