"""Which file an error speaks of, where reading one failed: a merge left its conflict there, or a disk its half.

All that this project stores is read by functions called `read_…` that take a path first, so whatever a library raises
below one of them is about the file there.
"""

from __future__ import annotations

import csv
import traceback
from pathlib import Path
from types import CodeType
from zipfile import BadZipFile

from ruamel.yaml.error import YAMLError

from resblock.core.errors import one_line
from resblock.core.files import read_json

# What readers raise for a file that is not as it was written.
KINDS = (ValueError, KeyError, TypeError, AttributeError, IndexError, EOFError, csv.Error, BadZipFile, YAMLError)
CONFLICT = b"<<<<<<< "  # how the line begins that git puts before two versions of a passage


def damage(error: Exception) -> str | None:
    """Return in one line which file `error` is about and what to do; None where it is not about reading one."""
    return _one_line(fault(error))


def conflicted(place: Path) -> str | None:
    """Return in one line where git left a conflict in `place`, as `conflict` finds it, and what to do."""
    return _one_line(conflict(place))


def damaged(path: Path) -> str | None:
    """Return what `damage` says of the JSON file at `path`; None where it can be read, or is not there."""
    try:
        read_json(path)
    except Exception as error:
        return damage(error)
    return None


def fault(error: Exception) -> tuple[str, str] | None:
    """Return what is wrong with the file that `error` is about, and what to do; None where it is not about one."""
    place = _place(error) if isinstance(error, KINDS) else None
    return conflict(place) or _broken(place, error) if place else None


def conflict(place: Path) -> tuple[str, str] | None:
    """Return where git left a conflict in the file or folder `place`, and what to do; None without one."""
    for file in sorted(place.iterdir()) if place.is_dir() else [place]:
        if line := _conflict(file):
            return (
                f"{file}, line {line}: git left the conflict of a merge there",
                f"choose one version whole (git checkout --ours -- {file}, or --theirs) and run the same command again",
            )
    return None


def _one_line(found: tuple[str, str] | None) -> str | None:
    return found and "; ".join(found)


def _broken(place: Path, error: Exception) -> tuple[str, str]:
    return (
        f"{place}: damaged, or another version's ({type(error).__name__}: {one_line(error, 120)})",
        f"bring it back (git checkout -- {place}, or dvc checkout) or remove it and make it again",
    )


def _place(error: Exception) -> Path | None:
    """Return what the innermost reader that `error` came through was to read."""
    found: Path | None = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        code = frame.f_code
        if str(frame.f_globals.get("__name__")).startswith("resblock.") and _reads(code):
            first = frame.f_locals.get(code.co_varnames[0])
            found = first if isinstance(first, Path) else found
    return found.relative_to(Path.cwd()) if found and found.is_relative_to(Path.cwd()) else found


def _reads(code: CodeType) -> bool:
    return code.co_name.lstrip("_").startswith("read") and code.co_argcount > 0


def _conflict(file: Path) -> int | None:
    """Return the line of `file` on which the first conflict begins, or None without one."""
    try:
        lines = file.read_bytes().splitlines()
    except OSError:
        return None
    return next((number for number, line in enumerate(lines, start=1) if line.startswith(CONFLICT)), None)
