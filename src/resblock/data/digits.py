"""The UCI handwritten digits that scikit-learn ships: 1,797 images of 8x8, 17 grey levels."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from resblock.core.splits import Split
from resblock.data.collection import Collection, Files, Wishes, in_memory, named_classes

FILE = "digits.csv.gz"
CLASSES = tuple("0123456789")
LEVELS = 16  # the brightest grey


def collect(files: Files, wishes: Wishes) -> Collection:
    """Read all images as a collection."""
    return in_memory(*read(files.root), named_classes(CLASSES, wishes))


def read(folder: Path) -> tuple[Split, None]:
    """Read all images, uint8 (1797, 8, 8, 1), and labels, int32 (1797,). There is no official test set.

    Grey levels 0 … 16 are stretched to 0 … 255, so that rescaling by 1/255 means the same as elsewhere.
    """
    with gzip.open(folder / FILE, "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.float64)  # (image, 64 pixels and the class)
    images = np.rint(table[:, :-1] * (255 / LEVELS)).astype(np.uint8).reshape(-1, 8, 8, 1)
    return Split(images, table[:, -1].astype(np.int32)), None
