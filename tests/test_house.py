"""The rules of the house: which room may import which, and that importing does nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "resblock"

FOUNDATION = {"errors", "files", "params", "paths", "seeds", "spec"}
# A room may import those named, and itself.
MAY_IMPORT = {
    "errors": set[str](),
    "files": set[str](),
    "seeds": set[str](),
    "spec": set[str](),
    "paths": {"spec"},
    "params": {"errors", "paths", "spec"},
    "data": FOUNDATION,
    "model": FOUNDATION,
    "training": FOUNDATION | {"data", "model"},
    "evaluation": FOUNDATION | {"data", "model", "training"},
    "report": FOUNDATION | {"data", "model", "training", "evaluation"},
    "serving": FOUNDATION | {"data", "model", "training"},
    "signals": set[str](),
    "startup": {"signals", "training"},
    "tracking": {"errors", "files", "params", "paths", "signals", "spec"},
    "stages": FOUNDATION | {"data", "model", "training", "evaluation", "report", "serving", "startup", "tracking"},
    "pipeline": FOUNDATION | {"data", "training", "stages", "tracking"},
    "catalogue": FOUNDATION | {"model", "startup"},
    "cli": FOUNDATION | {"catalogue", "data", "pipeline", "signals", "stages", "tracking"},
    "__main__": {"cli"},
    "__init__": set[str](),
}


def rooms() -> set[str]:
    return {path.stem for path in PACKAGE.iterdir() if path.name != "__pycache__"}


def imports_of(path: Path) -> Iterator[str]:
    """Yield the resblock modules that the file at `path` imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("resblock."))
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "resblock":
                yield from (f"resblock.{alias.name}" for alias in node.names)
            elif node.module.startswith("resblock."):
                yield node.module


def test_every_room_is_known() -> None:
    assert rooms() == set(MAY_IMPORT)


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_imports_point_one_way(room: str) -> None:
    place = PACKAGE / room
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    assert files
    for file in files:
        for module in imports_of(file):
            imported = module.split(".")[1]
            assert imported in MAY_IMPORT[room] | {room}, f"{file.name} imports {module}"


def test_only_tracking_imports_mlflow() -> None:
    for file in PACKAGE.rglob("*.py"):
        mentions = "import mlflow" in file.read_text() or "from mlflow" in file.read_text()
        assert not mentions or file.relative_to(PACKAGE).parts[0] == "tracking", file


def test_importing_a_module_prints_nothing_and_loads_no_backend() -> None:
    light = "cli params spec paths files seeds errors data.table training.run evaluation.study report.page stages.train"
    code = "; ".join(f"import resblock.{name}" for name in light.split())
    code += "; import sys; assert not {'tensorflow', 'keras', 'mlflow'} & set(sys.modules), 'a heavy import'"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
