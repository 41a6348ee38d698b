"""Stage ``evaluate``: every run of the study on train, validation and test images."""

from __future__ import annotations

from collections.abc import Mapping

from resblock import paths
from resblock.data.splits import SPLIT_NAMES, DatasetDescription, Split, SplitName, read_description, read_split
from resblock.evaluation.champion import champion
from resblock.evaluation.score import PREDICTIONS, SCORES, Confusion, Score, empty_score, write_confusions, write_scores
from resblock.evaluation.study import Study
from resblock.params import read_params
from resblock.spec import RunKey
from resblock.stages.models import register
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
    prepare_backend(params.recipe(dataset_name).threads)
    chosen = study.model_dump(include={"variants", "seeds"})
    with tracked("evaluate", dataset_name, chosen, data_digest=dataset.digest) as tracker:
        scored = [_score(key, splits, dataset, tracker) for key in study.keys(dataset_name)]
        scores = [score for score, _ in scored]
        write_scores(folder, scores)
        write_confusions(folder, [confusion for _, confusion in scored if confusion], dataset.classes)
        tracker.artifact(folder / SCORES)
        if best := champion(Study(dataset_name, tuple(scores))):
            say(f"champion on {dataset_name}: {best.reason}")
            register(tracker, best)
    if missing := sum(score.status == "missing" for score in scores):
        warn(f"{missing} of {len(scores)} trainings are not there; their rows say so")


def _score(
    key: RunKey, splits: Mapping[SplitName, Split], dataset: DatasetDescription, tracker: StageRun
) -> tuple[Score, Confusion | None]:
    """Score one training, keep its predictions, and log its test figures onto its own MLflow run."""
    from resblock.evaluation.evaluate import confusion, evaluate, write_predictions  # Keras, quiet by now

    if not (paths.run(key) / MANIFEST).is_file():
        return empty_score(key.spec, key.seed, "missing"), None
    trained = read_run(paths.run(key))
    if trained.status != "finished":
        return empty_score(key.spec, key.seed, trained.status), None
    score, logits = evaluate(trained, splits, dataset)
    write_predictions(paths.evaluation(key.dataset) / PREDICTIONS / key.spec.name / f"seed-{key.seed}.npz", logits)
    say(f"{key}: test accuracy {score.test_accuracy:.4f} ({score.test_accuracy_reestimated:.4f} re-estimated)")
    test = {name: value for name, value in score.metrics.items() if name.startswith("test")}
    tracker.result_metrics(key.dataset, trained.manifest["key"], test)
    return score, confusion(score, logits, splits["test"], len(dataset.classes))
