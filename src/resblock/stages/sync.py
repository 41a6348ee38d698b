"""MLflow brought to what the files here say."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from resblock import paths
from resblock.core.errors import UserError
from resblock.damage import damage
from resblock.params import ParamsError, read_params
from resblock.report.links import write_links
from resblock.stages.models import sync_models
from resblock.stages.results import datasets_with_results, results_of
from resblock.stages.terminal import say, warn
from resblock.stages.tracked import ABOUT
from resblock.tracking.links import live_runs
from resblock.tracking.result import STUDY_TAG, Result
from resblock.tracking.store import open_store, required_store
from resblock.tracking.sync import Outcome, synchronize


def run(datasets: Sequence[str], *, check: bool = False) -> bool:
    """Show every result on `datasets` (all that have any, if none is named); return whether all were shown before.

    Raises UserError where there is nothing to show, or the store cannot be read or written.
    """
    there = datasets_with_results()
    if missing := [dataset for dataset in datasets if dataset not in there]:
        known = f"there are results on {', '.join(there)}" if there else "there are none at all"
        raise UserError(f"no results on {', '.join(missing)} here; {known}. `resblock run` makes them")
    if not there:
        raise UserError("no results here; `resblock run digits` makes some, and `git pull` brings those of others")
    outcomes = [sync_dataset(dataset, check=check) for dataset in datasets or there]
    return not any(outcome.changes for outcome in outcomes)


def sync_dataset(dataset: str, *, check: bool = False) -> Outcome:
    """Show the results on one data set, and say what that took."""
    results: list[Result] = []
    named = names_of_the_study(dataset)
    for path, result in results_of(dataset):
        if isinstance(result, Result):
            results.append(_told_apart(result, named))
        else:
            reason = damage(result) or f"{path}: damaged, or another version's ({type(result).__name__}: {result})"
            warn(f"left out: {reason}")
    outcome = synchronize(dataset, ABOUT.format(dataset=dataset), results, check=check)
    missing = sync_models(dataset, results, outcome, check=check)
    report = paths.report(dataset)
    if report.is_dir() and not check:
        with required_store(check=check):
            write_links(report, dataset, *live_runs(open_store(), outcome.experiment_id))
    if check:
        for change in outcome.changes:
            say(f"{dataset}: {change}")
    say(f"{dataset}: {_summary(outcome, check=check)}")
    if missing:
        say(f"{dataset}: {missing} trainings without a model in MLflow, since files of theirs are not here")
    return outcome


def names_of_the_study(dataset: str) -> Collection[str] | None:
    """Return the trainings on `dataset` that params.yaml names, as DVC calls them; None where it cannot be read."""
    try:
        return {paths.stage(key) for key in read_params(paths.PARAMS).keys(dataset)}
    except ParamsError:  # whoever runs a stage is told
        return None


def _told_apart(result: Result, named: Collection[str] | None) -> Result:
    """Return `result` with the word whether the study names it: results of removed networks stay, and are not shown."""
    if not result.is_training or named is None:
        return result
    return replace(result, tags={**result.tags, STUDY_TAG: "true" if result.name in named else "false"})


def _summary(outcome: Outcome, *, check: bool) -> str:
    results = f"{outcome.results} result{'s' if outcome.results != 1 else ''}"
    if outcome.being_written:
        results += f" ({len(outcome.being_written)} being logged right now)"
    if not outcome.changes:
        return f"{results}, MLflow shows them all; nothing {'differs' if check else 'changed'}"
    count = f"{len(outcome.changes)} difference{'s' if len(outcome.changes) > 1 else ''}"
    return f"{results}, {count} {'from MLflow; resblock sync mends that' if check else 'mended in MLflow'}"
