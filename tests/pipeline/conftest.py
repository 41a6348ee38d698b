"""A copy of the project with a study of minutes, run once through DVC as a person would run it."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import warnings
from contextlib import chdir, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import networkx
import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from tests.conftest import made_once

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS = {"dvc.lock", "results", "data"}

STUDY = """\
study:
  datasets: [digits]
  variants: [cnn-4, plain-8, residual-8]
  seeds: [0, 1]

ablation:
  dataset: digits
  recipes: [low-lr]
  variants: [residual-8]
  seeds: [0, 1]
"""
EPOCHS = 2
STORE = "mlflow.db"
RUN_FILES = ("weights.npz", "curve.csv", "gradients.csv", "metrics.json", "run.json")
PROBED = "[plain-8, residual-8-nobn]"


@dataclass(frozen=True)
class Workspace:
    """A project folder and the commands a person types in it."""

    root: Path

    def run(self, *command: str, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment; on failure, fail with what it printed."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        ended = subprocess.run(
            command, cwd=self.root, env={**environment, **variables}, capture_output=True, text=True, check=False
        )
        if check and ended.returncode:
            pytest.fail(f"{' '.join(command)} ended with {ended.returncode}:\n{ended.stdout}\n{ended.stderr}")
        return ended

    def would_run(self) -> set[str]:
        """Return every stage that `dvc repro` would run: the stale ones and what follows from them."""
        with chdir(self.root), warnings.catch_warnings(), Repo() as repo:
            warnings.simplefilter("ignore", DeprecationWarning)  # DVC's own, of what it imports
            graph, stale = repo.index.graph, repo.status()
            return {
                node.addressing
                for stage in graph
                if stage.addressing in stale
                for node in {stage} | networkx.ancestors(graph, stage)
            }

    def edit(self, name: str, before: str, after: str) -> None:
        """Replace a passage of a file as an editor would."""
        path = self.root / name
        text = path.read_text()
        assert before in text, f"{name} does not hold {before!r}"
        path.write_text(text.replace(before, after))

    def lock(self) -> dict[str, Any]:
        """Return what dvc.lock says of each stage."""
        return YAML(typ="safe").load((self.root / "dvc.lock").read_text())["stages"]


def copy_project(root: Path) -> Workspace:
    """Copy what git would hold into `root`, without results, with the small study, as a repository of its own."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if Path(name).parts[0] not in RESULTS and (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    # Commands run the code that lies in the project they are called in.
    subprocess.run([sys.executable, "-m", "compileall", "-q", "src"], cwd=root, check=True)
    params = root / "params.yaml"
    text = params.read_text()
    start, end = text.index("study:"), text.index("data:  #")
    text = text[:start] + STUDY + "\n" + text[end:]
    text = text.replace("epochs: 20                 #", f"epochs: {EPOCHS}  #")
    for share in ("corrupted", "response", "lesion"):
        text = text.replace(f"{share}_images: 180", f"{share}_images: 60")
    params.write_text(
        re.sub(r"(probes:.*\n  digits:\n    variants:) .*\n    seeds: .*", rf"\1 {PROBED}\n    seeds: [0]", text)
    )
    workspace = Workspace(root)
    workspace.run("git", "init", "-q")
    workspace.run("git", "add", "-A")
    who = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    workspace.run("git", *who, "commit", "-qm", "The project")
    return workspace


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Workspace:
    """The small study, run once for all processes of tests. They read it and leave it as it is."""

    def make(root: Path) -> None:
        copy_project(root).run("resblock", "run", "--jobs", "2")

    return Workspace(made_once(tmp_path_factory, worker_id, "finished", make))


@pytest.fixture
def workspace(finished: Workspace, tmp_path: Path) -> Workspace:
    """A copy of the finished study that a test may change."""
    return copy_workspace(finished, tmp_path / "project")


def copy_workspace(workspace: Workspace, root: Path) -> Workspace:
    """Copy a project with all that was run in it to `root`, while others may read and serve it."""

    def passing(folder: str, _: list[str]) -> set[str]:
        """Leave out what comes and goes while DVC or MLflow are at it."""
        return {"tmp"} if Path(folder).name == ".dvc" else {STORE} if Path(folder) == workspace.root else set()

    shutil.copytree(workspace.root, root, symlinks=True, ignore=passing)
    with closing(sqlite3.connect(workspace.root / STORE)) as source, closing(sqlite3.connect(root / STORE)) as copy:
        source.backup(copy)  # whole, even if it is being written
    return Workspace(root)
