"""The data sets that a study may use: those that are published and known here, and a person's own.

A further published one is an entry here, a further format a reader in READERS, and neither is a branch in a stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resblock.core.splits import Split, SplitName
from resblock.data import arrays, cifar10, cifar100, digits, folder, parquet
from resblock.data.collection import Collection, Reader, ReadError, Unreadable, Wishes
from resblock.data.cutting import divide
from resblock.data.download import Archive, Packaged, Source
from resblock.data.listing import SOURCES, Own, refuse_missing
from resblock.data.words import told
from resblock.params import ParamsError, Preparation

# How a person's own files may be read, by the word that `format` is in params.yaml.
READERS: dict[str, Reader] = {
    "folder": folder.read,
    "arrays": arrays.read,
    "parquet": parquet.read,
    "cifar10": cifar10.collect,
    "cifar100": cifar100.read,
}


@dataclass(frozen=True)
class Dataset:
    """Where a data set comes from and how its files are read."""

    name: str
    source: Source
    reader: Reader | None  # None: its entry in params.yaml names the format
    classes: tuple[str, ...] = ()  # as published; empty where the files say

    def collect(self, raw: Path, preparation: Preparation) -> Collection:
        """Return the images in the `raw` files as params.yaml wants them. Raises ReadError, ParamsError."""
        reader, wishes = self._reading(preparation)
        found = reader(self.source.files(raw), wishes)
        height, width, channels = found.image_shape
        if wishes.size not in (None, height) or wishes.channels not in (None, channels):
            raise ParamsError(
                f"{wishes.key}: got size {wishes.size}, channels {wishes.channels}; these files are taken as they are, "
                f"{height}x{width} pixels of {channels} {'channels' if channels > 1 else 'channel'}"
            )
        return found

    def refuse_unknown_words(self, preparation: Preparation) -> None:
        """Raise ReadError or ParamsError where the entry in params.yaml cannot be right, whatever the files hold."""
        reader, wishes = self._reading(preparation)
        if reader is cifar100.read:
            cifar100.chosen(wishes)

    def _reading(self, preparation: Preparation) -> tuple[Reader, Wishes]:
        key = f"data.{self.name}"
        reader = self.reader or READERS.get(preparation.format or "")
        if reader is None:
            given = "missing" if preparation.format is None else f"got {preparation.format!r}"
            raise ParamsError(f"{key}.format: {given}, must be one of {', '.join(READERS)}")
        wishes = Wishes(
            key=key,
            size=preparation.size,
            channels=preparation.channels,
            image=preparation.image,
            label=preparation.label,
            classes=preparation.classes,
        )
        return reader, wishes


DATASETS: Mapping[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            name="digits",
            source=Packaged(
                package="sklearn.datasets.data",
                digests={digits.FILE: "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"},
            ),
            reader=digits.collect,
            classes=digits.CLASSES,
        ),
        Dataset(
            name="cifar10",
            source=Archive(
                url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
                folder="cifar-10-batches-bin",
                digests={
                    "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
                    "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
                    "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
                    "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
                    "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
                    "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
                },
            ),
            reader=cifar10.collect,
            classes=cifar10.CLASSES,
        ),
        Dataset(
            name="cifar100",
            source=Archive(
                url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
                folder="cifar-100-binary",
                digests=dict.fromkeys(cifar100.MEMBERS),  # nobody publishes them
                md5="03b5dce01913d631647c71ecec9e9cb8",  # Krizhevsky's page, https://www.cs.toronto.edu/~kriz/cifar.html
                faults=cifar100.structure_faults,
            ),
            reader=cifar100.read,
        ),
    )
}


def find_dataset(name: str) -> Dataset:
    """Return the published data set called `name`, or the person's own that lies at ``sources/<name>``.

    Raises ParamsError naming those there are.
    """
    if name in DATASETS:
        return DATASETS[name]
    place = SOURCES / name
    if place.exists() or place.is_symlink():
        return Dataset(name, Own(place), reader=None)
    raise ParamsError(
        f"unknown data set {name!r}: there are {', '.join(known_datasets())}, and {place} is not there; "
        f"`resblock data add {name} PATH` links your own images to it"
    )


def require_source(name: str) -> Dataset:
    """Return what `find_dataset` does. Raises ReadError besides where a person's own images are gone."""
    dataset = find_dataset(name)
    if name not in DATASETS:
        refuse_missing(SOURCES / name)
    return dataset


def known_datasets() -> list[str]:
    """Return the names of the published data sets and of the person's own."""
    here = (path.name for path in SOURCES.iterdir()) if SOURCES.is_dir() else ()
    return [*DATASETS, *sorted(name for name in here if name not in DATASETS and not name.startswith("."))]


def prepare(dataset: Dataset, raw: Path, preparation: Preparation) -> dict[SplitName, Split]:
    """Read the `raw` files of a small data set and return its splits in memory; see `write_collection` for the rest.

    Raises ParamsError where the cut cannot be as asked, and ReadError where a picture cannot be read.
    """
    collection = dataset.collect(raw, preparation)
    pictures = list(collection.pictures())
    if unreadable := [picture.reason for picture in pictures if isinstance(picture, Unreadable)]:
        raise ReadError(f"{told(len(unreadable), 'picture', 'cannot', 'cannot')} be read: {unreadable[0]}")
    images = np.stack([picture.pixels for picture in pictures if not isinstance(picture, Unreadable)])
    indices = divide(collection.labels, collection.parts, preparation, dataset.name)
    return {name: Split(images[places], collection.labels[places]) for name, places in indices.items()}
