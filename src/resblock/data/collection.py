"""The images of a data set before they are cut: what every reader gives, whatever the format."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from resblock.core.errors import UserError
from resblock.core.splits import SPLIT_NAMES, Split, SplitName

# What data sets call their splits, in folders, arrays and files.
SPLIT_WORDS: Mapping[str, SplitName] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


class ReadError(UserError):
    """Raw files cannot be read as asked; the text says which, what was expected and what to do."""


class Unreadable(NamedTuple):
    """A picture that no pixels could be had of."""

    reason: str


class Seen(NamedTuple):
    """A picture as it is to be stored, and how large it was."""

    pixels: np.ndarray  # uint8 (height, width, channel)
    size: tuple[int, int]  # width and height before resizing


@dataclass(frozen=True)
class Collection:
    """Images in a fixed order, read when they are asked for: they need not fit into memory."""

    classes: tuple[str, ...]
    labels: np.ndarray  # int32 (n,)
    parts: np.ndarray  # int8 (n,): places in SPLIT_NAMES that the data set itself gives; all 0 where it is not cut
    image_shape: tuple[int, int, int]  # height, width, channel
    pictures: Callable[[], Iterator[Seen | Unreadable]]  # n of them, in order
    names: Sequence[str]  # how to call each in a message
    notes: tuple[str, ...] = ()  # what was left aside, in sentences

    @property
    def ships(self) -> set[SplitName]:
        """The splits that the data set itself gives."""
        return {SPLIT_NAMES[part] for part in np.unique(self.parts)}


@dataclass(frozen=True)
class Files:
    """Raw files as they were listed or fetched."""

    root: Path  # a folder, or a single file
    digests: Mapping[str, str]  # SHA-256 by name relative to the root, sorted; a single file by its own name
    problems: Mapping[str, str] = field(default_factory=dict[str, str])  # what cannot be read at all, and why

    def path(self, name: str) -> Path:
        """Return where the file called `name` lies."""
        return self.root if self.root.is_file() else self.root / name

    def ending(self, *suffixes: str) -> list[str]:
        """Return the names that end so, in either case of letters. Raises ReadError where one cannot be read."""
        for name, why in self.problems.items():
            if name.lower().endswith(suffixes):
                raise ReadError(f"{self.root}: {name!r} {why}; put the file itself there")
        return [name for name in self.digests if name.lower().endswith(suffixes)]


@dataclass(frozen=True)
class Wishes:
    """How a person wants a data set to be read: keys of its entry in params.yaml."""

    key: str  # of that entry
    size: int | None = None  # pixels of a side; None: as the images are, or 64 for files of many sizes
    channels: int | None = None  # None: as the images are, or 3
    image: str | None = None
    label: str | None = None
    classes: Sequence[str] | None = None


Reader = Callable[[Files, Wishes], Collection]


def in_memory(train: Split, test: Split | None, classes: tuple[str, ...]) -> Collection:
    """Return images that are in memory already, as a collection."""
    splits = [split for split in (train, test) if split is not None]
    labels = np.concatenate([split.labels for split in splits])
    parts = np.repeat(np.array([0, 2], np.int8)[: len(splits)], [len(split.labels) for split in splits])
    height, width, channels = train.images.shape[1:]

    def pictures() -> Iterator[Seen]:
        return (Seen(image, (width, height)) for split in splits for image in split.images)

    return Collection(classes, labels, parts, (height, width, channels), pictures, Numbered([(len(labels), "image ")]))


@dataclass(frozen=True)
class Numbered(Sequence[str]):
    """Names of images that have none, without as many texts in memory."""

    runs: Sequence[tuple[int, str]]  # how many, and what stands before their number, which starts at 0

    def __len__(self) -> int:
        return sum(count for count, _ in self.runs)

    def __getitem__(self, index: int | slice) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        assert isinstance(index, int | np.integer)
        for count, start in self.runs:
            if index < count:
                return f"{start}{index}"
            index -= count
        raise IndexError(index)


def named_classes(values: Sequence[str], wishes: Wishes) -> tuple[str, ...]:
    """Return the classes' names: those that the entry gives, if any, else `values`. Raises ReadError."""
    if wishes.classes is None:
        return tuple(values)
    if len(wishes.classes) != len(values):
        raise ReadError(
            f"{wishes.key}.classes: got {len(wishes.classes)} names, the data have {len(values)} classes: "
            f"{', '.join(map(repr, values[:10]))}{' …' if len(values) > 10 else ''}"
        )
    return tuple(wishes.classes)
