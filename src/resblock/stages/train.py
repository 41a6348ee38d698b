"""Stages ``train`` and ``ablate``: one network, one seed, by the data set's recipe or by one that differs from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from resblock import paths
from resblock.data.splits import read_description, read_split
from resblock.params import read_params
from resblock.spec import RunKey
from resblock.stages.models import log_training
from resblock.stages.results import trained
from resblock.stages.terminal import epoch_line, say, step_bar, warn
from resblock.stages.tracked import tracked
from resblock.startup import start_keras
from resblock.tracking.stage import StageRun
from resblock.training.backend import emulates_bfloat16
from resblock.training.checkpoint import Checkpoint
from resblock.training.run import EpochRow, write_cost, write_run

if TYPE_CHECKING:
    from resblock.training.fit import Observers


def run(key: RunKey) -> None:
    """Train the network of `key` by its recipe."""
    recipe = read_params(paths.PARAMS).recipe(key.dataset, key.recipe)
    dataset = read_description(paths.splits(key.dataset))
    train, validation = (read_split(paths.splits(key.dataset), name) for name in ("train", "validation"))
    threads = start_keras(recipe.threads)
    if recipe.precision == "mixed_bfloat16" and emulates_bfloat16():
        warn(f"train.{key.dataset}.precision: this processor emulates bfloat16; float32 would be faster (params.yaml)")
    from resblock.training.fit import backend_versions, fit  # Keras, now quiet
    from resblock.training.manifest import make_manifest

    manifest = make_manifest(
        key, recipe.model_dump(), data_digest=dataset.digest, threads=threads, versions=backend_versions()
    )
    checkpoint = Checkpoint(paths.CHECKPOINTS, manifest["key"])
    with (
        checkpoint.held(str(key), warn),
        tracked(manifest, watch_machine=True) as tracker,
        step_bar(str(key)) as move,
    ):
        result, cost = fit(
            key,
            train,
            validation,
            classes=len(dataset.classes),
            recipe=recipe,
            manifest=manifest,
            checkpoint=checkpoint,
            threads=threads,
            observers=_observers(key, recipe.epochs, tracker, move),
        )
        write_run(paths.run(key), result)
        write_cost(paths.cost(key), cost)
        if result.status == "diverged":
            warn(f"{key}: diverged in epoch {len(result.curve)}; recorded as such")
        tracker.complete(lambda: trained(key))
        log_training(tracker, key)


def _observers(key: RunKey, epochs: int, tracker: StageRun, move: Callable[[int, int, int], None]) -> Observers:
    """Show each step and epoch on the terminal and in MLflow."""
    from resblock.training.fit import Observers  # Keras, quiet by now

    def tell(row: EpochRow) -> None:
        say(epoch_line(row, epochs))
        tracker.epoch(row.metrics, row.epoch)

    def catch_up(curve: Sequence[EpochRow]) -> None:
        say(f"{key}: goes on after epoch {len(curve)}, from its checkpoint")
        for row in curve:
            tracker.epoch(row.metrics, row.epoch)

    return Observers(steps=move, epochs=tell, resumed=catch_up, warnings=warn)
