"""A fresh clone has nothing stale but what is told as missing: what git holds is what dvc.lock says was made."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from dvc.repo import Repo

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # DVC's own, of what it imports

ROOT = Path(__file__).resolve().parent.parent


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def completed(folder: Path, known: dict[Path, str]) -> str:
    """Return DVC's digest of `folder` as it would be with what DVC keeps, and is not here, in its place."""
    there = {path: md5(path.read_bytes()) for path in folder.rglob("*") if path.is_file()}
    inside = {path: digest for path, digest in known.items() if folder in path.parents}
    files = [
        {"md5": digest, "relpath": path.relative_to(folder).as_posix()}
        for path, digest in ({**inside, **there}).items()
    ]
    return md5(json.dumps(sorted(files, key=lambda file: file["relpath"])).encode()) + ".dir"


def stale(repo: Any) -> Iterator[str]:
    """Yield each stage that was run, and would be again if all that DVC keeps were here, with the reason."""
    outs = [out for stage in repo.index.stages for out in stage.outs]
    digests = {Path(out.fs_path): out.hash_info.value for out in outs if out.hash_info}
    kept = {Path(out.fs_path): out.hash_info.value for out in outs if out.use_cache and out.hash_info}
    for stage in repo.index.stages:
        if not any(out.hash_info for out in stage.outs):
            continue  # it was never run
        if stage.changed_stage():
            yield f"{stage.addressing}: its command"
        for dep in stage.deps:
            path, status = Path(dep.fs_path), next(iter(dep.status().values()), "")
            if status == "deleted" and digests.get(path) == (dep.hash_info.value if dep.hash_info else None):
                continue  # DVC keeps it
            if status == "modified" and path.is_dir() and completed(path, kept) == dep.hash_info.value:
                continue  # what is missing of it, DVC keeps
            if status:
                changed = status if isinstance(status, str) else ", ".join(status)  # of params.yaml, each key
                yield f"{stage.addressing}: {dep} ({changed})"
        for out in stage.outs:
            if not out.use_cache and out.status():
                yield f"{stage.addressing}: {out} is not what it wrote"


def test_what_git_holds_is_what_the_code_and_the_parameters_made(tmp_path: Path) -> None:
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(tmp_path / "clone")], check=True)
    with chdir(tmp_path / "clone"), Repo() as repo:
        found = list(stale(repo))
    assert not found, "stale in a clone of HEAD (`dvc repro` makes them, or commit what it made):\n" + "\n".join(found)
