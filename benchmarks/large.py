"""Steps of a training whose images are more than memory should hold: ``python -m benchmarks.large NETWORK FOLDER``.

Prints, as JSON, the process' peak resident memory.
"""

from __future__ import annotations

import json
import resource
import shutil
import sys
from pathlib import Path

import click
import numpy as np
from numpy.lib.format import open_memmap

from benchmarks.peers.protocol import RSS_UNIT
from resblock import paths
from resblock.core.seeds import generator
from resblock.core.spec import ModelSpec
from resblock.core.splits import array_path, read_split
from resblock.core.training.inference import accuracy
from resblock.params import read_params
from resblock.startup import start_keras

DATASET = "cifar10"  # whose recipe it takes
IMAGES, SHAPE, CLASSES = 100_000, (64, 64, 3), 10
WRITTEN_AT_ONCE = 5_000  # images; bounds memory
STEPS = 60  # each on images from all over the file
LOOKED_AT = 2_000  # images, afterwards


def write_images(folder: Path, images: int = IMAGES) -> None:
    """Make up a training split in `folder`. Raises ClickException where the disk has no room for it."""
    needed, free = images * int(np.prod(SHAPE)), shutil.disk_usage(folder).free
    if free < 2 * needed:
        raise click.ClickException(f"{folder}: {free / 1e9:.1f} GB free, made-up images want {2 * needed / 1e9:.1f} GB")
    path = array_path(folder, "train", "images")
    open_memmap(path, mode="w+", dtype=np.uint8, shape=(images, *SHAPE))
    draws = generator(0, "made-up images")
    for start in range(0, images, WRITTEN_AT_ONCE):
        # Mapped anew each time: what one mapping has touched stays in this process' memory.
        chunk = open_memmap(path, mode="r+")[start : start + WRITTEN_AT_ONCE]
        chunk[:] = draws.integers(0, 256, chunk.shape, np.uint8)
    np.save(array_path(folder, "train", "labels"), draws.integers(0, CLASSES, images, np.int32))


def main() -> None:
    """Train the network in the first argument on the images in the second, and look at some of them."""
    recipe = read_params(paths.PARAMS).recipe(DATASET)
    train = read_split(Path(sys.argv[2]), "train")
    start_keras(recipe.threads)
    from resblock.core.training.trainer import Trainer  # Keras, now quiet

    trainer = Trainer(ModelSpec.parse(sys.argv[1]), train, classes=CLASSES, recipe=recipe, seed=0)
    order = generator(0, "order", 1).permutation(trainer.images).astype(np.int32)
    trainer.steps.train(np.split(order[: STEPS * recipe.batch_size], STEPS), lambda _: None)
    sample = train.take(np.sort(order[:LOOKED_AT]))
    accuracy(trainer.inference.logits(sample.images), sample.labels)
    print(json.dumps({"peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT}))


if __name__ == "__main__":
    main()
