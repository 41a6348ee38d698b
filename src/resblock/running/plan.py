"""What `resblock run` would do, why, and what it would take: nothing is run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from resblock import paths
from resblock.params import read_params
from resblock.running.engines.local import default_jobs
from resblock.running.estimate import Estimator, Forecast
from resblock.running.speed import past_trainings
from resblock.running.stale import Step, made_by_others, stale_steps
from resblock.tracking.durations import last_durations

CAUSES_SHOWN = 2  # of a stage, in the table; JSON has all


@dataclass(frozen=True)
class Plan:
    """What is to be done, and what it takes."""

    steps: Sequence[Step]
    forecasts: Sequence[Forecast]  # of each step
    seconds: float  # wall clock of all, `jobs` at a time
    jobs: int
    disk: int  # bytes to be added
    disk_free: int
    memory: int  # bytes of the trainings that run at once
    memory_free: int
    notes: Sequence[str]  # what DVC does not watch

    def tree(self) -> dict[str, Any]:
        """Return the plan as JSON holds it."""
        tree = {name: value for name, value in asdict(self).items() if name not in ("steps", "forecasts")}
        stages = [
            {
                "stage": step.stage,
                "action": step.action,
                "causes": [asdict(cause) for cause in step.causes],
                "seconds": round(forecast.seconds, 1),
                "basis": forecast.basis,
            }
            for step, forecast in zip(self.steps, self.forecasts, strict=True)
        ]
        return {"stages": stages, **tree, "seconds": round(self.seconds, 1)}

    def lines(self) -> Iterator[str]:
        """Yield the plan as a table."""
        if not self.steps:
            yield "nothing is stale: `resblock run` would run nothing"
        else:
            yield from self._table()
            count = {action: sum(step.action == action for step in self.steps) for action in ("run", "restore")}
            yield ""
            yield f"{count['run']} stages to run, {count['restore']} to restore from DVC's cache; {self.jobs} at a time"
            if after := sum(step.action == "look up" for step in self.steps):
                yield f"{after} more follow from restored ones alone: DVC looks in its cache first, then runs them"
            yield f"time    about {duration(self.seconds)}"
            yield f"disk    {size(self.disk)} more; {size(self.disk_free)} are free{_short(self.disk, self.disk_free)}"
            spare = f"{size(self.memory_free)} are free{_short(self.memory, self.memory_free)}"
            yield f"memory  about {size(self.memory)}; {spare}"
        for note in self.notes:
            yield f"note: {note}; DVC does not watch that"

    def _table(self) -> Iterator[str]:
        rows = [("stage", "does", "takes", "because")]
        for step, forecast in zip(self.steps, self.forecasts, strict=True):
            causes = [str(cause) for cause in step.causes]
            more = f"; and {len(causes) - CAUSES_SHOWN} more" if len(causes) > CAUSES_SHOWN else ""
            because = "; ".join(causes[:CAUSES_SHOWN]) + more
            rows.append((step.stage, step.action, duration(forecast.seconds), because))
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        for stage, does, takes, because in rows:
            yield f"{stage:<{widths[0]}}  {does:<{widths[1]}}  {takes:>{widths[2]}}  {because}"


def make_plan(targets: Sequence[str], jobs: int | None = None) -> Plan:
    """Return what `dvc repro` would do for `targets` (data sets or stages; none: the study), `jobs` at a time.

    Raises UserError where params.yaml is wrong, or DVC cannot look.
    """
    params = read_params(paths.PARAMS)
    steps = stale_steps(targets)
    datasets = list(dict.fromkeys(step.dataset for step in steps)) or list(params.study.datasets)
    at_once = jobs or default_jobs(params.recipe(dataset).threads for dataset in datasets)
    estimator = Estimator(params, list(past_trainings()), last_durations(datasets))
    keys = [step.key for step in steps if step.kind == "train" and step.action == "run" and step.key]
    return Plan(
        steps=steps,
        forecasts=[estimator.forecast(step) for step in steps],
        seconds=estimator.total(steps, at_once),
        jobs=at_once,
        disk=sum(estimator.disk(step) for step in steps),
        disk_free=shutil.disk_usage(Path()).free,
        memory=estimator.memory(keys, at_once),
        memory_free=psutil.virtual_memory().available,
        notes=made_by_others(key for dataset in params.study.datasets for key in params.keys(dataset)),
    )


def duration(seconds: float) -> str:
    """Return a time as people say it, for instance 45 s, 12 min, 3 h 20 min."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def size(count: float) -> str:
    """Return bytes as people say them, for instance 1.3 GB."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:.0f} bytes"


def _short(needed: float, free: float) -> str:
    return ", too few" if needed > free else ""
