"""How long it takes to show a cloned study in MLflow: ``python -m benchmarks.sync``.

Writes the files that git holds of a study of 100 trainings, 20 epochs each, into an empty folder, and measures
`resblock sync` there: the first call, which rebuilds every run, and a second, which finds nothing to do.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.commands import environment
from resblock import paths
from resblock.core.backends import load
from resblock.core.files import digest_tree, read_json, write_json
from resblock.core.recipe import Recipe
from resblock.core.seeds import generator
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.training.manifest import make_manifest
from resblock.core.training.run import MANIFEST, METRIC_NAMES, WEIGHTS, Cost, EpochRow, Run, write_cost, write_run
from resblock.data.table import find_dataset
from resblock.evaluation.assessment import PREDICTIONS, Assessment, write_assessment
from resblock.evaluation.score import METRICS, Score
from resblock.evaluation.statistics import STATISTICS_FILE
from resblock.params import Examination, Params, read_params
from resblock.stages import manifests

DATASET, EPOCHS, SEEDS = "digits", 20, range(10)
SPECS = [ModelSpec(family, depth) for family in ("plain", "residual") for depth in (8, 14, 20, 26, 32)]
LIMIT = 60.0  # seconds on two cores for these 100 trainings: what issue 4 asks for
SPLITS = ("train", "validation", "test")
DATA = digest_tree({split: split for split in SPLITS})


def write_study(trainings: Sequence[RunKey], params: Params, *, epochs: int = EPOCHS) -> None:
    """Write below the current folder what git holds of `trainings`, their data and their scores.

    The numbers are made up, the same at each call. Weights, predictions and pictures are absent, as in a clone.
    """
    write_preparation(trainings[0].dataset, params)
    for key in trainings:
        write_training(key, params.recipe(key.dataset), epochs=epochs)
        write_evaluation(key, params.recipe(key.dataset))


def write_preparation(dataset: str, params: Params) -> None:
    """Write the manifest of the splits."""
    prepared = manifests.of_preprocess(find_dataset(dataset), params.preparation(dataset))
    outcome = {
        "classes": [str(number) for number in range(10)],
        "image_shape": [8, 8, 1],
        "sizes": dict(zip(SPLITS, (1293, 144, 360), strict=True)),
        "digests": {split: digest_tree({"split": split}) for split in SPLITS},
        "data": DATA,
    }
    write_json(paths.manifest("preprocess", dataset), {**prepared, **outcome})


def write_training(key: RunKey, recipe: Recipe, *, epochs: int = EPOCHS) -> None:
    """Write one training's files but its weights."""
    load()  # a manifest names the backend and its device
    manifest = make_manifest(key, recipe, data_digest=DATA, threads=1)
    draws = generator(key.seed, key.spec.name).random((epochs, len(METRIC_NAMES)))
    curve = [
        EpochRow(epoch, *(float(draw) / epoch for draw in row)) for epoch, row in enumerate(draws.tolist(), start=1)
    ]
    write_run(paths.run(key), Run(manifest, "finished", curve, weights={}))
    (paths.run(key) / WEIGHTS).unlink()
    seconds = tuple(1.0 + draw for draw in draws[:, 0].tolist())
    cost = Cost("2026-01-02T03:04:05+00:00", seconds, 4321.0, 75002, 747136, "a machine", 1, manifest["versions"])
    write_cost(paths.cost(key), cost)


def write_evaluation(key: RunKey, recipe: Recipe) -> None:
    """Write what an evaluation leaves of the training of `key` that is here, but predictions and statistics."""
    draws = generator(key.seed, "test", key.spec.name).random(len(METRICS)).tolist()
    figures = dict(zip(METRICS, draws, strict=True))
    score = Score(key.spec.name, key.spec.family, key.spec.depth, key.seed, "finished", **figures)
    examination = Examination(corrupted_images=1, response_images=1, lesion_images=1, lesion_draws=1)
    manifest = manifests.of_evaluate(read_json(paths.run(key) / MANIFEST), recipe, examination, threads=1)
    write_assessment(paths.scores(key), Assessment(score), (), manifest)
    for name in (PREDICTIONS, STATISTICS_FILE):
        (paths.scores(key) / name).unlink()


def measure() -> tuple[float, float]:
    """Return the seconds that `resblock sync` takes to rebuild a study in an empty folder, and to find it whole."""
    params = read_params(paths.PARAMS)
    home = Path.cwd()
    with TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            write_study([RunKey(DATASET, spec, seed) for spec in SPECS for seed in SEEDS], params)
            first, second = _sync(), _sync()
        finally:
            os.chdir(home)
    return first, second


def main() -> None:
    """Print the measurement; exit with 1 where the first call takes longer than the limit."""
    first, second = measure()
    count = len(SPECS) * len(SEEDS)
    print(
        f"resblock sync, {count} trainings of {EPOCHS} epochs: {first:.1f} s to rebuild, {second:.1f} s to find whole"
    )
    if first > LIMIT:
        sys.exit(f"rebuilding took longer than {LIMIT:.0f} s")


def _sync() -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-m", "resblock", "sync"], env=environment(), check=True)
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
