"""The study through DVC, independent trainings side by side.

DVC runs one stage at a time, but several DVC processes may run different stages of one project; each takes the lock
only to look and to write down its result. What a stage computes, a warm worker does. All end with this process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, suppress
from itertools import count, groupby
from pathlib import Path
from queue import Queue
from threading import Lock
from typing import Self

from resblock import paths
from resblock.core.backends.machine import available_cores
from resblock.core.errors import UserError
from resblock.data.table import find_dataset
from resblock.params import Params, ParamsError, read_params
from resblock.running.warm import Worker
from resblock.stages.invocation import invocation

PATIENCE = 60  # seconds for a stage to end: its MLflow server may not answer


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
    with invocation(chosen, params) as caused, _Dvc(caused.environment) as dvc, _Crew() as crew:
        for dataset in chosen:
            dvc.repro(f"preprocess@{dataset}")
            workers = jobs or _default_jobs(params, dataset)
            trainings = sorted(params.keys(dataset), key=lambda key: -key.spec.depth)  # the longest first
            groups = [[f"probe@{dataset}"]]
            # One after the other in one process, seeds share what is compiled.
            groups += [
                [*map(paths.stage, seeds)] for _, seeds in groupby(trainings, lambda key: (key.recipe, key.spec))
            ]
            _side_by_side(dvc, crew, f"{dataset}, probes and trainings", groups, workers)
            scorings = [[f"evaluate_recipe@{recipe}"] for recipe in params.ablation.recipes_on(dataset)]
            _side_by_side(dvc, crew, f"{dataset}, evaluations", [[f"evaluate@{dataset}"], *scorings], workers)
            dvc.repro(f"report@{dataset}")
    print()
    for dataset in chosen:
        print(f"the report on {dataset}: {(paths.report(dataset) / 'index.html').resolve()}")
    print("its runs in MLflow, compared: make ui")


class _Dvc:
    """DVC's processes in one environment, started in any thread; a block that fails ends all that they started."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._running: set[subprocess.Popen[str]] = set()
        self._closed = False
        self._change = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        if failure:
            self.end()

    def repro(self, target: str) -> None:
        """Bring one target up to date; its stages' words are shown as they come."""
        if self._call("repro", "--quiet", target).returncode:
            raise UserError(f"dvc repro {target} failed; its message stands above")

    def repro_alone(self, stage: str, worker: Worker) -> tuple[bool, list[str]]:
        """Run one stage whose dependencies are there, by `worker`; return whether it ended well, and what it said."""
        command = ("--wait-for-lock", "repro", "--quiet", "--single-item", stage)
        ended = self._call(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, variables=worker.environment)
        silent = f"ended with exit code {ended.returncode} and without a word"
        return ended.returncode == 0, ended.stdout.strip().splitlines() or [silent]

    def stale(self, stages: Sequence[str]) -> list[str]:
        """Return which of `stages` DVC would run. It tells all of the project's sooner than it finds some by name."""
        status = self._call("status", "--json", stdout=subprocess.PIPE)
        if status.returncode:
            raise UserError("dvc status failed; its message stands above")
        changed = json.loads(status.stdout or "{}")
        return [stage for stage in stages if stage in changed]

    def end(self) -> None:
        """Start no more, and end what runs as Ctrl-C would: DVC waits for its stage and gives back its locks."""
        with self._change:
            self._closed = True
            running = set(self._running)
        for process in running:
            _signal(process, signal.SIGINT)
        for process in running:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                _signal(process, signal.SIGKILL)

    def _call(
        self,
        *arguments: str,
        stdout: int | None = None,
        stderr: int | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run DVC so that the stages' `resblock` is this interpreter's, activated environment or not."""
        here = str(Path(sys.executable).parent)
        with self._change:
            if self._closed:
                return subprocess.CompletedProcess(arguments, returncode=1, stdout="")
            process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "dvc", *arguments],
                env={
                    **self._environment,
                    "PATH": os.pathsep.join((here, self._environment["PATH"])),
                    **(variables or {}),
                },
                text=True,
                stdout=stdout,
                stderr=stderr,
                process_group=0,  # a Ctrl-C reaches it, its stage and no other once: from `end`
            )
            self._running.add(process)
        said, _ = process.communicate()
        with self._change:
            self._running.discard(process)
        return subprocess.CompletedProcess(arguments, process.returncode, said)


def _signal(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Send a signal to a process and all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


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


def _side_by_side(dvc: _Dvc, crew: _Crew, what: str, groups: Sequence[Sequence[str]], jobs: int) -> None:
    """Run the stages that DVC finds stale, groups side by side, each in its order; they need nothing of one another."""
    stages = [stage for group in groups for stage in group]
    stale = dvc.stale(stages)
    waiting = [[stage for stage in group if stage in stale] for group in groups]
    waiting = _shared_out([group for group in waiting if group], jobs)
    jobs = min(jobs, len(waiting))
    print(f"{what}: {len(stale)} of {len(stages)} to run, {jobs} at a time", flush=True)
    if not waiting:
        return
    failed: list[str] = []
    free, done, ended = crew.take(jobs), count(1), Lock()

    def run(group: Sequence[str]) -> None:
        worker = free.get()
        try:
            for stage in group:
                ended_well, lines = dvc.repro_alone(stage, worker)
                with ended:
                    number = next(done)
                    for line in lines[-1:] if ended_well else lines:
                        print(f"[{number}/{len(stale)}] {stage}  {line}", flush=True)
                    if not ended_well:
                        failed.append(stage)
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
        raise UserError(f"{len(failed)} of {len(stale)} failed: {', '.join(failed)}; their messages stand above")


def _shared_out(groups: list[list[str]], jobs: int) -> list[list[str]]:
    """Return `groups`, the largest divided until there are as many as `jobs`, if there are stages enough."""
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
