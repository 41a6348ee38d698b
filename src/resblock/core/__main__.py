"""Train where nothing but Keras, a backend and NumPy is installed: a machine with a graphics card, a cluster's node.

On the project's machine: ``resblock jobs cifar10 residual-56 > jobs.json``, and copy it with ``src`` and
``data/splits``. There: ``KERAS_BACKEND=jax PYTHONPATH=src python -m resblock.core jobs.json``. Back here: copy
``results`` into place, and ``dvc commit``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from resblock.core.backends import start
from resblock.core.errors import UserError
from resblock.core.training.job import Job, Workshop
from resblock.core.training.run import Cost, EpochRow, Run
from resblock.core.training.watcher import Nobody


class _Printer(Nobody):
    """Says each epoch in a line."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def epoch(self, row: EpochRow) -> None:
        """See `resblock.core.training.job.Watcher`."""
        print(
            f"{self._job.key}: epoch {row.epoch}/{self._job.recipe.epochs}  loss {row.loss:.4f}  "
            f"accuracy {row.accuracy:.4f}  validation {row.validation_accuracy:.4f}, "
            f"re-estimated {row.validation_accuracy_reestimated:.4f}",
            flush=True,
        )

    def resumed(self, curve: Sequence[EpochRow]) -> None:
        """See `resblock.core.training.job.Watcher`."""
        print(f"{self._job.key}: goes on after epoch {len(curve)}, from its checkpoint", flush=True)

    def warn(self, message: str) -> None:
        """See `resblock.core.training.job.Watcher`."""
        print(f"resblock.core: {message}", file=sys.stderr)

    def written(self, run: Run, cost: Cost) -> None:
        """See `resblock.core.training.job.Watcher`."""
        speed = f"{cost.images_per_second:,.0f} images/s"
        print(f"{self._job.key}: {run.status}, {speed}, {self._job.results}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, train each job, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m resblock.core", description=__doc__)
    parser.add_argument("jobs", type=Path, help="what `resblock jobs DATASET VARIANT` printed")
    chosen = parser.parse_args(arguments)
    try:
        workshop = Workshop(start)
        for job in _read_jobs(chosen.jobs):
            workshop.train(job, _Printer(job))
    except UserError as error:
        print(f"resblock.core: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"resblock.core: {error.filename or 'a file'}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("resblock.core: interrupted; the same command goes on from the last finished epoch", file=sys.stderr)
        return 130
    return 0


def _read_jobs(path: Path) -> list[Job]:
    """Read what `resblock jobs` printed."""
    advice = f"write it with `resblock jobs DATASET VARIANT > {path}`"
    try:
        trees = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; {advice}") from None
    except ValueError as error:
        raise UserError(f"{path}: no list of jobs ({error}); {advice}") from None
    if not isinstance(trees, list):
        raise UserError(f"{path}: no list of jobs; {advice}")
    return [Job.from_tree(tree) for tree in trees]


if __name__ == "__main__":
    sys.exit(main())
