"""One epoch of a real training, validation and checkpoint included: ``python -m benchmarks.training NETWORK``.

Prints, as JSON, the seconds of the epoch and the process' peak resident memory.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.peers.protocol import RSS_UNIT
from resblock import paths
from resblock.data.splits import read_description, read_split
from resblock.params import read_params
from resblock.spec import ModelSpec, RunKey
from resblock.training.backend import prepare_backend
from resblock.training.checkpoint import Checkpoint

DATASET = "cifar10"


def main() -> None:
    """Train on all of CIFAR-10's training images, once."""
    recipe = read_params(paths.PARAMS).recipe(DATASET).model_copy(update={"epochs": 1})
    dataset = read_description(paths.splits(DATASET))
    train, validation = (read_split(paths.splits(DATASET), name) for name in ("train", "validation"))
    threads = prepare_backend(recipe.threads)
    from resblock.training.fit import fit  # Keras, now quiet

    with TemporaryDirectory() as folder:
        _, cost = fit(
            RunKey(DATASET, ModelSpec.parse(sys.argv[1]), 0),
            train,
            validation,
            classes=len(dataset.classes),
            recipe=recipe,
            manifest={},
            checkpoint=Checkpoint(Path(folder), "benchmark"),
            threads=threads,
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT
    print(json.dumps({"epoch_seconds": cost.epoch_seconds[0], "peak_bytes": peak}))


if __name__ == "__main__":
    main()
