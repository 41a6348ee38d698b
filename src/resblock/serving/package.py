"""What a logged model needs besides its files: the code that rebuilds the network, and the packages it runs on."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import resblock

LOADER = "resblock.serving.served"
MODULES = ("__init__.py", "evaluation/__init__.py", "evaluation/statistics.py")
ROOMS = ("core", "serving")
# What that code imports, besides MLflow and the packages of the run's own manifest (Keras, its backend, NumPy).
IMPORTED = ("pandas",)


def pack_code() -> bytes:
    """Return the modules that rebuild and run a network, as an archive that Python can import from.

    One file, since a model on a distant store is sent file by file.
    """
    package = Path(resblock.__file__).parent
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in [package / name for name in MODULES] + _sources(package):
            archive.write(file, file.relative_to(package.parent))
    return buffer.getvalue()


def _sources(package: Path) -> list[Path]:
    return [file for room in ROOMS for file in sorted((package / room).rglob("*.py"))]


def requirements(versions: Mapping[str, str]) -> list[str]:
    """Return pip requirements with exact versions: `versions` of a run's manifest, and those installed of the rest."""
    exact = {name: version(name) for name in ("mlflow", *IMPORTED)} | dict(versions)
    return [f"{name}=={number}" for name, number in sorted(exact.items())]


def constraints(versions: Mapping[str, str]) -> list[str]:
    """Return exact versions of all that the requirements pull in; none where others than `versions` are installed."""
    if any(version(name) != number for name, number in versions.items()):
        return []  # what fits the packages here may not fit those that trained the model
    return [f"{name}=={number}" for name, number in _installed_below(("mlflow", *IMPORTED, *versions))]


@cache
def _installed_below(names: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return name and version of every installed distribution that `names` need, themselves included, by name."""
    found: dict[str, str] = {}
    waiting = list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # needed elsewhere, or by an extra that nobody asked for
            continue
        waiting += _needs(requires(name) or ())
    return sorted(found.items())


def _needs(lines: Iterable[str]) -> list[str]:
    """Return the names among requirement `lines` that hold here, without extras."""
    needed = [Requirement(line) for line in lines]
    return [need.name for need in needed if need.marker is None or need.marker.evaluate({"extra": ""})]
