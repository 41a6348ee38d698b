"""Results as rows: one frozen dataclass per kind of row, one small CSV file per kind."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import pandas as pd

from resblock.core.files import write_bytes

Row = TypeVar("Row")  # a frozen dataclass of text and numbers


def write_rows(path: Path, kind: type[Row], rows: Iterable[Row]) -> None:
    """Write `rows` with one column per field of `kind`, NaN as an empty cell."""
    write_bytes(path, rows_bytes(kind, rows))


def rows_bytes(kind: type[Row], rows: Iterable[Row]) -> bytes:
    """Return what `write_rows` writes."""
    return rows_frame(kind, rows).to_csv(index=False, lineterminator="\n").encode()


def read_rows(path: Path, kind: type[Row]) -> list[Row]:
    """Read what `write_rows` wrote, bit for bit. Raises ValueError where the columns are not those of `kind`."""
    types = {name: hint if hint in (int, float) else str for name, hint in get_type_hints(kind).items()}
    names = [field.name for field in fields(kind)]  # pyright: ignore[reportArgumentType]  (a dataclass)
    floats = [name for name in names if types[name] is float]
    frame = pd.read_csv(
        path,
        dtype={name: "float64" if name in floats else str for name in names},
        keep_default_na=False,  # a class may be called NA
        na_values={name: [""] for name in floats},
    )
    if list(frame.columns) != names:
        raise ValueError(f"{path}: its columns are {', '.join(frame.columns)}, expected {', '.join(names)}")
    records: list[dict[str, Any]] = frame.to_dict("records")  # pyright: ignore[reportAssignmentType]
    return [kind(**{name: types[name](record[name]) for name in names}) for record in records]


def narrowed(row: Any, kind: type[Row]) -> Row:
    """Return `row`, of a kind that adds fields to `kind`, without them."""
    names = [field.name for field in fields(kind)]  # pyright: ignore[reportArgumentType]  (a dataclass)
    return kind(**{name: getattr(row, name) for name in names})


def rows_frame(kind: type[Row], rows: Iterable[Row]) -> pd.DataFrame:
    """Return `rows` as a frame with one column per field of `kind`, in their order."""
    names = [field.name for field in fields(kind)]  # pyright: ignore[reportArgumentType]  (a dataclass)
    return pd.DataFrame([asdict(row) for row in rows], columns=names)  # pyright: ignore[reportArgumentType]
