"""Stage ``evaluate``: every run of the study on train, validation and test images."""

from __future__ import annotations

from collections.abc import Mapping

from resblock import paths
from resblock.data.splits import SPLIT_NAMES, DatasetDescription, Split, SplitName, read_description, read_split
from resblock.evaluation.score import PREDICTIONS, Confusion, Score, empty_score, write_confusions, write_scores
from resblock.files import write_json
from resblock.params import read_params
from resblock.spec import RunKey
from resblock.stages import manifests
from resblock.stages.models import register
from resblock.stages.results import result_of, trained
from resblock.stages.terminal import say, warn
from resblock.stages.tracked import tracked
from resblock.training.backend import prepare_backend
from resblock.training.run import MANIFEST, read_run


def run(dataset_name: str) -> None:
    """Score every network and seed that params.yaml names; what is not trained yet stays a row without figures."""
    params = read_params(paths.PARAMS)
    study, folder = params.study, paths.evaluation(dataset_name)
    dataset = read_description(paths.splits(dataset_name))
    splits: dict[SplitName, Split] = {name: read_split(paths.splits(dataset_name), name) for name in SPLIT_NAMES}
    threads = prepare_backend(params.recipe(dataset_name).threads)
    manifest = manifests.of_evaluate(dataset_name, study, data_digest=dataset.digest, threads=threads)
    with tracked(manifest) as tracker:
        scored = [_score(key, splits, dataset) for key in study.keys(dataset_name)]
        scores = [score for score, _ in scored]
        write_scores(folder, scores)
        write_confusions(folder, [confusion for _, confusion in scored if confusion], dataset.classes)
        write_json(paths.manifest("evaluate", dataset_name), manifest)
        tracker.complete(result_of(manifest))
        for key in study.keys(dataset_name):  # their runs get their test figures
            if (paths.run(key) / MANIFEST).is_file():
                tracker.show(trained(key))
        register(tracker, dataset_name)
    if missing := sum(score.status == "missing" for score in scores):
        warn(f"{missing} of {len(scores)} trainings are not there; their rows say so")


def _score(
    key: RunKey, splits: Mapping[SplitName, Split], dataset: DatasetDescription
) -> tuple[Score, Confusion | None]:
    """Score one training and keep its predictions."""
    from resblock.evaluation.evaluate import confusion, evaluate, write_predictions  # Keras, quiet by now

    if not (paths.run(key) / MANIFEST).is_file():
        return empty_score(key.spec, key.seed, "missing"), None
    result = read_run(paths.run(key))
    if result.status != "finished":
        return empty_score(key.spec, key.seed, result.status), None
    score, logits = evaluate(result, splits, dataset)
    write_predictions(paths.evaluation(key.dataset) / PREDICTIONS / key.spec.name / f"seed-{key.seed}.npz", logits)
    say(f"{key}: test accuracy {score.test_accuracy:.4f} ({score.test_accuracy_reestimated:.4f} re-estimated)")
    return score, confusion(score, logits, splits["test"], len(dataset.classes))
