"""One epoch of a real training, validation and checkpoint included: ``python -m benchmarks.training NETWORK``.

Prints, as JSON, the seconds of the epoch and the process' peak resident memory.
"""

from __future__ import annotations

import json
import resource
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.peers.protocol import RSS_UNIT
from resblock import paths
from resblock.core.recipe import LAST
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.training.job import Job, Workshop
from resblock.core.training.run import read_cost
from resblock.core.training.watcher import Nobody
from resblock.params import read_params
from resblock.startup import start_keras

DATASET = "cifar10"


def main() -> None:
    """Train on all of CIFAR-10's training images, once."""
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        job = Job(
            key=RunKey(DATASET, ModelSpec.parse(sys.argv[1]), 0),
            recipe=replace(read_params(paths.PARAMS).recipe(DATASET), epochs=1, gradient_epochs=(0, LAST)),
            splits=paths.splits(DATASET),
            results=folder / "run",
            cost=folder / "cost.json",
            checkpoints=folder / "checkpoints",
        )
        Workshop(start_keras).train(job, Nobody())
        (seconds,) = read_cost(job.cost).epoch_seconds
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT
    print(json.dumps({"epoch_seconds": seconds, "peak_bytes": peak}))


if __name__ == "__main__":
    main()
