"""The study through DVC, independent trainings side by side.

DVC runs one stage at a time, but several DVC processes may run different stages of one project; each takes the lock
only to look and to write down its result.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from resblock import paths
from resblock.data.table import find_dataset
from resblock.errors import UserError
from resblock.params import Params, ParamsError, read_params
from resblock.spec import RunKey
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
    for dataset in datasets or params.study.datasets:
        _dvc("repro", f"preprocess@{dataset}")
        _train(dataset, params, jobs or _default_jobs(params, dataset))
        _dvc("repro", f"report@{dataset}")


def _train(dataset: str, params: Params, jobs: int) -> None:
    study = params.study
    stages = [RunKey(dataset, spec, seed).stage for seed in study.seeds for spec in reversed(study.specs)]
    stale = _stale(stages)
    with ThreadPoolExecutor(jobs) as pool:
        failed = [stage for stage, ended_well in zip(stale, pool.map(_train_one, stale), strict=True) if not ended_well]
    if failed:
        raise UserError(f"{len(failed)} of {len(stale)} trainings failed: {', '.join(failed)}; run one to see why")


def _train_one(stage: str) -> bool:
    """Let DVC run one training, its output shown in one piece when it ends."""
    command = _dvc_command("--wait-for-lock", "repro", "--quiet", "--single-item", stage)
    ended = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)  # noqa: S603
    lines = ended.stdout.strip().splitlines()
    shown = lines[-1:] if ended.returncode == 0 else lines
    print("\n".join(f"{stage}: {line}" for line in shown), flush=True)
    return ended.returncode == 0


def _stale(stages: Sequence[str]) -> list[str]:
    """Return which of `stages` DVC would run."""
    status = subprocess.run(  # noqa: S603
        _dvc_command("status", "--json", *stages), text=True, stdout=subprocess.PIPE, check=False
    )
    if status.returncode:
        raise UserError("dvc status failed; its message stands above")
    import json

    changed = json.loads(status.stdout or "{}")
    return [stage for stage in stages if stage in changed]


def _dvc(*arguments: str) -> None:
    if subprocess.run(_dvc_command(*arguments), check=False).returncode:  # noqa: S603
        raise UserError(f"dvc {' '.join(arguments)} failed; its message stands above")


def _dvc_command(*arguments: str) -> list[str]:
    # The stages' `resblock` must be the one of this interpreter, activated environment or not.
    folder = str(Path(sys.executable).parent)
    if folder not in os.environ["PATH"].split(os.pathsep):
        os.environ["PATH"] = folder + os.pathsep + os.environ["PATH"]
    return [sys.executable, "-m", "dvc", *arguments]


def _default_jobs(params: Params, dataset: str) -> int:
    threads = params.recipe(dataset).threads
    return max(1, available_cores() // threads) if threads else 1
