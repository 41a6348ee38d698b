"""Folders of picture files: ``root/<class>/*`` or ``root/{train,val|validation,test}/<class>/*``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np

from resblock.core.splits import SPLIT_NAMES
from resblock.data.collection import SPLIT_WORDS, Collection, Files, ReadError, Seen, Unreadable, Wishes, named_classes
from resblock.data.decoding import Encoded, decoded, shape_for, spread
from resblock.data.pictures import SUFFIXES
from resblock.data.words import told

PACKED = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar")


class _Place(NamedTuple):
    """Where a picture stands, in the order of pictures: by file name first, so that numbered ones keep their order."""

    file: str
    label: str
    part: int
    name: str  # relative to the root


def read(files: Files, wishes: Wishes) -> Collection:
    """Read pictures at any depth below the folders that name their classes; other files are counted and left.

    Classes are numbered in the order of their names, pictures stand in the order of their file names. Raises ReadError
    where there are no folders of classes.
    """
    pictures = [name for name in (*files.digests, *files.problems) if name.lower().endswith(SUFFIXES)]
    placed, stray = _place(pictures, files)
    if not placed and files.root.is_file():
        what = "is an archive; unpack it, and" if files.root.resolve().name.lower().endswith(PACKED) else "is one file;"
        raise ReadError(f"{files.root}: {what} name the folder that holds a folder for each class")
    if not placed:
        raise ReadError(
            f"{files.root}: no pictures in folders that name their classes; expected {files.root}/<class>/*.png or "
            f"{files.root}/{{train,validation,test}}/<class>/*.png ({', '.join(SUFFIXES)})"
        )
    values = sorted({place.label for place in placed})
    numbers = {value: number for number, value in enumerate(values)}
    encoded = [
        Encoded(files.path(place.name), files.digests[place.name])
        for place in placed
        if place.name not in files.problems
    ]
    shape = shape_for(spread(encoded), wishes)
    return Collection(
        classes=named_classes(values, wishes),
        labels=np.array([numbers[place.label] for place in placed], np.int32),
        parts=np.array([place.part for place in placed], np.int8),
        image_shape=shape,
        pictures=lambda: _pictures(placed, files, encoded, shape),
        names=[place.name for place in placed],
        notes=(
            *_called_as_splits(values),
            *_notes(len(files.digests) - sum(name in files.digests for name in pictures), stray),
            *_lost(files),
        ),
    )


def _pictures(
    placed: Sequence[_Place], files: Files, encoded: Sequence[Encoded], shape: tuple[int, int, int]
) -> Iterator[Seen | Unreadable]:
    """Yield a picture for each place; those that could not even be listed say why."""
    readable = decoded(encoded, len(encoded), shape)
    for place in placed:
        problem = files.problems.get(place.name)
        yield Unreadable(problem) if problem else next(readable)


def _place(pictures: Sequence[str], files: Files) -> tuple[list[_Place], int]:
    """Return where each picture stands, in order, and how many stand in no folder of a class."""
    split = _is_split([PurePosixPath(name).parts for name in pictures], files)
    placed: list[_Place] = []
    for name in pictures:
        parts = PurePosixPath(name).parts
        if len(parts) < (3 if split else 2):
            continue
        part = SPLIT_NAMES.index(SPLIT_WORDS[parts[0].lower()]) if split else 0
        placed.append(_Place(parts[-1], parts[1 if split else 0], part, name))
    placed.sort(key=lambda place: (place.part, *place))
    return placed, len(pictures) - len(placed)


def _is_split(pictures: Sequence[tuple[str, ...]], files: Files) -> bool:
    """Return whether the outermost folders are splits and not classes.

    They are where all are called so, one of them for training, and their pictures lie in folders of their own: a class
    may be called ``train``. Raises ReadError where it could be either.
    """
    outer = {parts[0] for parts in pictures if len(parts) > 1}
    words = {name for name in outer if name.lower() in SPLIT_WORDS}
    deep = {name for name in words if all(len(parts) > 2 for parts in pictures if parts[0] == name)}
    meant = {SPLIT_WORDS[name.lower()] for name in deep}
    if "train" not in meant:
        return False
    others = sorted(outer - deep)
    if len(meant) == 1 and others and words.issuperset(others):
        return True  # a test folder without classes, as competitions ship it: its pictures are left aside
    if others and len(meant) > 1:
        raise ReadError(
            f"{files.root}: {', '.join(sorted(deep))} look like splits, but {', '.join(map(repr, others[:5]))} beside "
            "them do not; move the others away, or put the classes straight into the outermost folder"
        )
    doubled = [word for word, count in Counter(SPLIT_WORDS[name.lower()] for name in deep).items() if count > 1]
    if doubled:
        raise ReadError(f"{files.root}: has two folders for {doubled[0]} ({', '.join(sorted(deep))}); keep one")
    return not others


def _called_as_splits(classes: Sequence[str]) -> list[str]:
    """Say so where all classes are called as splits are: a person may have meant these."""
    if not all(name.lower() in SPLIT_WORDS for name in classes):
        return []
    names = " and ".join(map(repr, classes))
    return [f"{names} are read as classes, since pictures lie in them; splits hold a folder for each class"]


def _lost(files: Files) -> list[str]:
    """Name what is no picture by its name and cannot be read, such as a link to a folder of a class."""
    lost = {name: why for name, why in files.problems.items() if not name.lower().endswith(SUFFIXES)}
    return [f"{name!r} {why}, and was left aside" for name, why in lost.items()]


def _notes(others: int, stray: int) -> tuple[str, ...]:
    notes: list[str] = []
    if others:
        notes.append(told(others, "file", "that is no picture was left aside", "that are no pictures were left aside"))
    if stray:
        place = "in no folder of a class"
        notes.append(told(stray, "picture", f"that lies {place} was left aside", f"that lie {place} were left aside"))
    return tuple(notes)
