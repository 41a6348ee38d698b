"""Stage ``evaluate``: every run of the study on train, validation and test images."""

from __future__ import annotations

from collections.abc import Mapping

from resblock import paths
from resblock.data.splits import SPLIT_NAMES, DatasetDescription, Split, SplitName, read_description, read_split
from resblock.evaluation.corruption import Corrupted, corrupt
from resblock.evaluation.results import Assessment, gather, write_results
from resblock.evaluation.score import PREDICTIONS, SCORES, empty_score
from resblock.params import read_params
from resblock.spec import RunKey
from resblock.stages.terminal import say, warn
from resblock.stages.tracked import tracked
from resblock.tracking.stage import StageRun
from resblock.training.backend import prepare_backend
from resblock.training.run import MANIFEST, read_run


def run(dataset_name: str) -> None:
    """Score every network and seed that params.yaml names; what is not trained yet stays a row without figures."""
    params = read_params(paths.PARAMS)
    study, folder = params.study, paths.evaluation(dataset_name)
    dataset = read_description(paths.splits(dataset_name))
    splits: dict[SplitName, Split] = {name: read_split(paths.splits(dataset_name), name) for name in SPLIT_NAMES}
    corrupted = corrupt(splits["test"])
    prepare_backend(params.recipe(dataset_name).threads)
    chosen = study.model_dump(include={"variants", "seeds"})
    with tracked("evaluate", dataset_name, chosen, data_digest=dataset.digest) as tracker:
        assessed = [_assess(key, splits, dataset, corrupted, tracker) for key in study.keys(dataset_name)]
        results = gather(dataset_name, assessed, splits, len(dataset.classes))
        write_results(folder, results, dataset.classes)
        tracker.artifact(folder / SCORES)
    if missing := sum(score.status == "missing" for score in results.scores):
        warn(f"{missing} of {len(results.scores)} trainings are not there; their rows say so")


def _assess(
    key: RunKey,
    splits: Mapping[SplitName, Split],
    dataset: DatasetDescription,
    corrupted: Corrupted,
    tracker: StageRun,
) -> Assessment:
    """Look at one training, keep its predictions, and log its test figures onto its own MLflow run."""
    from resblock.evaluation.evaluate import evaluate, write_predictions  # Keras, quiet by now

    if not (paths.run(key) / MANIFEST).is_file():
        return Assessment(empty_score(key.spec, key.seed, "missing"), {})
    trained = read_run(paths.run(key))
    if trained.status != "finished":
        return Assessment(empty_score(key.spec, key.seed, trained.status), {})
    assessment = evaluate(trained, splits, dataset, corrupted)
    score, target = assessment.score, paths.evaluation(key.dataset) / PREDICTIONS / key.spec.name
    write_predictions(target / f"seed-{key.seed}.npz", assessment.logits)
    say(f"{key}: test accuracy {score.test_accuracy:.4f} ({score.test_accuracy_reestimated:.4f} re-estimated)")
    test = {name: value for name, value in score.metrics.items() if name.startswith("test")}
    tracker.result_metrics(key.dataset, trained.manifest["key"], test)
    return assessment
