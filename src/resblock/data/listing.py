"""A person's own files: they stay where they are, and what is kept of them is a list with their digests.

They lie at, or are linked from, ``sources/<name>``, which DVC watches: a file that is added, changed or renamed makes
stale what rests on it, a touched one nothing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from resblock.core.backends.machine import available_cores
from resblock.core.files import digest_bytes, digest_file, json_bytes, read_json, write_bytes
from resblock.data.collection import Files, ReadError

LISTING = "files.json"
SOURCES = Path("sources")
NO_TEXT, NO_FILE, NO_TARGET = "has a name that is no UTF-8", "is no file", "is a link to nothing"
UNWATCHED = (NO_TEXT, NO_FILE, NO_TARGET)  # what DVC fails at, or waits for without end
JUNK = {"thumbs.db", "desktop.ini", "__macosx"}  # what systems leave in folders; hidden files besides


@dataclass(frozen=True)
class Own:
    """A folder or a file of the user's, as a source of raw files."""

    place: Path

    @cached_property
    def _content(self) -> bytes:
        files, problems = digested(self.place)
        return json_bytes({"files": files, "problems": problems})

    @property
    def digests(self) -> Mapping[str, str]:
        """The list's digest, by its name; every file is read for it, once."""
        return {LISTING: digest_bytes(self._content)}

    @property
    def names(self) -> Sequence[str]:
        """The list's name."""
        return (LISTING,)

    def fetch(self, folder: Path, mirror: str | None, say: Callable[[str], None]) -> None:
        """Write the list into `folder`. `mirror` plays no part."""
        write_bytes(folder / LISTING, self._content)

    def files(self, folder: Path) -> Files:
        """Return the files as they were listed in `folder`. Raises ReadError where they were not."""
        try:
            tree = read_json(folder / LISTING)
            return Files(self.place, tree["files"], tree["problems"])
        except (OSError, ValueError, KeyError):
            name = folder.name
            raise ReadError(
                f"{folder / LISTING}: is not there; `dvc repro preprocess@{name}` (or `resblock download {name}`) "
                "lists your files"
            ) from None

    def __str__(self) -> str:
        return self.place.as_posix()


def digested(place: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return the SHA-256 of each file at and below `place` by name, and why others cannot be read. Raises ReadError."""
    found, problems = dict[str, Path](), dict[str, str]()
    for name, path, problem in files_below(place):
        if problem:
            problems[name] = problem
        else:
            found[name] = path
    names = sorted(found)
    digests = dict[str, str]()
    with ThreadPoolExecutor(available_cores()) as pool:  # hashing and reading let go of the interpreter
        for name, digest in zip(names, pool.map(_digest, (found[name] for name in names)), strict=True):
            if isinstance(digest, str):
                digests[name] = digest
            else:
                problems[name] = digest.strerror or str(digest)
    return digests, dict(sorted(problems.items()))


def _digest(path: Path) -> str | OSError:
    try:
        return digest_file(path)
    except OSError as error:
        return error


def files_below(place: Path) -> Iterator[tuple[str, Path, str]]:
    """Yield name, path and what is wrong with it (or nothing) of each file; hidden ones and junk are passed over.

    Raises ReadError where `place` or a folder in it cannot be looked into.
    """
    refuse_missing(place)
    if place.is_file():
        yield place.resolve().name, place, ""
        return
    yield from _walk(place, "", place.resolve())


def refuse_missing(place: Path) -> None:
    """Raise ReadError where nothing is at `place`, or what it links to is gone."""
    if place.is_symlink() and not place.exists():
        raise ReadError(f"{place}: links to {place.readlink()}, which is not there; link it to your images again")
    if not place.exists():
        raise ReadError(f"{place}: is not there; `resblock data add {place.name} PATH` links your images to it")


def _walk(folder: Path, prefix: str, top: Path) -> Iterator[tuple[str, Path, str]]:
    try:
        with os.scandir(folder) as entries:
            inside = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise ReadError(f"{folder}: cannot be looked into ({error.strerror}); change its permissions first") from None
    for entry in inside:
        if entry.name.startswith(".") or entry.name.lower() in JUNK:
            continue
        name, path = prefix + entry.name, Path(entry.path)
        if not _is_text(entry.name):
            yield name.encode("utf-8", "backslashreplace").decode(), path, NO_TEXT
        elif entry.is_dir(follow_symlinks=False):
            yield from _walk(path, f"{name}/", top)
        else:
            yield name, path, _problem(path, top)


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _problem(path: Path, top: Path) -> str:
    """Return why what stands at `path` is no file to be read; empty where it is one."""
    if path.is_symlink():
        target = Path(os.path.realpath(path))
        if not target.exists():
            return NO_TARGET
        if not target.is_relative_to(top):
            return "is a link that leaves the folder"
        if target.is_dir():
            return "is a link to a folder"
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return error.strerror or "cannot be read"
    return "" if stat.S_ISREG(mode) else NO_FILE
