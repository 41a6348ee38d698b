"""Stage ``evaluate_recipe``: every training by one recipe of the ablation, on train, validation and test images."""

from __future__ import annotations

from collections.abc import Sequence

from resblock import paths
from resblock.core.files import write_json
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.splits import SPLIT_NAMES, Split, SplitName, read_description, read_verified
from resblock.core.training.run import MANIFEST, EpochRow, is_there, read_curve
from resblock.evaluation.score import Score
from resblock.params import read_params
from resblock.stages import manifests
from resblock.stages.evaluate import show, tell
from resblock.stages.results import result_of
from resblock.stages.tracked import tracked
from resblock.startup import start_keras
from resblock.study.effects import write_ablation


def run(dataset_name: str, recipe_name: str) -> None:
    """Score every training by a recipe that differs from the data set's own, and gather what a report needs of it."""
    params = read_params(paths.PARAMS)
    keys, recipe = params.ablation_keys(dataset_name, recipe_name), params.recipe(dataset_name, recipe_name)
    folder = paths.scores(dataset_name, recipe_name)
    place = paths.splits(dataset_name)
    dataset = read_description(place)
    splits: dict[SplitName, Split] = {name: read_verified(place, dataset, name) for name in SPLIT_NAMES}
    threads = start_keras(recipe.threads)
    from resblock.evaluation.evaluate import Opener, assess  # Keras, now quiet

    manifest = manifests.of_evaluate_recipe(keys, data_digest=dataset.digest, threads=threads)
    with tracked(manifest) as tracker:
        scores: list[Score] = []
        opener = Opener(dataset)
        for key in keys:
            scores.append(assess(key, splits, opener).score)
            tell(key, scores[-1])
        write_ablation(folder, recipe.tree(), scores, _read_curves(keys))
        write_json(folder / MANIFEST, manifest)
        tracker.complete(lambda: result_of(manifest))
        show(keys, scores, tracker)


def _read_curves(keys: Sequence[RunKey]) -> dict[ModelSpec, dict[int, list[EpochRow]]]:
    """Read the curves of the trainings that are there."""
    curves: dict[ModelSpec, dict[int, list[EpochRow]]] = {}
    for key in keys:
        if is_there(paths.run(key)):
            curves.setdefault(key.spec, {})[key.seed] = read_curve(paths.run(key))
    return curves
