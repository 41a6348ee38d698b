"""What was measured on a machine: one JSON file each, with a section per benchmark."""

from __future__ import annotations

import platform
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from benchmarks.workers import ROOT
from resblock.core.backends.machine import available_cores, processor, processor_kind
from resblock.core.files import read_json, write_json

FOLDER = ROOT / "benchmarks" / "results"


def machine() -> dict[str, Any]:
    """Return what this machine is."""
    return {
        "name": f"{processor()} ({processor_kind(bfloat16=False)}), {platform.system()}",
        "cores": available_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "python": platform.python_version(),
    }


def save_section(name: str, section: dict[str, Any], folder: Path = FOLDER) -> Path:
    """Replace one section of this machine's file, keep the others, and return the file's path."""
    here = machine()
    path = folder / f"{re.sub(r'[^a-z0-9]+', '-', here['name'].lower()).strip('-')}-{here['cores']}-cores.json"
    tree = read_json(path) if path.exists() else {}
    dated = {"measured": datetime.now(UTC).date().isoformat(), **section}
    write_json(path, {**tree, "machine": here, name: dated})
    return path


def read_results(folder: Path = FOLDER) -> list[dict[str, Any]]:
    """Return every machine's file, by name."""
    return [read_json(path) for path in sorted(folder.glob("*.json"))]
