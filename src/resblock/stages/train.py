"""Stage ``train``: one network, one seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from resblock import paths
from resblock.data.splits import read_description, read_split
from resblock.params import read_params
from resblock.report.figures import run_curves
from resblock.report.style import COLORS, save_figure
from resblock.spec import RunKey
from resblock.stages.models import log_training
from resblock.stages.terminal import epoch_line, say, step_bar, warn
from resblock.stages.tracked import tracked
from resblock.tracking.stage import StageRun
from resblock.training.backend import prepare_backend
from resblock.training.checkpoint import Checkpoint
from resblock.training.run import CURVE, MANIFEST, METRICS, Cost, EpochRow, Run, write_cost, write_run

if TYPE_CHECKING:
    from resblock.training.fit import Observers


def run(key: RunKey) -> None:
    """Train the network of `key` by its data set's recipe."""
    recipe = read_params(paths.PARAMS).recipe(key.dataset)
    dataset = read_description(paths.splits(key.dataset))
    train, validation = (read_split(paths.splits(key.dataset), name) for name in ("train", "validation"))
    threads = prepare_backend(recipe.threads)
    from resblock.training.fit import backend_versions, fit  # Keras, now quiet
    from resblock.training.manifest import make_manifest

    manifest = make_manifest(key, recipe, data_digest=dataset.digest, threads=threads, versions=backend_versions())
    checkpoint = Checkpoint(paths.CHECKPOINTS, manifest["key"])
    with _tracked_training(key, manifest) as tracker, step_bar(str(key)) as move:
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
        checkpoint.remove()
        _log(tracker, key, result, cost)
        log_training(tracker, key)


def _tracked_training(key: RunKey, manifest: Mapping[str, Any]) -> AbstractContextManager[StageRun]:
    """Open the training's MLflow run: what the manifest says as parameters, its digests as tags."""
    chosen = {name: manifest[name] for name in ("dataset", "variant", "family", "depth", "seed", "threads")}
    return tracked(
        "train",
        key.dataset,
        {**chosen, **manifest["recipe"]},
        data_digest=manifest["data"],
        axes=str(key),
        key=manifest["key"],
        tags={"resblock.code": manifest["code"], "mlflow.runColor": COLORS[key.spec.family]},
    )


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


def _log(tracker: StageRun, key: RunKey, result: Run, cost: Cost) -> None:
    """Log what stands at a training's end."""
    if result.status == "diverged":
        warn(f"{key}: diverged in epoch {len(result.curve)}; recorded as such")
    folder = paths.run(key)
    tracker.tags({"resblock.status": result.status})
    tracker.metrics(
        {
            "images_per_second": cost.images_per_second,
            "seconds": cost.seconds,
            "parameters": cost.parameters,
            "multiply_adds": cost.multiply_adds,
        }
    )
    with TemporaryDirectory() as scratch:
        picture = Path(scratch) / "curve.png"
        save_figure(run_curves({str(key): result.curve}), picture)
        for path in (picture, folder / CURVE, folder / METRICS, folder / MANIFEST, paths.cost(key)):
            tracker.artifact(path)
