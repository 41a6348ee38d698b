"""Files that are either whole or absent, and their digests."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np


@contextmanager
def atomic(path: Path) -> Generator[BinaryIO]:
    """Open a binary file that appears under `path` only when the block ends well.

    Missing folders are made. On any error, a full disk too, what stood under `path` before stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    partial = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield cast(BinaryIO, file)
            file.flush()
            os.fsync(file.fileno())
        partial.chmod(0o644)  # mkstemp's 0600 would hide results from a team
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    with atomic(path) as file:
        file.write(content)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, tree: Mapping[str, Any]) -> None:
    """Write `tree` as indented JSON in the order given; numbers that JSON lacks (NaN, infinity) become null."""
    write_text(path, json.dumps(_without_nan(tree), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read what `write_json` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays as one uncompressed .npz; equal arrays give equal bytes."""
    with atomic(path) as file:
        np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]  (its stub takes no mapping)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read what `write_arrays` wrote. Never unpickles. Raises ValueError or BadZipFile where the file is damaged."""
    with path.open("rb") as file:  # np.load itself leaves a damaged archive open
        try:
            with np.load(file, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except RuntimeError as error:  # zipfile's answer to flags and methods that only damage brings about
            raise ValueError(str(error)) from None


def digest_bytes(content: bytes) -> str:
    """Return the SHA-256 of `content`, in hex."""
    return hashlib.sha256(content).hexdigest()


def digest_file(path: Path) -> str:
    """Return the SHA-256 of the file at `path`, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_tree(tree: Mapping[str, Any]) -> str:
    """Return the SHA-256 of `tree` as canonical JSON: equal content gives equal digests in any order of keys."""
    return digest_bytes(json.dumps(tree, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())


def digest_sources(*rooms: Path) -> str:
    """Return the SHA-256 over the Python files at and below `rooms`, by name relative to each room's parent."""
    total = hashlib.sha256()
    for room in rooms:
        files = sorted(room.rglob("*.py")) if room.is_dir() else [room]
        for file in files:
            total.update(f"{file.relative_to(room.parent)}\0{digest_file(file)}\n".encode())
    return total.hexdigest()


def _without_nan(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {key: _without_nan(value) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [_without_nan(value) for value in node]
    if isinstance(node, (float, np.floating)):
        return float(node) if np.isfinite(node) else None
    return node.item() if isinstance(node, np.generic) else node
