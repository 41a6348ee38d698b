"""The files of a study as they are at a revision of git, or at an experiment of DVC."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from resblock import paths
from resblock.core.errors import UserError

WORKSPACE = "workspace"
EXPERIMENTS = "refs/exps/"  # refs/exps/<two digits>/<the rest of its baseline's commit>/<its name>
SHORT = 7  # digits of a commit that is shown


@dataclass(frozen=True)
class Tree:
    """A study's files at one revision."""

    name: str  # in words, for instance ``HEAD (1a2b3c4)``
    folder: Path


@contextmanager
def tree_at(revision: str) -> Generator[Tree]:
    """Lay out the files of `revision` for the block; those of WORKSPACE lie here already.

    Raises UserError where git knows no such revision, and DVC no such experiment.
    """
    if revision == WORKSPACE:
        yield Tree(WORKSPACE, Path.cwd())
        return
    commit = _commit(revision)
    wanted = [str(place) for place in paths.kept_by_git()]
    there = _git("ls-tree", "--name-only", commit, *wanted).decode().split()
    with TemporaryDirectory(prefix="resblock-diff-") as folder:
        if there:  # git packs everything where nothing is named
            with tarfile.open(fileobj=io.BytesIO(_git("archive", commit, *there))) as archive:
                archive.extractall(folder, filter="data")
        name = revision if commit.startswith(revision) else f"{revision} ({commit[:SHORT]})"
        yield Tree(name, Path(folder))


def _commit(revision: str) -> str:
    """Return the commit that a revision or the name of an experiment stands for."""
    try:
        return _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}").decode().strip()
    except subprocess.CalledProcessError as error:
        if _git_fails("rev-parse", "--git-dir"):
            raise UserError(f"{Path.cwd()}: no git repository, so there are no revisions to compare") from error
    found = _git("for-each-ref", "--format=%(objectname) %(refname)", EXPERIMENTS).decode().splitlines()
    commits = [commit for commit, _, name in (line.partition(" ") for line in found) if _experiment(name) == revision]
    if not commits:
        raise UserError(
            f"{revision}: neither a revision of git nor an experiment of DVC; `git log` and `dvc exp list --all` "
            "name those that are here"
        )
    if len(commits) > 1:
        listed = ", ".join(commit[:SHORT] for commit in commits)
        raise UserError(f"{revision}: several experiments have this name; take one of the commits {listed}")
    return commits[0]


def _experiment(reference: str) -> str:
    """Return the name of the experiment that a reference keeps; empty where it keeps something else of DVC's."""
    parts = reference.removeprefix(EXPERIMENTS).split("/")
    return parts[2] if len(parts) == 3 and len(parts[0]) == 2 else ""


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], capture_output=True, check=True).stdout  # noqa: S603, S607


def _git_fails(*arguments: str) -> bool:
    return bool(subprocess.run(["git", *arguments], capture_output=True, check=False).returncode)  # noqa: S603, S607
