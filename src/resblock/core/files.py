"""Files that are either whole or absent, in processes that may die at any moment, and their digests."""

from __future__ import annotations

import fcntl
import glob
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

PARTIAL = ".partial"  # how the name of a file that is being written ends


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write files that appear only when all of them are on the disk, and then in the order given.

    Missing folders are made, and what killed writers left of them is removed. On any error, a full disk too, what stood
    under their names before stays as it was; an OSError names the file.
    """
    with ExitStack() as stack:
        partials = {path: stack.enter_context(_partial(path)) for path in contents}
        for path, (file, _) in partials.items():
            with _naming(path):
                file.write(contents[path])
                file.flush()
                # The content must be on the disk before the name is: a file system may keep a renaming through a power
                # cut and lose the content, which leaves an empty file under a trusted name.
                os.fsync(file.fileno())
        for path, (_, partial) in partials.items():
            with _naming(path):
                partial.replace(path)
        # And the names must be there before what relies on them: a checkpoint goes once the results stand. All of it
        # takes milliseconds, once an epoch.
        for folder in {path.parent for path in contents}:
            _sync_folder(folder)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    write_together({path: content})


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, tree: Mapping[str, Any]) -> None:
    """Write `tree` as indented JSON in the order given; numbers that JSON lacks (NaN, infinity) become null."""
    write_bytes(path, json_bytes(tree))


def json_bytes(tree: Mapping[str, Any]) -> bytes:
    """Return what `write_json` writes."""
    text = json.dumps(_without_nan(tree), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode("utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read what `write_json` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays as one uncompressed .npz; equal arrays give equal bytes."""
    write_bytes(path, arrays_bytes(arrays))


def arrays_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return what `write_arrays` writes."""
    buffer = io.BytesIO()  # zipfile, halted by a full disk, would complain from its destructor
    np.savez(buffer, **arrays)  # pyright: ignore[reportArgumentType]  (its stub takes no mapping)
    return buffer.getvalue()


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


@contextmanager
def exclusive(path: Path) -> Generator[None]:
    """Hold the lock file at `path`, which names this process and is removed afterwards.

    The system lets go of the lock when its holder dies, of whatever. Raises BlockingIOError where another process holds
    it, and another OSError where it cannot be written or the file system has no locks.
    """
    file = _open_locked(path)
    try:
        with _naming(path):
            file.truncate(0)
            file.write(f"{os.getpid()}\n".encode())
            file.flush()
        yield
    finally:
        path.unlink(missing_ok=True)
        file.close()


def _open_locked(path: Path) -> BinaryIO:
    _make_folder(path.parent)
    while True:
        file = path.open("a+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(file, path):
                return file
        except BaseException:
            file.close()
            raise
        file.close()  # its last holder removed it between our opening and our locking


@contextmanager
def _partial(path: Path) -> Generator[tuple[BinaryIO, Path]]:
    """Open a partial file next to `path`, gone after the block unless it was renamed.

    Its writer holds a lock on it until then, so who gets the lock knows that the writer is dead.
    """
    with _naming(path):
        _make_folder(path.parent)
        for left in path.parent.glob(f".{glob.escape(path.name)}.*{PARTIAL}"):
            with suppress(OSError), left.open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left.unlink()
        file, partial = _open_partial(path)
        try:
            with file:
                os.fchmod(file.fileno(), 0o644)  # the 0600 of a temporary file would hide results from a team
                yield file, partial
        finally:
            partial.unlink(missing_ok=True)


def _open_partial(path: Path) -> tuple[BinaryIO, Path]:
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL)
        file, partial = cast(BinaryIO, os.fdopen(handle, "wb")), Path(name)
        with suppress(OSError):  # a file system without locks: leftovers stay there
            fcntl.flock(file, fcntl.LOCK_EX)
        if _is_at(file, partial):
            return file, partial
        file.close()  # another writer took it for a leftover before it was locked


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Return whether the open `file` is what stands at `path`."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _make_folder(folder: Path) -> None:
    """Make `folder` and those above it where they are missing, so that they outlive a power cut."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems cannot
            os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _naming(path: Path) -> Generator[None]:
    """Let an OSError say which file it was about: those of writing do not, those of partial files name these."""
    try:
        yield
    except OSError as error:
        if error.filename is None or str(error.filename).endswith(PARTIAL):
            error.filename, error.filename2 = str(path), None
        raise


def _without_nan(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {key: _without_nan(value) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [_without_nan(value) for value in node]
    if isinstance(node, (float, np.floating)):
        return float(node) if np.isfinite(node) else None
    return node.item() if isinstance(node, np.generic) else node
