"""Train, validation and test as the networks read them. `resblock.data.splits` writes them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from resblock.core.errors import UserError
from resblock.core.files import digest_tree, read_json

SplitName = Literal["train", "validation", "test"]
SPLIT_NAMES: tuple[SplitName, ...] = ("train", "validation", "test")
DESCRIPTION = "dataset.json"
MEAN_AT_ONCE = 1000  # images; bounds memory
READ_AT_ONCE = 2**20  # bytes


class Split(NamedTuple):
    """Images and their classes."""

    images: np.ndarray  # uint8 (n, height, width, channel), perhaps mapped from a file
    labels: np.ndarray  # int32 (n,)

    def take(self, indices: np.ndarray) -> Split:
        """Return the images at `indices`, int (m,), in that order, in memory."""
        return Split(self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class DatasetDescription:
    """What dataset.json says of the arrays next to it."""

    name: str
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]  # height, width, channel
    sizes: dict[SplitName, int]
    digests: dict[SplitName, str]  # SHA-256 over images and labels
    source: str

    @property
    def digest(self) -> str:
        """One SHA-256 for the three splits."""
        return digest_tree({str(name): digest for name, digest in self.digests.items()})


def read_split(folder: Path, name: SplitName) -> Split:
    """Read one split, its images mapped from their file: only what is looked at comes into memory."""
    images = np.load(array_path(folder, name, "images"), mmap_mode="r", allow_pickle=False)
    return Split(images, np.load(array_path(folder, name, "labels"), allow_pickle=False))


def read_verified(folder: Path, dataset: DatasetDescription, name: SplitName) -> Split:
    """Read one split that is, to the byte, what `dataset` says of it.

    Raises UserError where it is not: hours of training on other images would bear this data set's name.
    """
    total = hashlib.sha256()
    for kind in ("images", "labels"):
        try:
            with array_path(folder, name, kind).open("rb") as file:
                while part := file.read(READ_AT_ONCE):
                    total.update(part)
        except FileNotFoundError as error:
            raise UserError(f"{error.filename}: is not there; {_remedy(dataset.name)}") from None
    if total.hexdigest() != dataset.digests[name]:
        raise UserError(
            f"{folder}: its {name} images are not those of {DESCRIPTION}; "
            f"`dvc repro --force preprocess@{dataset.name}` makes them anew"
        )
    return read_split(folder, name)


def mean_image(images: np.ndarray) -> np.ndarray:
    """Return the mean of `images`, uint8 (n, height, width, channel), as float64 (height, width, channel)."""
    total = np.zeros(images.shape[1:], np.int64)
    for start in range(0, len(images), MEAN_AT_ONCE):
        total += images[start : start + MEAN_AT_ONCE].sum(axis=0, dtype=np.int64)
    return total / len(images)


def read_description(folder: Path) -> DatasetDescription:
    """Read what the splits in `folder` are. Raises UserError where that is missing or damaged."""
    path = folder / DESCRIPTION
    try:
        tree = read_json(path)
        tree["classes"], tree["image_shape"] = tuple(tree["classes"]), tuple(tree["image_shape"])
        return DatasetDescription(**tree)
    except FileNotFoundError:
        raise UserError(f"{folder}: no splits there; {_remedy(folder.name)}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: damaged ({error}); {_remedy(folder.name)}") from None


def _remedy(dataset: str) -> str:
    return f"`dvc repro preprocess@{dataset}` makes them"


def array_path(folder: Path, split: SplitName, kind: Literal["images", "labels"]) -> Path:
    """Return the file of one array of a split."""
    return folder / f"{split}_{kind}.npy"
