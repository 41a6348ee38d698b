"""A person's own images in the making, and read as the stages read them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from resblock.core.splits import SPLIT_NAMES, DatasetDescription, Split, SplitName, read_split
from resblock.data.collection import Collection, Seen
from resblock.data.listing import Own
from resblock.data.preparing import write_collection
from resblock.data.review import Review
from resblock.data.table import Dataset
from resblock.params import Preparation


def pixels(number: int, side: int = 8, channels: int = 3) -> np.ndarray:
    """Return an image of noise, uint8 (side, side, channel), another one for each number."""
    return np.random.default_rng(number).integers(0, 256, (side, side, channels), dtype=np.uint8)


def encoded(image: np.ndarray, form: str = "PNG", **options: Any) -> bytes:
    """Return an image as the content of a file."""
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, form, **options)
    return buffer.getvalue()


def put(path: Path, content: bytes) -> Path:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def fill(root: Path, *folders: str, each: int = 10, first: int = 0) -> None:
    """Put `each` pictures into every one of `folders` below `root`, all of them different."""
    for place, folder in enumerate(folders):
        for number in range(each):
            put(root / folder / f"{number:03d}.png", encoded(pixels(first + 1000 * place + number)))


def preparation(**choices: Any) -> Preparation:
    """Return an entry of params.yaml for folders of pictures, but for what is chosen."""
    defaults = {"format": "folder", "test_fraction": "auto", "validation_fraction": "auto", "split_seed": 0}
    return Preparation.model_validate({**defaults, **choices}, strict=True)


def collect(place: Path, **choices: Any) -> Collection:
    """List the files at `place` and read them as an entry of params.yaml says."""
    source, raw = Own(place), place.parent / f"raw-{place.name}"
    source.fetch(raw, None, lambda _: None)
    return Dataset(place.name, source, None).collect(raw, preparation(**choices))


def cut(place: Path, **choices: Any) -> tuple[DatasetDescription, Review, dict[SplitName, Split]]:
    """Read and cut the images at `place`, as the stages do."""
    folder = place.parent / f"splits-{place.name}"
    chosen = preparation(**choices)
    described, review = write_collection(folder, collect(place, **choices), chosen, name=place.name, source="test")
    return described, review, {split: read_split(folder, split) for split in SPLIT_NAMES}


def images_of(collection: Collection) -> Iterator[np.ndarray]:
    """Yield the pixels of every picture; a picture that cannot be read fails the test."""
    for picture in collection.pictures():
        assert isinstance(picture, Seen), picture.reason
        yield picture.pixels
