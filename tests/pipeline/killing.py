"""End a `resblock` process at a chosen moment: in the middle of a write, before a renaming, some time after an import.

Moments are what Python's audit events tell (PEP 578), so the code that is killed knows nothing of its tests.
"""

from __future__ import annotations

import fnmatch
import json
import os
import resource
import signal
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
VARIABLE = "RESBLOCK_TEST_MOMENT"


@dataclass(frozen=True)
class Moment:
    """The `nth` time that `event` happens to what matches `pattern`, or `seconds` later; the process gets `signal`.

    With `size`, the file that is opened then takes that many bytes and kills its writer at the next: the system does so
    by a limit on the size of files.
    """

    event: str
    pattern: str
    nth: int = 1
    seconds: float = 0.0
    size: int | None = None
    signal: int = signal.SIGKILL

    def environment(self) -> dict[str, str]:
        """Return what tells a child process of this moment."""
        return {VARIABLE: json.dumps(asdict(self))}


def make_command(folder: Path) -> Path:
    """Make a `resblock` in `folder` that ends when the environment says; put `folder` first into PATH."""
    folder.mkdir(exist_ok=True)
    command = folder / "resblock"
    command.write_text(
        f"#!{sys.executable}\n"
        f"import os, sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        # The project's own code, or the command would start itself anew with that, and nobody would end it.
        "sys.path.insert(0, os.path.abspath('src'))\n"
        "from tests.pipeline.killing import arm\narm()\n"
        "from resblock.cli import main\nmain()\n"
    )
    command.chmod(0o755)
    return command


def arm() -> None:
    """Wait for the moment that the environment names, if it names one."""
    if VARIABLE not in os.environ:
        return
    moment, seen = Moment(**json.loads(os.environ[VARIABLE])), 0
    out = os.dup(2)  # heard even while the command holds back what C++ says

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event != moment.event:
            return
        # A renaming is told with both names; the one that a file gets is meant.
        if not fnmatch.fnmatch(str(arguments[1 if event == "os.rename" else 0]), moment.pattern):
            return
        seen += 1
        if seen == moment.nth:
            _act(moment, out)

    sys.addaudithook(hook)


def _act(moment: Moment, out: int) -> None:
    if moment.size is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (moment.size, moment.size))
    elif moment.seconds:
        timer = threading.Timer(moment.seconds, _end, [moment.signal, out])
        timer.daemon = True
        timer.start()
    else:
        _end(moment.signal, out)


def _end(number: int, out: int) -> None:
    if number == signal.SIGKILL:
        os.killpg(0, number)  # as a power cut does: DVC and the shell go too
    os.write(out, b"signalled\n")
    os.kill(os.getpid(), number)
