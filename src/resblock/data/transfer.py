"""One file from the web: a transfer that was cut goes on where it was cut."""

from __future__ import annotations

import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from resblock.core.files import read_json, write_json

ATTEMPTS = 3
PAUSE = 2  # seconds between attempts
TIMEOUT = 30  # seconds without a byte
AT_ONCE = 2**18  # bytes
CUT = (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError)

Progress = Callable[[int, int], None]  # bytes done, bytes in all


def transfer(url: str, path: Path, progress: Progress) -> None:
    """Bring the file at `url` to `path`; what an earlier call left there is continued, if it is still the same file.

    Raises OSError where that cannot be; what has come stays for the next call.
    """
    for attempt in range(ATTEMPTS):
        try:
            _continue(url, path, progress)
            return
        except CUT as error:
            if isinstance(error, urllib.error.HTTPError) and error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                forget(path)  # it has shrunk since
                continue
            hopeless = isinstance(error, urllib.error.HTTPError) and 400 <= error.code < 500
            if hopeless or attempt == ATTEMPTS - 1:
                raise _plain(error) from None
            time.sleep(PAUSE)
    raise ConnectionError("the server takes back what it offers")


def forget(path: Path) -> None:
    """Remove what `transfer` has brought to `path`."""
    path.unlink(missing_ok=True)
    _origin(path).unlink(missing_ok=True)


def _continue(url: str, path: Path, progress: Progress) -> None:
    done = path.stat().st_size if path.is_file() and (_origin(path)).is_file() else 0
    origin = read_json(_origin(path)) if done else {}
    if origin.get("url") != url or not origin.get("version"):
        done = 0  # of another file, or nothing tells whether it is the same one
    if done and done == origin.get("bytes"):
        return
    headers = {"User-Agent": "resblock", "Accept-Encoding": "identity"}
    if done:
        headers |= {"Range": f"bytes={done}-", "If-Range": origin["version"]}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310  (its scheme was looked at)
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
        if getattr(answer, "status", None) != http.client.PARTIAL_CONTENT:
            done = 0
        left = int(answer.headers.get("Content-Length") or -1)
        total = done + left if left >= 0 else -1
        path.parent.mkdir(parents=True, exist_ok=True)
        version = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        write_json(_origin(path), {"url": url, "version": version, "bytes": total})
        _pour(answer, path, done, total, progress)


def _pour(answer: Any, path: Path, done: int, total: int, progress: Progress) -> None:
    """Write what comes behind the first `done` bytes. Raises ConnectionError where it ends too soon."""
    with path.open("r+b" if done else "wb") as file:
        file.seek(done)
        file.truncate()
        while True:
            try:
                part = answer.read(AT_ONCE)
            except http.client.IncompleteRead as error:
                part, total = error.partial, max(total, done + len(error.partial) + 1)
            if not part:
                break
            try:
                file.write(part)
            except OSError as error:
                error.filename = str(path)
                raise
            done += len(part)
            progress(done, total)
        file.flush()
        os.fsync(file.fileno())
    if total >= 0 and done < total:
        raise ConnectionError(f"the connection broke after {done:,} of {total:,} bytes")


def _origin(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _plain(error: Exception) -> OSError:
    """Return what an error says in the end: the library wraps "name not known" in its own."""
    if isinstance(error, urllib.error.HTTPError):
        return ConnectionError(f"{error.code} {error.reason}")
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    text = " ".join(str(reason).split()) or type(reason).__name__
    return ConnectionError(text)
