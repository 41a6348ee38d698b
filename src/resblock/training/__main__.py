"""Train where nothing but Keras, a backend and NumPy is installed: a machine with a graphics card, a cluster's node.

On the project's machine: ``resblock recipe cifar10 > recipe.json``, and copy it with ``src`` and ``data/splits``.
There: ``KERAS_BACKEND=jax PYTHONPATH=src python -m resblock.training cifar10 residual-56 --recipe recipe.json --seeds 0
1 2``. Back here: copy ``runs`` and ``costs`` into place, and ``dvc commit``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from resblock import paths
from resblock.data.splits import read_description, read_split
from resblock.errors import UserError
from resblock.spec import ModelSpec, RunKey
from resblock.training.backend import prepare_backend
from resblock.training.checkpoint import Checkpoint
from resblock.training.run import EpochRow, write_cost, write_run


class _Recipe(SimpleNamespace):
    """A recipe as `resblock.params.Recipe` has it, without pydantic: it was checked where it was written."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise UserError(f"the recipe says nothing of {name}; write it anew with `resblock recipe DATASET`")


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, train each seed, and return the exit code."""
    chosen = _parser().parse_args(arguments)
    try:
        _train(chosen)
    except UserError as error:
        print(f"resblock.training: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m resblock.training", description=__doc__)
    parser.add_argument("dataset", help="name of a folder in data/splits")
    parser.add_argument("variant", help="for instance residual-20")
    parser.add_argument("--recipe", type=Path, required=True, help="what `resblock recipe DATASET` printed")
    parser.add_argument("--seeds", type=int, nargs="+", required=True, help="they share one compiled step")
    return parser


def _train(chosen: argparse.Namespace) -> None:
    try:
        keys = [RunKey(chosen.dataset, ModelSpec.parse(chosen.variant), seed) for seed in chosen.seeds]
    except ValueError as error:
        raise UserError(str(error)) from None
    choices = _read_recipe(chosen.recipe)
    recipe = cast(Any, _Recipe(**choices))
    folder = paths.splits(chosen.dataset)
    if not folder.is_dir():
        raise UserError(f"{folder}: not there; copy it from a machine where `resblock preprocess` ran")
    dataset = read_description(folder)
    train, validation = read_split(folder, "train"), read_split(folder, "validation")
    threads = prepare_backend(recipe.threads)
    from resblock.training.fit import Observers, backend_versions, fit  # Keras, now quiet
    from resblock.training.manifest import make_manifest
    from resblock.training.trainer import Trainer

    trainer: Trainer | None = None
    for key in keys:
        manifest = make_manifest(key, choices, data_digest=dataset.digest, threads=threads, versions=backend_versions())
        checkpoint = Checkpoint(paths.CHECKPOINTS, manifest["key"])
        classes = len(dataset.classes)
        trainer = trainer or Trainer(key.spec, train, classes=classes, recipe=recipe, seed=key.seed)
        with checkpoint.held(str(key), _warn):
            run, cost = fit(
                key,
                train,
                validation,
                classes=classes,
                recipe=recipe,
                manifest=manifest,
                checkpoint=checkpoint,
                threads=threads,
                observers=Observers(epochs=_teller(key, recipe.epochs), warnings=_warn),
                trainer=trainer,
            )
            write_run(paths.run(key), run)
            write_cost(paths.cost(key), cost)
        print(f"{key}: {run.status}, {cost.images_per_second:,.0f} images/s, {paths.run(key)}", flush=True)


def _read_recipe(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; write it with `resblock recipe DATASET > {path}`") from None
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: not a recipe ({error}); write it with `resblock recipe DATASET > {path}`") from None


def _teller(key: RunKey, epochs: int) -> Callable[[EpochRow], None]:
    def tell(row: EpochRow) -> None:
        print(
            f"{key}: epoch {row.epoch}/{epochs}  loss {row.loss:.4f}  accuracy {row.accuracy:.4f}  "
            f"validation {row.validation_accuracy:.4f}, re-estimated {row.validation_accuracy_reestimated:.4f}",
            flush=True,
        )

    return tell


def _warn(message: str) -> None:
    print(f"resblock.training: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
