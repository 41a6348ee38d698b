"""One `resblock run` as an MLflow run: the parent of the runs it caused, with links to those it could reuse."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from resblock.core.errors import UserError
from resblock.params import Params
from resblock.stages.sync import sync_dataset
from resblock.stages.terminal import warn
from resblock.stages.tracked import ABOUT
from resblock.tracking.result import Result
from resblock.tracking.runs import MLFLOW_PARENT_VARIABLE, PARENT_VARIABLE
from resblock.tracking.stage import StageRun, track
from resblock.tracking.sync import Outcome

STAGE = "study"
LINKS = "results.json"
LINKS_IN_NOTE = 30  # a note holds 8,000 characters


@dataclass(frozen=True)
class Invocation:
    """A command that brings a study up to date, and what the stages it starts are to know of it."""

    run: StageRun
    datasets: Sequence[str]

    @property
    def environment(self) -> dict[str, str]:
        """The variables that stages are started with: their parent's id, and not as the run to write into."""
        inherited = {name: value for name, value in os.environ.items() if name != MLFLOW_PARENT_VARIABLE}
        return inherited | ({PARENT_VARIABLE: self.run.run_id} if self.run.run_id else {})

    def conclude(self) -> None:
        """Show every result of the data sets in MLflow, restored ones too, and link them from the parent."""
        if self.run.run_id is None:  # the store failed, and that has been said
            return
        try:
            outcomes = [sync_dataset(dataset) for dataset in self.datasets]
        except UserError as error:
            warn(str(error))
            return
        shown = [(name, run_id, outcome) for outcome in outcomes for name, run_id in outcome.runs.items()]
        ran = [entry for entry in shown if self._caused(*entry)]
        reused = [entry for entry in shown if not self._caused(*entry)]
        links = {word: {name: run_id for name, run_id, _ in part} for word, part in (("ran", ran), ("reused", reused))}
        self.run.leave(f"{_sentence('ran', ran)}\n\n{_sentence('reused', reused)}", LINKS, links)

    def _caused(self, name: str, _: str, outcome: Outcome) -> bool:
        parent = self.run.run_id
        return parent is not None and outcome.parents.get(name) == parent


@contextmanager
def invocation(datasets: Sequence[str], params: Params) -> Generator[Invocation]:
    """Open the parent run of a command on `datasets`; under `mlflow run` the run that MLflow opened is the parent."""
    chosen = {
        "study": {**params.study.model_dump(), "datasets": list(datasets)},
        "data": {name: params.preparation(name).model_dump() for name in datasets},
        "train": {name: params.recipe(name).tree() for name in datasets},
    }
    tags = {"mlflow.source.name": f"resblock run {' '.join(datasets)}"}
    opening = Result(f"{STAGE}@{'-'.join(datasets)}", datasets[0], key=None, params=chosen, tags=tags)
    adopted = os.environ.get(MLFLOW_PARENT_VARIABLE)
    with track(opening, about=ABOUT.format(dataset=datasets[0]), warn=warn, adopted=adopted) as run:
        this = Invocation(run, datasets)
        try:
            yield this
        except UserError:  # a stage failed; the others' results are there to be linked
            this.conclude()
            raise
        this.conclude()


def _sentence(word: str, runs: Sequence[tuple[str, str, Outcome]]) -> str:
    """Return in Markdown how many results there are of a kind, with links to their runs."""
    links = [f"[{name}](#/experiments/{outcome.experiment_id}/runs/{run_id})" for name, run_id, outcome in runs]
    further = f" and {len(links) - LINKS_IN_NOTE} more, see {LINKS}" if len(links) > LINKS_IN_NOTE else ""
    return f"**{len(links)} {word}** {', '.join(links[:LINKS_IN_NOTE])}{further}".rstrip()
