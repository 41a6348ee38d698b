"""The study through DVC, independent trainings side by side.

DVC runs one stage at a time, but several DVC processes may run different stages of one project; each takes the lock
only to look and to write down its result.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from resblock import paths
from resblock.data.table import find_dataset
from resblock.errors import UserError
from resblock.params import Params, ParamsError, read_params
from resblock.stages.invocation import invocation
from resblock.training.backend import available_cores


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
    with invocation(chosen, params) as caused:
        dvc = _Dvc(caused.environment)
        for dataset in chosen:
            dvc.repro(f"preprocess@{dataset}")
            _train(dvc, dataset, params, jobs or _default_jobs(params, dataset))
            dvc.repro(f"report@{dataset}")
    print()
    for dataset in chosen:
        print(f"the report on {dataset}: {(paths.report(dataset) / 'index.html').resolve()}")
    print("its runs in MLflow, compared: make ui")


@dataclass(frozen=True)
class _Dvc:
    """DVC, told to run stages in one environment."""

    environment: Mapping[str, str]

    def repro(self, target: str) -> None:
        """Bring one target up to date; its stages' words are shown as they come."""
        if self._call("repro", "--quiet", target).returncode:
            raise UserError(f"dvc repro {target} failed; its message stands above")

    def repro_alone(self, stage: str) -> tuple[bool, list[str]]:
        """Run one stage whose dependencies are there; return whether it ended well, and what it said."""
        command = ("--wait-for-lock", "repro", "--quiet", "--single-item", stage)
        ended = self._call(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return ended.returncode == 0, ended.stdout.strip().splitlines()

    def stale(self, stages: Sequence[str]) -> list[str]:
        """Return which of `stages` DVC would run."""
        status = self._call("status", "--json", *stages, stdout=subprocess.PIPE)
        if status.returncode:
            raise UserError("dvc status failed; its message stands above")
        changed = json.loads(status.stdout or "{}")
        return [stage for stage in stages if stage in changed]

    def _call(
        self, *arguments: str, stdout: int | None = None, stderr: int | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run DVC so that the stages' `resblock` is this interpreter's, activated environment or not."""
        here = str(Path(sys.executable).parent)
        return subprocess.run(  # noqa: S603
            [sys.executable, "-m", "dvc", *arguments],
            env={**self.environment, "PATH": os.pathsep.join((here, self.environment["PATH"]))},
            text=True,
            stdout=stdout,
            stderr=stderr,
            check=False,
        )


def _train(dvc: _Dvc, dataset: str, params: Params, jobs: int) -> None:
    """Run the trainings on `dataset` that DVC finds stale, the longest first so that none trails alone at the end."""
    stages = [key.stage for key in sorted(params.study.keys(dataset), key=lambda key: -key.spec.depth)]
    stale = dvc.stale(stages)
    print(f"{dataset}: {len(stale)} of {len(stages)} trainings to run, {min(jobs, len(stale))} at a time", flush=True)
    failed: list[str] = []
    with ThreadPoolExecutor(jobs) as pool:
        waiting = {pool.submit(dvc.repro_alone, stage): stage for stage in stale}
        try:
            for count, future in enumerate(as_completed(waiting), start=1):
                ended_well, lines = future.result()
                stage = waiting[future]
                for line in lines[-1:] if ended_well else lines:
                    print(f"[{count}/{len(stale)}] {stage}  {line}", flush=True)
                if not ended_well:
                    failed.append(stage)
        except BaseException:  # interrupted: those under way end by the same signal, the others do not begin
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if failed:
        raise UserError(
            f"{len(failed)} of {len(stale)} trainings failed: {', '.join(failed)}; their messages stand above"
        )


def _default_jobs(params: Params, dataset: str) -> int:
    threads = params.recipe(dataset).threads
    return max(1, available_cores() // threads) if threads else 1
