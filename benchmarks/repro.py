"""A copy of the project in which ``dvc repro`` has nothing to do.

DVC looks at names, sizes and times of what it knows, so placeholders in the place of every out and dependency that is
not here cost it what results do: no training is needed to measure this.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from benchmarks.commands import run
from benchmarks.workers import ROOT


def make_up_to_date_copy(folder: Path) -> None:
    """Fill `folder` with the tracked files of this project, and with what makes every stage of theirs up to date."""
    copy_tracked(folder)
    _fill(folder)
    run([sys.executable, "-m", "dvc", "commit", "--quiet", "--force"], folder)


def copy_tracked(folder: Path) -> None:
    """Make `folder` a git repository with the tracked files of this project, none of them committed."""
    run(["git", "init", "--quiet"], folder)
    for name in run(["git", "ls-files"]).splitlines():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)


def _fill(folder: Path) -> None:
    """Put a placeholder wherever a stage reads or writes and nothing is; what has a suffix is a file."""
    from dvc.repo import Repo  # not at the start of every benchmark

    with Repo(str(folder)) as repository:
        named = {Path(part.fs_path) for stage in repository.index.stages for part in (*stage.deps, *stage.outs)}
    for path in sorted(named, key=lambda path: len(path.parts), reverse=True):  # so that no folder is taken for a file
        if not path.exists():
            file = path if path.suffix else path / "placeholder"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("{}\n")
