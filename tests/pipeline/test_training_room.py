"""`python -m resblock.training`: the training room alone, with a bare Python, on JAX and on TensorFlow."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from resblock.stages import evaluate
from resblock.training.run import Run, read_run
from tests.pipeline.conftest import ROOT, RUN_FILES, Workspace, copy_workspace

FAMILIES = ("cnn-4", "residual-8", "plain-8", "preact-8", "bottleneck-11")

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
    """A folder with nothing but the sources, the splits and a recipe."""

    def __init__(self, folder: Path, study: Workspace, compiled: dict[str, str]) -> None:
        self.folder, self.compiled = folder, compiled
        shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        shutil.copytree(study.root / "data/splits/digits", folder / "data/splits/digits")
        recipe = study.run("resblock", "recipe", "digits").stdout
        (folder / "recipe.json").write_text(recipe)
        (folder / "unprobed.json").write_text(json.dumps({**json.loads(recipe), "gradient_epochs": []}))

    def train(self, variant: str, *seeds: int, backend: str = "jax", recipe: str = "recipe.json") -> str:
        """Run the room's command and return what it printed; raises CalledProcessError where it fails."""
        hidden = HIDDEN if backend == "tensorflow" else (*HIDDEN, "tensorflow")
        site = self.folder / f"site-{backend}"
        site.mkdir(exist_ok=True)
        (site / "sitecustomize.py").write_text(SITE.format(hidden=hidden))
        path = os.pathsep.join((str(site), str(self.folder / "src")))
        command = [sys.executable, "-m", "resblock.training", "digits", variant, "--recipe", recipe, "--seeds"]
        return subprocess.run(
            [*command, *map(str, seeds)],
            cwd=self.folder,
            env={**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": path, **self.compiled},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    def results(self, variant: str, seed: int) -> Path:
        """Return the run's folder."""
        return self.folder / "runs/digits" / variant / f"seed-{seed}"

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
        return machine.train(name, 0, 1) if name == "residual-8" else machine.train(name, 0, recipe="unprobed.json")

    with ThreadPoolExecutor(2) as side_by_side:
        list(side_by_side.map(train, FAMILIES))
    return machine


@pytest.mark.parametrize("variant", FAMILIES)
def test_every_family_learns_on_jax_without_the_rest_of_the_project(trained: Machine, variant: str) -> None:
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
    for kind, name in (("runs", "seed-1"), ("costs", "seed-1.json")):
        source, target = (folder / kind / "digits/residual-8" / name for folder in (trained.folder, study.root))
        if target.is_dir():
            shutil.rmtree(target)
            shutil.copytree(source, target)
        else:
            shutil.copy2(source, target)
    stage = "train@digits-residual-8-1"
    assert stage in study.run("dvc", "status", stage).stdout
    study.run("dvc", "commit", "--force", stage)
    assert "up to date" in study.run("dvc", "status", stage).stdout
    monkeypatch.chdir(study.root)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    evaluate.run("digits")  # weights trained on JAX, scored on TensorFlow
    scores = (study.root / "evaluation/digits/scores.csv").read_text()
    assert "residual-8,residual,8,1,finished" in scores


@pytest.mark.parametrize(
    ("variant", "seed", "recipe", "word"),
    [
        ("residual-9", 0, "recipe.json", "nearest"),
        ("residual-8", 2**32, "recipe.json", "[0, 2^32)"),
        ("residual-8", 0, "nowhere.json", "resblock recipe"),
        ("residual-8", 0, "empty.json", "says nothing of"),
    ],
)
def test_a_mistake_is_named_without_a_traceback(
    machine: Machine, variant: str, seed: int, recipe: str, word: str
) -> None:
    (machine.folder / "empty.json").write_text("{}")
    with pytest.raises(subprocess.CalledProcessError) as failure:
        machine.train(variant, seed, recipe=recipe)
    assert failure.value.returncode == 1
    assert word in failure.value.stderr
    assert "Traceback" not in failure.value.stderr
