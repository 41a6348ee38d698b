"""The process of DVC that a stage's command was started by, which alone can record what the stage gives."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil

from resblock.running import recorder

LOOK_EVERY = 1.0  # seconds
RECORDER = recorder.__name__


def end_with_dvc() -> None:
    """Let this command end, as by SIGTERM, when the DVC that it was started by has gone without a word.

    Nobody would record its result, and DVC would remove it before the next try. A training that ends in time leaves its
    checkpoint instead, and the next try goes on from there.
    """
    if caller := dvc_above():
        threading.Thread(target=_watch, args=(caller,), daemon=True).start()


def dvc_above() -> psutil.Process | None:
    """Return the process of DVC that started this one, or one of those above it; None where nobody did."""
    for parent in psutil.Process().parents():
        with suppress(psutil.Error):
            if is_dvc(parent.cmdline()):
                return parent
    return None


def is_dvc(words: list[str]) -> bool:
    """Return whether this is the command line of a process of DVC: `dvc`, `python -m dvc` or the recorder."""
    return RECORDER in words or any(Path(word).name == "dvc" for word in words[:3])


def _watch(caller: psutil.Process) -> None:
    while lives(caller):
        time.sleep(LOOK_EVERY)
    print("resblock: DVC, which would have recorded this stage, is gone; so it ends, too", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)


def lives(process: psutil.Process) -> bool:
    """Return whether a process is there, and not only its entry in the system's table."""
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
