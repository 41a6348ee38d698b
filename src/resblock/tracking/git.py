"""Which commit made a run, and whether code or parameters differed from it."""

from __future__ import annotations

import subprocess

COMMIT_TAG, DIRTY_TAG = "mlflow.source.git.commit", "resblock.dirty"

# What decides a result. DVC's lock file and the results themselves change while a pipeline runs.
DECIDING = ("src", "params.yaml", "dvc.yaml", "requirements.lock")


def git_state() -> dict[str, str]:
    """Return MLflow's commit tag and our dirtiness tag; nothing outside a git checkout."""
    try:
        commit = _git("rev-parse", "HEAD")
        changes = _git("status", "--porcelain", "--", *DECIDING)
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {COMMIT_TAG: commit, DIRTY_TAG: "true" if changes else "false"}


def _git(*arguments: str) -> str:
    finished = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)  # noqa: S603, S607
    return finished.stdout.strip()
