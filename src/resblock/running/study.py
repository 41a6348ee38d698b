"""The study through DVC, independent trainings side by side.

DVC runs one stage at a time, but several DVC processes may run different stages of one project; each takes the lock
only to look and to write down its result. What a stage computes, a warm worker does. All end with this process.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from itertools import count, groupby
from queue import Queue
from threading import Lock
from typing import Self

from resblock import paths
from resblock.core.backends.machine import available_cores
from resblock.core.errors import UserError
from resblock.data.entries import require_written
from resblock.data.table import find_dataset
from resblock.params import Params, ParamsError, read_params
from resblock.running.dvc import Dvc
from resblock.running.warm import Worker
from resblock.stages.invocation import invocation


def bring_up_to_date(datasets: Sequence[str], jobs: int | None) -> None:
    """Run every stale stage of the study on `datasets` (all of the study's, if none is named).

    `jobs` trainings run at once; by default as many as the cores carry with the recipe's threads. Raises UserError
    where a stage failed; the others' results are kept.
    """
    params = read_params(paths.PARAMS)
    for dataset in datasets:
        find_dataset(dataset)
        if dataset not in params.study.datasets:
            raise ParamsError(f"{dataset}: not in study.datasets ({paths.PARAMS}); add it there first")
    chosen = list(datasets or params.study.datasets)
    for dataset in chosen:
        require_written(paths.PARAMS, dataset)
    with invocation(chosen, params) as caused, Dvc(caused.environment) as dvc, _Crew() as crew:
        for dataset in chosen:
            dvc.repro(f"preprocess@{dataset}")
            workers = jobs or _default_jobs(params, dataset)
            trainings = sorted(params.keys(dataset), key=lambda key: -key.spec.depth)  # the longest first
            # One after the other in one process, seeds share what is compiled.
            networks = groupby(trainings, lambda key: (key.recipe, key.spec))
            groups = [[(paths.stage(key), paths.evaluation(key)) for key in seeds] for _, seeds in networks]
            _side_by_side(dvc, crew, dataset, [[(f"probe@{dataset}",)], *groups], workers)
            dvc.repro(f"report@{dataset}")
    print()
    for dataset in chosen:
        print(f"the report on {dataset}: {(paths.report(dataset) / 'index.html').resolve()}")
    print("its runs in MLflow, compared: make ui")


class _Crew:
    """Warm workers: as many as are ever needed at once, kept until the block ends."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._workers: list[Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def take(self, count: int) -> Queue[Worker]:
        """Return `count` workers, started if they are not there yet."""
        while len(self._workers) < count:
            self._workers.append(self._stack.enter_context(Worker.start()))
        free: Queue[Worker] = Queue()
        for worker in self._workers[:count]:
            free.put(worker)
        return free


Unit = tuple[str, ...]  # stages of which each needs the one before: a training and its evaluation


def _side_by_side(dvc: Dvc, crew: _Crew, what: str, groups: Sequence[Sequence[Unit]], jobs: int) -> None:
    """Run the stages that DVC finds stale, groups side by side; they need nothing of one another."""
    stages = [stage for group in groups for unit in group for stage in unit]
    stale = set(dvc.stale(stages))
    # What follows from a stale stage may be stale by what that will give.
    waiting = [[unit[_first(unit, stale) :] for unit in group if stale & set(unit)] for group in groups]
    waiting = _shared_out([group for group in waiting if group], jobs)
    jobs = min(jobs, len(waiting))
    total = sum(len(unit) for group in waiting for unit in group)
    print(f"{what}: {total} of {len(stages)} stages to run, {jobs} at a time", flush=True)
    if not waiting:
        return
    failed: list[str] = []
    free, done, telling = crew.take(jobs), count(1), Lock()

    def run(group: Sequence[Unit]) -> None:
        worker = free.get()
        needed = {stage: unit[index - 1] for unit in group for index, stage in enumerate(unit) if index}

        def tell(stage: str, ended_well: bool, lines: list[str]) -> None:
            with telling:
                number = next(done)
                if needed.get(stage) in failed:
                    lines = [f"not run, since {needed[stage]} failed"]
                for line in lines[-1:] if ended_well else lines:
                    print(f"[{number}/{total}] {stage}  {line}", flush=True)
                if not ended_well:
                    failed.append(stage)

        try:
            dvc.repro_each(_in_turn(group), worker, tell)
        finally:
            free.put(worker)

    with ThreadPoolExecutor(jobs) as pool:
        running = [pool.submit(run, group) for group in waiting]
        try:
            for future in as_completed(running):
                future.result()
        except BaseException:
            dvc.end()  # else the pool would wait for what runs and waits
            raise
    if failed:
        raise UserError(f"{len(failed)} of {total} failed: {', '.join(failed)}; their messages stand above")


def _first(unit: Unit, stale: Collection[str]) -> int:
    """Return the place of the first stage of `unit` that is stale."""
    return next(index for index, stage in enumerate(unit) if stage in stale)


def _in_turn(group: Sequence[Unit]) -> list[str]:
    """Return all first stages of a group, then all second ones: all trainings share one graph, all evaluations another.

    Those units that lack earlier stages, which are not stale, have their last stages at the end.
    """
    longest = max(map(len, group))
    padded = [(*[""] * (longest - len(unit)), *unit) for unit in group]
    return [stage for turn in zip(*padded, strict=True) for stage in turn if stage]


def _shared_out(groups: Sequence[Sequence[Unit]], jobs: int) -> list[Sequence[Unit]]:
    """Return `groups`, the largest divided until there are as many as `jobs`, if there are units enough."""
    shared = list(groups)
    while shared and len(shared) < jobs and max(map(len, shared)) > 1:
        largest = max(range(len(shared)), key=lambda index: len(shared[index]))
        group = shared[largest]
        half = (len(group) + 1) // 2
        shared[largest : largest + 1] = [group[:half], group[half:]]
    return shared


def _default_jobs(params: Params, dataset: str) -> int:
    threads = params.recipe(dataset).threads
    return max(1, available_cores() // threads) if threads else 1
