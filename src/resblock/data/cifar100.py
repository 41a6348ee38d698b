"""CIFAR-100's official binary version (Krizhevsky 2009): records of a coarse and a fine label byte and 3,072 pixels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from resblock.data.cifar10 import CHANNELS, SIDE, images_of
from resblock.data.collection import Collection, Files, Numbered, ReadError, Seen, Wishes, named_classes

TRAIN_FILE, TEST_FILE = "train.bin", "test.bin"
NAME_FILES = {"fine": "fine_label_names.txt", "coarse": "coarse_label_names.txt"}
MEMBERS = (TRAIN_FILE, TEST_FILE, *NAME_FILES.values())
RECORD = 2 + CHANNELS * SIDE * SIDE
FINE_CLASSES, COARSE_CLASSES = 100, 20
PER_CLASS = {TRAIN_FILE: 500, TEST_FILE: 100}  # images of each fine class


def read(files: Files, wishes: Wishes) -> Collection:
    """Read the official training and test set, uint8 (32, 32, 3) each; `label` fine (default) or coarse."""
    which = chosen(wishes)
    parts = [_records(_found(files, name)) for name in (TRAIN_FILE, TEST_FILE)]
    names = _found(files, NAME_FILES[which]).read_text(encoding="utf-8").split()
    labels = np.concatenate([records[:, list(NAME_FILES)[::-1].index(which)] for records in parts]).astype(np.int32)
    if labels.max() >= len(names):
        raise ReadError(f"{files.root}: holds labels up to {labels.max()}, but {len(names)} names of classes")

    def pictures() -> Iterator[Seen]:
        return (Seen(image, (SIDE, SIDE)) for records in parts for image in images_of(records[:, 2:]))

    return Collection(
        classes=named_classes(names, wishes),
        labels=labels,
        parts=np.repeat(np.array([0, 2], np.int8), [len(records) for records in parts]),
        image_shape=(SIDE, SIDE, CHANNELS),
        pictures=pictures,
        names=Numbered([(len(parts[0]), "train image "), (len(parts[1]), "test image ")]),
    )


def chosen(wishes: Wishes) -> str:
    """Return which of the two labels is wished for. Raises ReadError where it is another word."""
    which = wishes.label or "fine"
    if which not in NAME_FILES:
        raise ReadError(f"{wishes.key}.label: got {which!r}, must be {' or '.join(NAME_FILES)}")
    return which


def structure_faults(folder: Path) -> list[str]:
    """Say in what the members in `folder` are not built as CIFAR-100 is: record length, counts, images per class."""
    faults: list[str] = []
    for name, per_class in PER_CLASS.items():
        size = (folder / name).stat().st_size
        if size != RECORD * per_class * FINE_CLASSES:
            faults.append(f"{name} has {size:,} bytes, expected {RECORD * per_class * FINE_CLASSES:,}")
            continue
        records = _records(folder / name)
        if not np.array_equal(np.bincount(records[:, 1], minlength=256)[:FINE_CLASSES], [per_class] * FINE_CLASSES):
            faults.append(f"{name} does not hold {per_class} images of each of {FINE_CLASSES} classes")
        if records[:, 0].max() >= COARSE_CLASSES:
            faults.append(f"{name} holds coarse labels from {COARSE_CLASSES} on")
    for which, count in (("fine", FINE_CLASSES), ("coarse", COARSE_CLASSES)):
        names = (folder / NAME_FILES[which]).read_text(encoding="utf-8", errors="replace").split()
        if len(set(names)) != count:
            faults.append(f"{NAME_FILES[which]} has {len(set(names))} names, expected {count}")
    return faults


def _found(files: Files, name: str) -> Path:
    found = [each for each in files.digests if each.rpartition("/")[2] == name]
    if len(found) != 1:
        raise ReadError(f"{files.root}: expected one {name}, found {len(found)}; unpack the official archive there")
    return files.path(found[0])


def _records(path: Path) -> np.ndarray:
    content = np.fromfile(path, np.uint8)
    if not len(content) or len(content) % RECORD:
        raise ReadError(f"{path}: has {len(content):,} bytes, which is no whole number of records of {RECORD:,}")
    return content.reshape(-1, RECORD)
