"""A project that was moved or copied takes its artifacts with it: MLflow notes their places in full.

Without this a copy would write into the original, and a moved project into its old folder, made anew (MLflow's issues
3144, 3719 and 4400). MLflow has no call that changes a place, so its tables are changed directly.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
PATIENCE = 20  # seconds that another writer may hold the file, as MLflow has it


def old_places(locations: Iterable[tuple[str, str]], artifacts: str) -> list[str]:
    """Return the addresses of folders that held experiments' artifacts before; none where all lie in `artifacts`.

    `locations` are names of experiments and where they keep theirs. Only a folder on a disk that is called like
    `artifacts` moves with a project.
    """
    folder = artifacts.rpartition("/")[2]
    found = (place.removesuffix(f"/{name}") for name, place in locations if place.endswith(f"/{folder}/{name}"))
    return [place for place in dict.fromkeys(found) if place.startswith("file:") and place != artifacts]


def relocate(database: Path, old: Iterable[str], new: str) -> None:
    """Let everything that `database` says lies below one of the addresses `old` lie below `new`."""
    with closing(sqlite3.connect(database, timeout=PATIENCE)) as connection, connection:
        for place in old:
            for table, column in PLACES:
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",  # noqa: S608
                    (f"{new}/", len(place) + 2, len(place) + 1, f"{place}/"),
                )
