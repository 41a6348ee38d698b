"""Which process writes a run, and whether it still lives: a killed one cannot say so itself."""

from __future__ import annotations

import hashlib
import os
import socket
import time
import uuid
from contextlib import suppress
from pathlib import Path

import psutil

SILENCE = 7 * 24 * 3600  # seconds after which a process on another machine, which cannot be asked, counts as gone
MACHINE = Path("/etc/machine-id")  # of Linux
DRAWN = 1 << 40  # the bit of a number that Python drew
_CLOCK_SLACK = 5.0  # seconds by which a corrected clock may move a process's start


def this_process() -> str:
    """Return what identifies this process: ``<host>-<machine>/<process id>/<start, seconds since 1970>``."""
    return f"{_machine()}/{os.getpid()}/{psutil.Process().create_time():.2f}"


def is_gone(process: str | None, run_started: float) -> bool:
    """Return whether the `process` of a run that calls itself running has ended.

    On this machine that is known. A process of another machine, or one that left no word of itself, counts as alive
    until it is older than `SILENCE`; `run_started` is in seconds since 1970.
    """
    machine, pid, started = _parse(process)
    if machine != _machine():
        return time.time() - (started or run_started) > SILENCE
    try:
        found = psutil.Process(pid)
        alive = found.status() != psutil.STATUS_ZOMBIE and abs(found.create_time() - started) < _CLOCK_SLACK
    except psutil.NoSuchProcess:
        return True
    return not alive


def on_this_machine(process: str | None) -> bool:
    """Return whether `process`, dead or alive, is one of this machine's."""
    return _parse(process)[0] == _machine()


def _parse(process: str | None) -> tuple[str, int, float]:
    machine, _, rest = (process or "").partition("/")
    pid, _, started = rest.partition("/")
    try:
        return machine, int(pid), float(started)
    except ValueError:
        return "", 0, 0.0


def _hardware() -> str:
    """Return the machine's own number, or its network card's; empty where it has neither, as many a container.

    Where there is no card, Python draws a number for each process anew, and marks it by a bit (RFC 4122, section 4.5).
    """
    with suppress(OSError):
        if own := MACHINE.read_text(encoding="ascii").strip():
            return own
    number = uuid.getnode()
    return "" if number & DRAWN else f"{number:x}"


def _machine() -> str:
    """Return a name for what shares one table of processes: a host, or a container on it."""
    namespace = Path("/proc/self/ns/pid")
    parts = (socket.gethostname(), _hardware(), str(namespace.readlink()) if namespace.is_symlink() else "")
    return f"{parts[0].replace('/', '-')}-{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:8]}"
