"""Stages ``train`` and ``ablate``: one network, one seed, by the data set's recipe or by one that differs from it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from resblock import costs, paths
from resblock.core.backends import backend
from resblock.core.backends.machine import emulates_bfloat16
from resblock.core.errors import UserError
from resblock.core.files import digest_sources
from resblock.core.spec import RunKey
from resblock.core.splits import read_description
from resblock.core.training.job import Job, Workshop
from resblock.core.training.manifest import CORE
from resblock.core.training.run import Cost, EpochRow, Run
from resblock.core.training.watcher import Nobody
from resblock.params import Params, read_params
from resblock.stages.terminal import epoch_line, say, step_bar, warn
from resblock.stages.tracked import tracked
from resblock.startup import start_keras
from resblock.tracking.result import epoch_metrics


class Trains(Protocol):
    """Who trains: `Workshop` in this process, or what hands a job to another machine."""

    def train(self, job: Job, watcher: Any) -> Run:
        """See `Workshop`."""
        ...


def run(key: RunKey, workshop: Trains | None = None, *, here: bool = True) -> None:
    """Train the network of `key` by its recipe, in a `workshop` that may have trained others, `here` or elsewhere."""
    job = job_of(key, read_params(paths.PARAMS))
    (workshop or Workshop(start_keras)).train(job, Watcher(job, here=here))


def job_of(key: RunKey, params: Params) -> Job:
    """Return what the training of `key` is told."""
    return Job(
        key=key,
        recipe=params.recipe(key.dataset, key.recipe),
        splits=paths.splits(key.dataset),
        results=paths.run(key),
        cost=paths.own_cost(key),
        checkpoints=paths.CHECKPOINTS,
    )


class Watcher(Nobody):
    """Shows a training on the terminal and in MLflow."""

    def __init__(self, job: Job, *, here: bool = True) -> None:
        self._job, self._here = job, here  # whether this machine computes

    @contextmanager
    def watch(self, manifest: dict[str, Any]) -> Generator[None]:
        """See `resblock.core.training.job.Watcher`."""
        key, recipe = self._job.key, self._job.recipe
        slow = self._here and recipe.precision == "mixed_bfloat16" and not backend().accelerator()
        if slow and emulates_bfloat16():
            warn(f"train.{key.dataset}.precision: this processor emulates bfloat16; float32 is faster (params.yaml)")
        self._tell_of_too_few_images()
        with (
            tracked(manifest, watch_machine=self._here, later=self._here) as self._tracker,
            step_bar(str(key)) as self._move,
        ):
            yield

    def _tell_of_too_few_images(self) -> None:
        """Warn where a number of images was asked for that the training set does not have."""
        there = read_description(self._job.splits).sizes["train"]
        for name in ("reestimate_images", "gradient_images"):
            asked = getattr(self._job.recipe, name)
            if asked > there:
                warn(
                    f"train.{self._job.key.dataset}.{name}: {asked:,} asked for, all {there:,} training images are "
                    f"taken ({paths.PARAMS})"
                )

    def step(self, epoch: int, done: int, steps: int) -> None:
        """See `resblock.core.training.job.Watcher`."""
        self._move(epoch, done, steps)
        self._tracker.open()  # now that steps are made, which Python need not wait for

    def epoch(self, row: EpochRow) -> None:
        """See `resblock.core.training.job.Watcher`."""
        say(epoch_line(row, self._job.recipe.epochs))
        self._tracker.epoch(epoch_metrics(row), row.epoch)

    def resumed(self, curve: Sequence[EpochRow]) -> None:
        """See `resblock.core.training.job.Watcher`."""
        say(f"{self._job.key}: goes on after epoch {len(curve)}, from its checkpoint")
        for row in curve:
            self._tracker.epoch(epoch_metrics(row), row.epoch)

    def warn(self, message: str) -> None:
        """See `resblock.core.training.job.Watcher`."""
        warn(message)

    def written(self, run: Run, cost: Cost) -> None:
        """See `resblock.core.training.job.Watcher`."""
        self._hold_steady(run)
        from resblock.stages.results import trained  # which draws: a second that the first step need not wait for

        costs.record(self._job.key, run.manifest["key"], cost)
        self._tracker.complete(lambda: trained(self._job.key))

    def _hold_steady(self, run: Run) -> None:
        """Refuse to end well where what was asked for has changed meanwhile.

        DVC reads parameters, code and data when a stage has ended, and would record this training under those.
        """
        key, changed = self._job.key, []
        if job_of(key, read_params(paths.PARAMS)).recipe.tree() != self._job.recipe.tree():
            changed.append(f"{paths.PARAMS} has another recipe for it")
        if digest_sources(CORE) != run.manifest["code"]:
            changed.append(f"the code in {CORE.name} is another")
        if read_description(self._job.splits).digest != run.manifest["data"]:
            changed.append(f"the images in {self._job.splits} are others")
        if changed:
            raise UserError(
                f"{key}: {' and '.join(changed)} than when it began, so it is not recorded; run the same command again "
                "(undo the edit first to keep what was trained)"
            )
