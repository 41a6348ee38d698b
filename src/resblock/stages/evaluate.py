"""Stages ``evaluate`` and ``evaluate_ablation``: one training on all three splits, and closer looks."""

from __future__ import annotations

from functools import partial

from resblock import paths
from resblock.core.spec import RunKey
from resblock.core.splits import read_description
from resblock.core.training.run import is_there, read_run
from resblock.evaluation.assessment import write_assessment
from resblock.evaluation.score import Score
from resblock.params import read_params
from resblock.stages import manifests
from resblock.stages.asked import asked, refuse_what_no_study_has, training_of
from resblock.stages.models import log_network
from resblock.stages.results import result_of, trained
from resblock.stages.terminal import say
from resblock.stages.tracked import tracked
from resblock.stages.workplace import Workplace
from resblock.startup import start_keras


def run(key: RunKey, workplace: Workplace | None = None) -> None:
    """Look at the training of `key`, in a `workplace` where others may have been looked at.

    Raises UserError where it is missing, or not the one that params.yaml asks for: what was trained on other images may
    have seen the test images.
    """
    params = read_params(paths.PARAMS)
    if not is_there(paths.run(key)):
        refuse_what_no_study_has(params, key)
    examination, wanted = params.examination(key.dataset), asked(params, key)
    dataset = read_description(paths.splits(key.dataset))
    training = training_of(wanted)
    threads = start_keras(wanted.recipe.threads)
    manifest = manifests.of_evaluate(training, wanted.recipe, examination, threads=threads)
    with tracked(manifest) as tracker:
        examiner = (workplace or Workplace()).examiner(paths.splits(key.dataset), dataset, examination)
        assessment = examiner.look(read_run(paths.run(key)))
        write_assessment(paths.scores(key), assessment, dataset.classes, manifest)
        say(_line(key, assessment.score))
        tracker.complete(lambda: result_of(manifest))
        log_network(tracker, key, tracker.show(partial(trained, key)))


def _line(key: RunKey, score: Score) -> str:
    if score.status != "finished":
        return f"{key}: {score.status}, so there is nothing to look at"
    return (
        f"{key}: test accuracy {score.test_accuracy_reestimated:.4f}, statistics re-estimated; "
        f"{score.test_accuracy:.4f} as trained"
    )
