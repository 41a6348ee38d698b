"""Stage ``evaluate``: every run of the study on train, validation and test images."""

from __future__ import annotations

from resblock import paths
from resblock.data.splits import SPLIT_NAMES, Split, SplitName, read_description, read_split
from resblock.evaluation.score import PREDICTIONS, SCORES, Confusion, Score, empty_score, write_confusions, write_scores
from resblock.params import read_params
from resblock.spec import RunKey
from resblock.stages.terminal import say, warn
from resblock.stages.tracked import tracked
from resblock.training.backend import prepare_backend
from resblock.training.run import MANIFEST, read_run


def run(dataset_name: str) -> None:
    """Score every network and seed that params.yaml names; what is not trained yet stays a row without figures."""
    params = read_params(paths.PARAMS)
    study = params.study
    dataset, folder = read_description(paths.splits(dataset_name)), paths.evaluation(dataset_name)
    splits: dict[SplitName, Split] = {name: read_split(paths.splits(dataset_name), name) for name in SPLIT_NAMES}
    prepare_backend(params.recipe(dataset_name).threads)
    from resblock.evaluation.evaluate import confusion, evaluate, write_predictions  # Keras, now quiet

    scores: list[Score] = []
    confusions: list[Confusion] = []
    with tracked(
        "evaluate", dataset_name, study.model_dump(include={"variants", "seeds"}), data_digest=dataset.digest
    ) as tracker:
        for spec in study.specs:
            for seed in study.seeds:
                key = RunKey(dataset_name, spec, seed)
                if not (paths.run(key) / MANIFEST).is_file():
                    scores.append(empty_score(spec, seed, "missing"))
                    continue
                trained = read_run(paths.run(key))
                if trained.status != "finished":
                    scores.append(empty_score(spec, seed, trained.status))
                    continue
                score, logits = evaluate(trained, splits, dataset)
                scores.append(score)
                confusions.append(confusion(score, logits, splits["test"], len(dataset.classes)))
                write_predictions(folder / PREDICTIONS / spec.name / f"seed-{seed}.npz", logits)
                fresh = score.test_accuracy_reestimated
                say(f"{key}: test accuracy {score.test_accuracy:.4f} ({fresh:.4f} re-estimated)")
                test = {name: value for name, value in score.metrics.items() if name.startswith("test")}
                tracker.result_metrics(dataset_name, trained.manifest["key"], test)
        write_scores(folder, scores)
        write_confusions(folder, confusions, dataset.classes)
        tracker.artifact(folder / SCORES)
    if missing := sum(score.status == "missing" for score in scores):
        warn(f"{missing} of {len(scores)} trainings are not there; their rows say so")
