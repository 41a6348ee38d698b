"""The study through DVC, independent trainings side by side.

DVC runs one stage at a time, but several DVC processes may run different stages of one project; each takes the lock
only to look and to write down its result. What a stage computes, a warm worker does. All end with this process.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
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

# How the lines of DVC 3 begin that tell of a stage; of those that tell a reader nothing; and why it runs none.
BEGINS = re.compile(r"Running stage '(?P<run>[^']+)':|Stage '(?P<other>[^']+)' (?P<why>is cached|didn't change)")
SPARED = {"is cached": "restored from DVC's cache", "didn't change": "has not changed"}
FAILS, SUMS_UP = "WARNING: failed to run: ", "ERROR: failed to reproduce"
NAMES = re.compile(r"'([^']+)'")
CHATTER = ("> ", "Updating lock file", "Generating lock file", "To track the changes", "\tgit add", "Use `dvc push`")


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
            # One after the other in one process, seeds share what is compiled.
            networks = groupby(trainings, lambda key: (key.recipe, key.spec))
            groups = [[(paths.stage(key), paths.evaluation(key)) for key in seeds] for _, seeds in networks]
            _side_by_side(dvc, crew, dataset, [[(f"probe@{dataset}",)], *groups], workers)
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

    def repro_each(self, stages: Sequence[str], worker: Worker, tell: Callable[[str, bool, list[str]], None]) -> None:
        """Run stages, each after what it depends on, by `worker`; one that fails keeps no other from being tried.

        `tell` hears of each that ran as it ends: its name, whether it ended well, and what it said. One process of DVC
        runs them all, since its start takes longer than many a stage.
        """
        command = ("--wait-for-lock", "repro", "--single-item", "--keep-going", *stages)
        heard = Transcript(stages)
        with self._started(*command, variables={**worker.environment, "PYTHONUNBUFFERED": "1"}) as process:
            assert process.stdout is not None
            with process.stdout as said:
                for line in said:
                    for ended in heard.hear(line.rstrip("\n")):
                        tell(*ended)
        for ended in heard.close(process.returncode):
            tell(*ended)

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

    def _call(self, *arguments: str, stdout: int | None = None) -> subprocess.CompletedProcess[str]:
        """Run DVC to its end."""
        with self._started(*arguments, stdout=stdout, stderr=None) as process:
            said, _ = process.communicate()
        return subprocess.CompletedProcess(arguments, process.returncode, said)

    @contextmanager
    def _started(
        self,
        *arguments: str,
        stdout: int | None = subprocess.PIPE,
        stderr: int | None = subprocess.STDOUT,
        variables: Mapping[str, str] | None = None,
    ) -> Generator[subprocess.Popen[str]]:
        """Start DVC so that the stages' `resblock` is this interpreter's, activated environment or not, and await it.

        Raises UserError where no more is to be started.
        """
        here = str(Path(sys.executable).parent)
        with self._change:
            if self._closed:
                raise UserError("interrupted before it was begun")
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
        yield process
        process.wait()
        with self._change:
            self._running.discard(process)


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


@dataclass
class Transcript:
    """What one process of DVC says of `stages`, one after the other, taken apart as it comes."""

    stages: Sequence[str]
    _current: str = field(default="", init=False)
    _lines: list[str] = field(default_factory=list[str], init=False)  # of the current stage
    _aside: list[str] = field(default_factory=list[str], init=False)  # DVC's, of no stage that it has begun
    _failed: list[str] = field(default_factory=list[str], init=False)
    _told: list[str] = field(default_factory=list[str], init=False)

    def hear(self, line: str) -> Iterator[tuple[str, bool, list[str]]]:
        """Take one line in; yield a stage that is over by it, whether it ended well, and what it said."""
        if begun := BEGINS.match(line):
            yield from self._over()
            self._current = begun["run"] or begun["other"]
            self._lines = [SPARED[begun["why"]]] if begun["other"] else []
        elif line.startswith(FAILS):
            self._failed.append(self._current)
        elif line.startswith(SUMS_UP):
            self._failed += NAMES.findall(line)
        elif line.startswith(("WARNING: ", "ERROR: ")):
            self._aside.append(line)
        elif self._current and line.strip() and not line.startswith(CHATTER):
            self._lines.append(line)

    def close(self, code: int) -> Iterator[tuple[str, bool, list[str]]]:
        """Yield the last stage, and those that DVC, which ended with `code`, could not begin."""
        yield from self._over()
        if not code:
            return
        left = [stage for stage in self.stages if stage not in self._told]
        said = self._aside or [f"dvc ended with exit code {code} and without a word of it"]
        for stage in [stage for stage in left if stage in self._failed] or (left if not self._failed else []):
            yield stage, False, said

    def _over(self) -> Iterator[tuple[str, bool, list[str]]]:
        if self._current:
            self._told.append(self._current)
            yield self._current, self._current not in self._failed, self._lines or ["ended without a word"]
        self._current, self._lines = "", []


Unit = tuple[str, ...]  # stages of which each needs the one before: a training and its evaluation


def _side_by_side(dvc: _Dvc, crew: _Crew, what: str, groups: Sequence[Sequence[Unit]], jobs: int) -> None:
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
