"""Stage ``evaluate``: every training of the study on train, validation and test images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from resblock import paths
from resblock.core.files import write_json
from resblock.core.spec import RunKey
from resblock.core.splits import SPLIT_NAMES, DatasetDescription, Split, SplitName, read_description, read_verified
from resblock.core.training.run import is_there
from resblock.evaluation.assessment import Assessment
from resblock.evaluation.score import PREDICTIONS, Score
from resblock.evaluation.specimens import Specimens, choose
from resblock.params import read_params
from resblock.stages import manifests
from resblock.stages.models import register
from resblock.stages.results import result_of, trained
from resblock.stages.terminal import say, warn
from resblock.stages.tracked import tracked
from resblock.startup import start_keras
from resblock.study.results import gather, write_results
from resblock.tracking.stage import StageRun


def run(dataset_name: str) -> None:
    """Score every network and seed that params.yaml names; what is not trained yet stays a row without figures."""
    params = read_params(paths.PARAMS)
    study, folder = params.study, paths.scores(dataset_name)
    place = paths.splits(dataset_name)
    dataset = read_description(place)
    splits: dict[SplitName, Split] = {name: read_verified(place, dataset, name) for name in SPLIT_NAMES}
    examination = params.examination(dataset_name)
    specimens = choose(splits["test"], examination)
    threads = start_keras(params.recipe(dataset_name).threads)
    manifest = manifests.of_evaluate(dataset_name, study, examination, data_digest=dataset.digest, threads=threads)
    with tracked(manifest) as tracker:
        assessed = _assess(study.keys(dataset_name), splits, dataset, specimens)
        results = gather(dataset_name, assessed, splits, len(dataset.classes))
        write_results(folder, results, dataset.classes)
        write_json(paths.manifest("evaluate", dataset_name), manifest)
        tracker.complete(lambda: result_of(manifest))
        show(study.keys(dataset_name), results.scores, tracker)
        register(tracker, dataset_name)


def _assess(
    keys: Sequence[RunKey], splits: Mapping[SplitName, Split], dataset: DatasetDescription, specimens: Specimens
) -> list[Assessment]:
    """Look at one training after the other and keep their predictions."""
    from resblock.evaluation.evaluate import Opener, assess, write_predictions  # Keras, quiet by now

    opener = Opener(dataset)
    assessed: list[Assessment] = []
    for key in keys:
        assessment = assess(key, splits, opener, specimens)
        if assessment.logits:
            target = paths.scores(key.dataset) / PREDICTIONS / key.spec.name
            write_predictions(target / f"seed-{key.seed}.npz", assessment.logits)
        tell(key, assessment.score)
        assessed.append(assessment)
    return assessed


def tell(key: RunKey, score: Score) -> None:
    """Print the test accuracy of a training that finished, by both kinds of statistics."""
    if score.status == "finished":
        say(f"{key}: test accuracy {score.test_accuracy:.4f} ({score.test_accuracy_reestimated:.4f} re-estimated)")


def show(keys: Sequence[RunKey], scores: Sequence[Score], tracker: StageRun) -> None:
    """Give the runs of trainings their test figures, and say how many trainings are not there."""
    for key in keys:
        if is_there(paths.run(key)):
            tracker.show(partial(trained, key))
    if missing := sum(score.status == "missing" for score in scores):
        warn(f"{missing} of {len(scores)} trainings are not there; their rows say so")
