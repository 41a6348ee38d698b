"""`python -m resblock.core`: the training room alone, with a bare Python, on JAX and on TensorFlow."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from resblock.core.spec import ModelSpec, RunKey
from resblock.core.training.run import Run, read_run
from resblock.stages import evaluate
from tests.pipeline.conftest import ROOT, RUN_FILES, Workspace, copy_workspace

FAMILIES = ("cnn-4", "residual-8", "bottleneck-11")  # tests/core holds the others on JAX to TensorFlow's numbers
SEEDS = range(4)

# A machine with a graphics card has Keras, JAX and NumPy; the test's Python hides the rest.
HIDDEN = ("click", "dvc", "matplotlib", "mlflow", "pandas", "pydantic", "ruamel", "sklearn")
SITE = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {hidden!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hidden())
"""


class Machine:
    """A folder with nothing but the sources, the splits and what is to be trained."""

    def __init__(self, folder: Path, study: Workspace, compiled: dict[str, str]) -> None:
        self.folder, self.compiled = folder, compiled
        shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        shutil.copytree(study.root / "data/splits/digits", folder / "data/splits/digits")
        asked = [option for seed in SEEDS for option in ("--seed", str(seed))]
        self.jobs: list[dict[str, Any]] = json.loads(study.run("resblock", "jobs", "digits", *FAMILIES, *asked).stdout)

    def job(self, variant: str, seed: int, *, probed: bool = True) -> dict[str, Any]:
        """Return one of the jobs that the project's machine printed, perhaps without gradients that are looked at."""
        (job,) = (job for job in self.jobs if (job["variant"], job["seed"]) == (variant, seed))
        return job if probed else {**job, "recipe": {**job["recipe"], "gradient_epochs": []}}

    def train(self, variant: str, *seeds: int, backend: str = "jax", probed: bool = True) -> str:
        """Train by the room's command and return what it printed; raises CalledProcessError where it fails."""
        jobs = self.folder / f"{variant}-{'-'.join(map(str, seeds))}.json"
        jobs.write_text(json.dumps([self.job(variant, seed, probed=probed) for seed in seeds]))
        return self.work(jobs.name, backend=backend)

    def work(self, jobs: str, *, backend: str = "jax") -> str:
        """Run the room's command on a file of jobs."""
        hidden = HIDDEN if backend == "tensorflow" else (*HIDDEN, "tensorflow")
        site = self.folder / f"site-{backend}"
        site.mkdir(exist_ok=True)
        (site / "sitecustomize.py").write_text(SITE.format(hidden=hidden))
        path = os.pathsep.join((str(site), str(self.folder / "src")))
        return subprocess.run(
            [sys.executable, "-m", "resblock.core", jobs],
            cwd=self.folder,
            env={**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": path, **self.compiled},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    def results(self, variant: str, seed: int) -> Path:
        """Return the run's folder."""
        return self.folder / "results/digits/trainings/base" / variant / f"seed-{seed}"

    def digest(self, variant: str, seed: int) -> dict[str, bytes]:
        """Return the bytes of all that must be equal in every repeat."""
        return {name: (self.results(variant, seed) / name).read_bytes() for name in RUN_FILES}

    def run(self, variant: str, seed: int) -> Run:
        """Read a run."""
        return read_run(self.results(variant, seed))


@pytest.fixture(scope="module")
def machine(
    finished: Workspace, tmp_path_factory: pytest.TempPathFactory, jax_compiles_once: dict[str, str]
) -> Machine:
    return Machine(tmp_path_factory.mktemp("machine"), finished, jax_compiles_once)


@pytest.fixture(scope="module")
def trained(machine: Machine) -> Machine:
    """The machine after one small training per family on JAX, residual-8 with two seeds and gradients looked at."""

    def train(name: str) -> str:
        return machine.train(name, 0, 1) if name == "residual-8" else machine.train(name, 0, probed=False)

    with ThreadPoolExecutor(2) as side_by_side:
        list(side_by_side.map(train, FAMILIES))
    return machine


@pytest.mark.parametrize("variant", FAMILIES)
def test_networks_learn_on_jax_without_the_rest_of_the_project(trained: Machine, variant: str) -> None:
    run = trained.run(variant, 0)
    assert run.status == "finished"
    assert "jax" in run.manifest["versions"]
    assert "tensorflow" not in run.manifest["versions"]
    first, last = run.curve[0], run.curve[-1]
    assert last.loss < first.loss
    assert last.accuracy > 0.3  # ten classes


def test_seeds_that_share_a_compiled_step_give_what_separate_runs_give(trained: Machine) -> None:
    together = trained.digest("residual-8", 1)
    shutil.rmtree(trained.results("residual-8", 1))
    trained.train("residual-8", 1)
    assert trained.digest("residual-8", 1) == together


@pytest.mark.slow
def test_seeds_that_share_a_graph_on_tensorflow_give_what_separate_runs_give(machine: Machine) -> None:
    machine.train("residual-8", 2, 3, backend="tensorflow")  # beside JAX's seeds, which other tests read
    together = machine.digest("residual-8", 3)
    shutil.rmtree(machine.results("residual-8", 3))
    machine.train("residual-8", 3, backend="tensorflow")
    assert machine.digest("residual-8", 3) == together


def test_dvc_commits_what_the_room_wrote(
    trained: Machine, finished: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: int
) -> None:
    study = copy_workspace(finished, tmp_path / "study")
    target = study.root / "results/digits/trainings/base/residual-8/seed-1"
    shutil.rmtree(target)
    shutil.copytree(trained.results("residual-8", 1), target)
    stage = "train@digits-residual-8-1"
    assert stage in study.run("dvc", "status", stage).stdout
    study.run("dvc", "commit", "--force", stage)
    assert "up to date" in study.run("dvc", "status", stage).stdout
    monkeypatch.chdir(study.root)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    evaluate.run(RunKey("digits", ModelSpec.parse("residual-8"), 1))  # weights trained on JAX, scored on TensorFlow
    scores = (study.root / "results/digits/scores/base/residual-8/seed-1/score.csv").read_text()
    assert "residual-8,residual,8,1,finished" in scores


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"variant": "residual-9"}, "nearest"),
        ({"seed": 2**32}, "[0, 2^32)"),
        ({"recipe": {}}, "the recipe says nothing of epochs"),
        ({"splits": "nowhere"}, "nowhere: no splits there"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_mistake_in_a_job_is_named_without_a_traceback(machine: Machine, change: dict[str, Any], word: str) -> None:
    (machine.folder / "mistaken.json").write_text(json.dumps([{**machine.job("residual-8", 0), **change}]))
    with pytest.raises(subprocess.CalledProcessError) as failure:
        machine.work("mistaken.json")
    refused(failure.value, word)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (None, "resblock jobs"),
        ("{}", "no list of jobs"),
        ("[", "no list of jobs"),
        ("[{}]", "a job says nothing of dataset"),
        ("[0]", "not a job"),
    ],
    ids=["no file", "no list", "no JSON", "empty job", "number"],
)
def test_a_file_that_holds_no_jobs_is_named_with_what_writes_it(
    machine: Machine, content: str | None, word: str
) -> None:
    (machine.folder / "jobs.json").unlink(missing_ok=True)
    if content is not None:
        (machine.folder / "jobs.json").write_text(content)
    with pytest.raises(subprocess.CalledProcessError) as failure:
        machine.work("jobs.json")
    refused(failure.value, word)
    assert "`resblock jobs" in failure.value.stderr


def refused(failure: subprocess.CalledProcessError, word: str) -> None:
    """Hold that a command ended with a message that has `word`, and no traceback."""
    assert failure.returncode == 1
    assert word in failure.stderr
    assert "Traceback" not in failure.stderr
