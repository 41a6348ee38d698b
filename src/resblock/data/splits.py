"""Splits: how they are cut and written. `resblock.core.splits` reads them."""

from __future__ import annotations

import io
from dataclasses import asdict
from pathlib import Path

import numpy as np

from resblock.core.files import digest_bytes, write_bytes, write_json
from resblock.core.splits import DESCRIPTION, DatasetDescription, Split, SplitName, array_path


def stratified(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut indices 0 … n-1 of `labels`, int (n,), in two, each class in proportion.

    Returns the larger rest and the part of `fraction`, both sorted. Raises ValueError where a class is too small.
    """
    from sklearn.model_selection import train_test_split  # takes a second to import

    rest, part = train_test_split(np.arange(len(labels)), test_size=fraction, random_state=seed, stratify=labels)
    return np.sort(rest), np.sort(part)


def write_splits(
    folder: Path, splits: dict[SplitName, Split], *, name: str, classes: tuple[str, ...], source: str
) -> DatasetDescription:
    """Write each split as two .npy files and, last, their description."""
    digests: dict[SplitName, str] = {}
    for split_name, split in splits.items():
        images, labels = _npy(np.ascontiguousarray(split.images, np.uint8)), _npy(split.labels.astype(np.int32))
        write_bytes(array_path(folder, split_name, "images"), images)
        write_bytes(array_path(folder, split_name, "labels"), labels)
        digests[split_name] = digest_bytes(images + labels)
    height, width, channels = splits["train"].images.shape[1:]
    description = DatasetDescription(
        name=name,
        classes=classes,
        image_shape=(height, width, channels),
        sizes={split_name: len(split.labels) for split_name, split in splits.items()},
        digests=digests,
        source=source,
    )
    write_json(folder / DESCRIPTION, asdict(description))
    return description


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
