"""MLflow brought to what the files say: exactly one live run for each result, whoever made it and wherever."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Run

from resblock.tracking.models import rename_models
from resblock.tracking.reconcile import Lack, add_artifacts, add_figures, find_lack, milliseconds
from resblock.tracking.result import KEY_TAG, NAME_TAG, PARENT_TAG, SUPERSEDED_TAG, Result
from resblock.tracking.runs import create_run, end_killed, is_being_written, is_of_here
from resblock.tracking.store import (
    all_runs,
    database_file,
    ensure_experiment,
    find_experiment,
    open_store,
    required_store,
)


@dataclass
class Outcome:
    """What was, or with a mere check would be, changed for one data set."""

    results: int
    experiment_id: str = ""
    changes: list[str] = field(default_factory=list[str])
    being_written: list[str] = field(default_factory=list[str])  # results whose stage logs them right now
    runs: dict[str, str] = field(default_factory=dict[str, str])  # result to the id of its live run
    parents: dict[str, str] = field(default_factory=dict[str, str])  # result to the id of its run's parent


def synchronize(dataset: str, about: str, results: Sequence[Result], *, check: bool = False) -> Outcome:
    """Give each of `results` exactly one live run in the experiment of `dataset`, and end runs whose process is gone.

    Older and doubled runs of a result's stage are kept and tagged as superseded; deleted ones do not count; those that
    a living process writes, or an experiment of DVC's made, are left alone. With `check` nothing is changed, only said.
    Raises UserError where the store cannot be read or written.
    """
    outcome = Outcome(len(results))
    file = database_file()
    if check and file and not file.exists():  # a look must not make a store
        outcome.changes = [f"{result.name}: not in MLflow" for result in results]
        return outcome
    with required_store(check=check), nullcontext() if check else _one_at_a_time():
        client = open_store()
        experiment = find_experiment(client, dataset) if check else ensure_experiment(client, dataset, about)
        experiment_id = str(experiment.experiment_id) if experiment else ""
        runs = all_runs(client, experiment_id) if experiment else []
        outcome.experiment_id = experiment_id
        work = _Synchronization(client, experiment_id, runs, outcome, check)
        for result in results:
            work.show(result)
        work.end_the_dead()
    return outcome


@contextmanager
def _one_at_a_time() -> Generator[None]:
    """Keep two syncs of one SQLite store apart: both would make the runs that are missing."""
    file = database_file()
    if file is None:
        yield
        return
    with FileLock(f"{file}.sync.lock"):
        yield


@dataclass
class _Synchronization:
    client: MlflowClient
    experiment_id: str
    runs: list[Run]  # all, the newest first
    outcome: Outcome
    check: bool

    def show(self, result: Result) -> None:
        """Choose or make the live run of `result`, complete it, and supersede the others of its stage."""
        of_stage = [run for run in self.runs if run.data.tags.get(NAME_TAG) == result.name]
        of_result = [run for run in of_stage if run.data.tags.get(KEY_TAG) in (result.key, *result.formerly)]
        if any(is_being_written(run) for run in of_result):
            self.outcome.being_written.append(result.name)
            return
        chosen, lack = self._choose(result, of_result)
        if chosen is None:
            self._change(f"{result.name}: {lack.conflict or 'not in MLflow'}", lambda: self._rebuild(result))
        else:
            self._remember(result, chosen)
            if lack.words:
                self._change(f"{result.name}: its run {lack.words}", lambda: self._complete(chosen, result, lack))
        for run in of_stage:
            if run is chosen or not is_of_here(run) or is_being_written(run):
                continue
            if run.data.tags.get(SUPERSEDED_TAG) != "true":
                what = "a second run of this result" if run in of_result else "a run of an older result"
                self._change(f"{result.name}: {what} counts as live", lambda run=run: self._supersede(run))

    def end_the_dead(self) -> None:
        """End every run that says RUNNING for a process that is gone and that left no result to show."""
        shown = set(self.outcome.runs.values())
        for run in self.runs:
            if run.info.status == "RUNNING" and run.info.run_id not in shown and not is_being_written(run):
                self._change(
                    f"{run.info.run_name}: is RUNNING, its process is gone",
                    lambda run=run: end_killed(self.client, run),
                )

    def _choose(self, result: Result, candidates: Sequence[Run]) -> tuple[Run | None, Lack]:
        """Return the run that can show `result` and what it lacks; the first of `_reluctance` is preferred."""
        conflict = ""
        for run in sorted(candidates, key=_reluctance):
            lack = find_lack(self.client, run, result)
            if not lack.conflict:
                return run, lack
            conflict = conflict or f"its run says otherwise ({lack.conflict})"
        return None, Lack(conflict=conflict)

    def _rebuild(self, result: Result) -> None:
        run = create_run(self.client, self.experiment_id, result, live=False)
        self._complete(run, result, find_lack(self.client, run, result))
        self._remember(result, run)

    def _complete(self, run: Run, result: Result, lack: Lack) -> None:
        if result.key and run.data.tags.get(KEY_TAG) in result.formerly:
            rename_models(self.client, self.experiment_id, run.info.run_id, result.key)
        add_figures(self.client, run.info.run_id, lack)
        if lack.unfinished:
            self.client.set_terminated(run.info.run_id, "FINISHED", end_time=milliseconds(result.ended))
        add_artifacts(self.client, run, lack)

    def _supersede(self, run: Run) -> None:
        self.client.set_tag(run.info.run_id, SUPERSEDED_TAG, "true")

    def _remember(self, result: Result, run: Run) -> None:
        self.outcome.runs[result.name] = str(run.info.run_id)
        if parent := run.data.tags.get(PARENT_TAG):
            self.outcome.parents[result.name] = parent

    def _change(self, words: str, do: Callable[[], None]) -> None:
        self.outcome.changes.append(words)
        if not self.check:
            do()


def _reluctance(run: Run) -> tuple[bool, bool, bool]:
    """Order runs of one result: of no other experiment of DVC's, live, finished."""
    return not is_of_here(run), run.data.tags.get(SUPERSEDED_TAG) == "true", run.info.status != "FINISHED"
