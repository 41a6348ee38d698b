"""Parquet files with the content of picture files and a column of labels, as the Hub's image data sets are stored."""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from resblock.core.splits import SPLIT_NAMES
from resblock.data.collection import (
    SPLIT_WORDS,
    Collection,
    Files,
    Numbered,
    ReadError,
    Wishes,
    named_classes,
)
from resblock.data.decoding import LOOKED_AT, Encoded, decoded, shape_for
from resblock.data.words import told

PLAUSIBLE = 100  # times that a column of packed pictures shrinks at most
SAFE = 2**26  # bytes that may shrink as they like
PORTION = 8  # rows read at once: a dictionary holds once what many rows unpack to, so that their number bounds memory
KINDS = {"image": "the content of picture files", "label": "whole numbers or words"}
IMAGE_WORDS, LABEL_WORDS = ("image", "img", "picture", "photo"), ("label", "labels", "fine_label", "class", "target")


def read(files: Files, wishes: Wishes) -> Collection:
    """Read all files in the order of their names; a name with ``train``, ``validation`` or ``test`` tells the split.

    Raises ReadError.
    """
    names = files.ending(".parquet")
    if not names:
        raise ReadError(f"{files.root}: expected files that end in .parquet, found none")
    names.sort(key=lambda name: (_part(name), name))
    paths = [files.path(name) for name in names]
    image, label = _columns(paths[0], wishes)
    for path in paths[1:]:
        _columns(path, replace(wishes, image=image, label=label))
    counts = [_count(path, image) for path in paths]
    if counts[0] and not any(islice(_contents(paths[0], image, PORTION), LOOKED_AT)):
        raise ReadError(
            f"{paths[0]}: its column {image} holds no content of pictures, perhaps their paths alone; save the "
            "pictures themselves in it"
        )
    values, labels = _labels(paths, label)
    shape = shape_for(islice(_encoded(paths, image), LOOKED_AT), wishes)
    return Collection(
        classes=named_classes(_names(paths[0], label, values), wishes),
        labels=labels,
        parts=np.repeat(np.array([_part(name) for name in names], np.int8), counts),
        image_shape=shape,
        pictures=lambda: decoded(_encoded(paths, image), len(labels), shape),
        names=Numbered([(count, f"{name}, row ") for count, name in zip(counts, names, strict=True)]),
    )


def _encoded(paths: Sequence[Path], image: str) -> Iterator[Encoded]:
    return (Encoded(content or b"") for path in paths for content in _contents(path, image, PORTION))


def _contents(path: Path, image: str, at_once: int) -> Iterator[bytes | None]:
    """Yield the content of each picture file in a column, which holds it plain or as ``bytes`` of a structure."""
    import pyarrow as pa

    with _opened(path) as file:
        for batch in file.iter_batches(batch_size=at_once, columns=[image]):
            column = batch.column(0)
            if pa.types.is_struct(column.type):
                column = column.field("bytes")
            for cell in column:
                yield cell.as_py()


def _columns(path: Path, wishes: Wishes) -> tuple[str, str]:
    """Return the columns of pictures and labels: those wished for, else those that are called so."""
    import pyarrow as pa

    with _opened(path) as file:
        schema = file.schema_arrow
    holds_bytes = [field.name for field in schema if _holds_bytes(field.type, pa)]
    holds_labels = [field.name for field in schema if _holds_labels(field.type, pa)]
    return (
        _chosen(path, wishes, "image", wishes.image, holds_bytes, IMAGE_WORDS),
        _chosen(path, wishes, "label", wishes.label, holds_labels, LABEL_WORDS),
    )


def _holds_labels(kind: Any, pa: Any) -> bool:
    if pa.types.is_dictionary(kind):
        return _holds_labels(kind.value_type, pa)
    tests = (pa.types.is_integer, pa.types.is_string, pa.types.is_large_string, pa.types.is_boolean)
    return any(test(kind) for test in tests)


def _holds_bytes(kind: Any, pa: Any) -> bool:
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _holds_bytes(kind.field(index).type, pa)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _chosen(
    path: Path, wishes: Wishes, key: str, wished: str | None, there: Sequence[str], words: Sequence[str]
) -> str:
    known = [name for name in words if name in there]
    if wished is None and (known or len(there) == 1):
        return known[0] if known else there[0]
    if wished in there and wished is not None:
        return wished
    raise ReadError(
        f"{wishes.key}.{key}: got {repr(wished) if wished else 'nothing'}, must be one of {path}'s columns "
        f"{', '.join(there) or f'(it has none that could be: {KINDS[key]})'}"
    )


def _count(path: Path, image: str) -> int:
    """Return the number of rows. Raises ReadError where the pictures would unpack to more than pictures do."""
    with _opened(path) as file:
        metadata = file.metadata
        for group in range(metadata.num_row_groups):
            columns = [metadata.row_group(group).column(index) for index in range(metadata.num_columns)]
            for column in columns:
                packed, whole = column.total_compressed_size, column.total_uncompressed_size
                if whole > SAFE and whole > PLAUSIBLE * max(1, packed):
                    raise ReadError(
                        f"{path}: column {column.path_in_schema} unpacks from {packed:,} bytes to {whole:,}; no "
                        "pictures do that, so it is refused"
                    )
        return metadata.num_rows


def _labels(paths: Sequence[Path], label: str) -> tuple[list[Any], np.ndarray]:
    """Return the classes' values, sorted, and each row's place among them."""
    found: list[np.ndarray] = []
    for path in paths:
        with _opened(path) as file:
            column = file.read(columns=[label]).column(0)
        if column.null_count:
            rows = told(column.null_count, "row", "has", "have")
            raise ReadError(f"{path}: {rows} no {label}; take them out")
        plain = getattr(column.type, "value_type", column.type)  # of a dictionary; others have none
        found.append(column.cast(plain).to_numpy())
    kinds = {"u": "i"}
    if len({kinds.get(each.dtype.kind, each.dtype.kind) for each in found}) > 1:
        raise ReadError(f"{paths[0].parent}: {label} holds numbers in one file and words in another; make them alike")
    values, places = np.unique(np.concatenate(found), return_inverse=True)
    return values.tolist(), places.astype(np.int32)


def _names(path: Path, label: str, values: Sequence[Any]) -> list[str]:
    """Return the classes' names: those that the Hub's metadata give to the numbers, else the values themselves."""
    with _opened(path) as file:
        metadata: Mapping[bytes, bytes] = file.schema_arrow.metadata or {}
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"][label]["names"]
        if min(values) < 0:
            raise ReadError(f"{path.parent}: rows with {label} {min(values)} have no class; take them out")
        return [str(names[value]) for value in values]
    except (KeyError, IndexError, TypeError, ValueError):
        return [str(value) for value in values]


def _part(name: str) -> int:
    """Return the place in SPLIT_NAMES that a file's name or its folders tell, 0 where they tell none."""
    path = PurePosixPath(name.lower())
    words = [*path.parts[:-1], *re.split("[-_.]", path.stem)]
    known = [SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS]
    return SPLIT_NAMES.index(known[0]) if known else 0


@contextmanager
def _opened(path: Path) -> Generator[Any]:
    """Open a file for the block; damage there becomes a ReadError."""
    import pyarrow as pa  # 0.2 s to import, and only this format needs it
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError, MemoryError) as error:
        raise ReadError(f"{path}: cannot be read ({' '.join(str(error).split())[:200]}); is it a whole file?") from None
