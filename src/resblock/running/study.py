"""The study through DVC, independent stages of all data sets side by side.

DVC runs one stage at a time, but several DVC processes may run different stages of one project; each takes the lock
only to look and to write down its result. What a stage computes, an engine's workers do. All end with this process.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from resblock import paths
from resblock.core.errors import UserError
from resblock.core.spec import RunKey
from resblock.params import Params, read_params
from resblock.running.board import Board, board
from resblock.running.dvc import Dvc
from resblock.running.engines import Engine
from resblock.running.engines.local import Local
from resblock.running.estimate import Estimator, count_roughly, rate_roughly
from resblock.running.queue import Queue, Unit, Where, first_stale, in_turn
from resblock.running.speed import past_trainings
from resblock.running.targets import Chosen, choose
from resblock.stages.invocation import invocation
from resblock.stages.terminal import warn

MakeEngine = Callable[[int | None, Sequence[int]], Engine]  # jobs, and the threads of each recipe


def bring_up_to_date(targets: Sequence[str], jobs: int | None, make_engine: MakeEngine = Local) -> None:
    """Run every stale stage that `targets` name and need: data sets, stages, all of the study if none is named.

    `jobs` of them run at once; by default as many as the engine carries. Raises UserError where a stage failed; the
    others' results are kept.
    """
    params = read_params(paths.PARAMS)
    chosen = choose(params, targets)
    datasets = [each.dataset for each in chosen]
    recipes = [params.recipe(each.dataset, key.recipe) for each in chosen for key in each.trainings]
    for other in others_at_work():
        warn(f"`resblock run` is at work here already (process {other}); this one waits for what it runs now")
    engine = make_engine(jobs, [recipe.threads for recipe in recipes] or [1])
    everything = [stage for each in chosen for stage in each.stages]
    with engine, ThreadPoolExecutor(1) as aside, Dvc(os.environ) as dvc:
        asked = aside.submit(dvc.stale, everything)  # which takes about as long as MLflow needs to open a run
        with invocation(datasets, params) as caused:
            dvc.environment = caused.environment
            planner = _Planner(params, set(asked.result()), apart="cluster" in engine.slots)
            units = [unit for each in chosen for unit in planner.units(each)]
            print(f"{', '.join(datasets)}: ", end="")
            _run_units(units, planner.seconds, len(everything), dvc, engine)
    print()
    for each in chosen:
        if each.report:
            page = (paths.report(each.dataset) / "index.html").resolve()
            print(f"the report on {each.dataset}: {page}")
    print("its runs in MLflow, compared: make ui")


def _run_units(units: Sequence[Unit], seconds: Mapping[str, float], stages: int, dvc: Dvc, engine: Engine) -> None:
    """Run the units, by forecast so long each stage, of so many `stages` in all. Raises UserError where one failed."""
    forecasts = {stage: seconds[stage] for unit in units for stage in unit.stages}
    slots = sum(engine.slots.values())
    print(f"{len(forecasts)} of {stages} stages to run, {slots} at a time", flush=True)
    if not units:
        return
    engine.prepare(units)
    queue = Queue(units, engine.slots, engine.cores)
    with board(forecasts, slots) as shown:
        work_off(dvc, engine, queue, shown, len(units))
    if shown.failed:
        raise UserError(f"{len(shown.failed)} of {len(forecasts)} stages failed; the same command goes on from there")


def others_at_work() -> Iterator[int]:
    """Yield each other process that is a `resblock run` in this folder."""
    kin = {psutil.Process().pid, *(parent.pid for parent in psutil.Process().parents())}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words = [Path(word).name for word in process.cmdline()[:5]]
            runs = "resblock" in words and "run" in words[words.index("resblock") :]
            if runs and process.pid not in kin and Path(process.cwd()) == Path.cwd():
                yield process.pid


@dataclass
class _Planner:
    """Makes units of what is `stale`; `apart`, trainings are units by themselves, at the cluster."""

    params: Params
    stale: Collection[str]
    apart: bool

    def __post_init__(self) -> None:
        self.seconds: dict[str, float] = {}  # of each stage
        self._estimator = Estimator(self.params, list(past_trainings()), measure=rate_roughly, count=count_roughly)
        self._by_network: dict[tuple[str, str, str], tuple[float, float]] = {}

    def units(self, chosen: Chosen) -> Iterator[Unit]:
        """Yield what is to run of one data set; what follows from a stale stage may be stale by what that will give."""
        dataset = chosen.dataset
        preparation = first_stale(chosen.preparation, self.stale)
        if preparation:
            yield self._unit(preparation, urgent=True)
        needs, made = preparation[-1:], list[str]()
        probe = f"probe@{dataset}"
        if chosen.probe and (preparation or probe in self.stale):
            self.seconds[probe] = self._estimator.probing(dataset)
            made.append(probe)
            yield self._unit((probe,), needs, threads=self.params.recipe(dataset).threads)
        for key, looked_at in chosen.trainings.items():
            stages = (paths.stage(key), *([paths.evaluation(key)] if looked_at else []))
            left = stages if preparation else first_stale(stages, self.stale)
            self.seconds |= zip(stages, self._forecast(key), strict=False)
            made += left
            yield from self._training(key, left, needs)
        report = f"report@{dataset}"
        if chosen.report and (made or preparation or report in self.stale):
            yield self._unit((report,), (*needs, *made), urgent=True)

    def _training(self, key: RunKey, stages: Sequence[str], needs: Sequence[str]) -> Iterator[Unit]:
        """Yield the unit of a training and its evaluation, or one of each."""
        threads = self.params.recipe(key.dataset, key.recipe).threads
        network = f"{key.dataset} {key.recipe} {key.spec}"
        if self.apart and stages and stages[0] == paths.stage(key):
            yield self._unit(stages[:1], needs, network, threads, "cluster")
            needs, stages = (*needs, stages[0]), stages[1:]
        if stages:
            yield self._unit(stages, needs, network, threads)

    def _forecast(self, key: RunKey) -> tuple[float, float]:
        """Return the seconds of a training and of a look at it, equal for all seeds."""
        network = (key.dataset, key.recipe, key.spec.name)
        if network not in self._by_network:
            self._by_network[network] = (self._estimator.training(key).seconds, self._estimator.looking(key))
        return self._by_network[network]

    def _unit(
        self,
        stages: Sequence[str],
        needs: Sequence[str] = (),
        network: str = "",
        threads: int | None = None,
        where: Where = "here",
        urgent: bool = False,
    ) -> Unit:
        for stage in stages:
            self.seconds.setdefault(stage, self._estimator.other(stage.partition("@")[0]))
        seconds = sum(self.seconds[stage] for stage in stages)
        return Unit(tuple(stages), seconds, tuple(needs), network, threads, where, urgent)


def work_off(dvc: Dvc, engine: Engine, queue: Queue, shown: Board, units: int) -> None:
    """Let each slot take units from the queue until there are none."""
    places: list[Where] = [where for where, count in engine.slots.items() for _ in range(min(count, units))]
    with ThreadPoolExecutor(len(places)) as pool:
        slots = [pool.submit(_work, dvc, engine, queue, shown, where) for where in places]
        try:
            for slot in as_completed(slots):
                slot.result()
        except BaseException:
            queue.close()
            dvc.end()  # else the pool would wait for what runs and waits
            raise


def _work(dvc: Dvc, engine: Engine, queue: Queue, shown: Board, where: Where) -> None:
    while units := queue.take(where):
        stages, listener = in_turn(units), _Listener(queue, shown, units)
        try:
            with engine.seat(units[0]) as variables:
                dvc.repro_each(stages, variables, listener)
            listener.conclude(stages)
        finally:
            queue.release(units)


class _Listener:
    """Tells board and queue what comes of units that run together."""

    def __init__(self, queue: Queue, shown: Board, units: Iterable[Unit]) -> None:
        self._queue, self._shown = queue, shown
        self._told: set[str] = set()
        self._needed = {
            stage: unit.stages[place - 1] for unit in units for place, stage in enumerate(unit.stages) if place
        }

    def said(self, stage: str, line: str) -> None:
        """See `Listener`."""
        self._shown.said(stage, line)

    def ended(self, stage: str, well: bool, lines: Sequence[str]) -> None:
        """See `Listener`."""
        self._told.add(stage)
        cause = self._needed.get(stage)
        if not well and cause in self._shown.failed:
            lines = [_not_run(cause)]
        self._shown.ended(stage, well, lines)
        for lost, because in self._queue.settle(stage, well=well):
            self._shown.ended(lost, False, [_not_run(because)])

    def conclude(self, stages: Sequence[str]) -> None:
        """Give up what DVC, killed for instance, did not come to: what needs it must not wait for ever."""
        for stage in stages:
            if stage not in self._told:
                self.ended(stage, False, ["not begun, since DVC ended before"])


def _not_run(cause: str) -> str:
    return f"not run, since {cause} failed"
