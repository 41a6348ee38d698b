"""Processes that import Keras once and then run one stage after the other.

A stage is started by DVC as everywhere, `resblock train …`; where `WORKER` names a worker's socket, that command only
hands itself over and passes on what the worker prints. DVC sees what it always sees. Trainings that differ in the seed
alone share one compiled step, if the same worker gets them one after the other.

Whatever is not as the worker expects (other code than it imported, another number of threads, a worker that is gone)
runs in the command's own process instead (`handover`).
"""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

from resblock.core.backends import NAMES, variables_that_change_bits
from resblock.core.files import digest_sources
from resblock.running.handover import PACKAGE, WORKER

LONGEST = 70  # bytes of a folder's name: a socket's whole address may have 104 at most
SHORT = "/tmp"  # noqa: S108  (a folder of its own is made in there)
PATIENCE = 20  # seconds for a worker to end

Handler = Callable[[Sequence[str]], int | None]  # arguments of the command line to an exit code; None: not here
END = b'"end"\n'  # asks a worker to end


def _what_decides() -> dict[str, Any]:
    """Return what this process has taken in when it started, and a command may want otherwise: code and backend.

    Returns nothing where sources cannot be read, as the lock of an editor, which is a link to nowhere.
    """
    chosen = os.environ.get("KERAS_BACKEND", NAMES[0])
    with suppress(OSError):
        return {"code": digest_sources(PACKAGE), "backend": chosen, "variables": variables_that_change_bits()}
    return {}


@dataclass
class Worker:
    """A process that runs commands; it ends with the block."""

    process: subprocess.Popen[bytes]
    folder: tempfile.TemporaryDirectory[str]
    variables: Mapping[str, str] = field(default_factory=dict[str, str])  # that its commands are started with as well

    @classmethod
    def start(cls, variables: Mapping[str, str] | None = None) -> Self:
        """Start a process that imports what stages need while others work."""
        too_long = len(os.fsencode(tempfile.gettempdir())) > LONGEST
        folder = tempfile.TemporaryDirectory(prefix="resblock-", dir=SHORT if too_long else None)
        command = [sys.executable, "-m", "resblock", "work", str(Path(folder.name) / "socket")]
        # Its own group: Ctrl-C reaches it through the command that it works for, or when it is told to end.
        process = subprocess.Popen(  # noqa: S603
            command, process_group=0, stdin=subprocess.DEVNULL, env={**os.environ, **(variables or {})}
        )
        return cls(process, folder, variables or {})

    @property
    def environment(self) -> dict[str, str]:
        """What a command is started with that this worker is to run."""
        return {WORKER: str(Path(self.folder.name) / "socket"), **self.variables}

    @property
    def lives(self) -> bool:
        """Whether its process is there."""
        return self.process.poll() is None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # One that waits for work ends when it is asked to, one that is at work or still starting by a signal.
        ways = [self.process.terminate, self.process.kill]
        with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.environment[WORKER])
            connection.sendall(END)
            ways.insert(0, lambda: None)
        for end in ways:
            end()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(PATIENCE)
                break
        self.folder.cleanup()


def serve(place: Path, handle: Handler, prepare: Callable[[], None] = lambda: None) -> None:
    """Run what comes to the socket at `place`, one command at a time, until it is asked to end, or SIGTERM.

    What comes before `prepare` has ended waits for it.
    """
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen()
        decides = _what_decides()
        prepare()
        while True:
            connection, _ = listener.accept()
            with connection, connection.makefile("rw", encoding="utf-8") as stream:
                line = stream.readline()
                if line.encode() == END:
                    return
                if not line.endswith("\n"):  # whoever connected is gone before saying what for
                    continue
                request: dict[str, Any] = json.loads(line)
                fits = (request.get("folder"), request.get("package")) == (str(Path.cwd()), str(PACKAGE))
                ended = _run(request, stream, connection, handle, decides) if fits and decides else None
                _answer(stream, **({"refused": True} if ended is None else {"code": ended}))


def _run(
    request: dict[str, Any], stream: IO[str], connection: socket.socket, handle: Handler, decides: dict[str, Any]
) -> int | None:
    """Run one command as if it had a process of its own; end where its caller is gone.

    Returns None where that process would take in something else than `decides`.
    """
    before = dict(os.environ)
    done = threading.Event()
    threading.Thread(target=_end_with_caller, args=(connection, done), daemon=True).start()
    os.environ.clear()
    os.environ.update(request["environment"])
    try:
        with redirect_stdout(_Sender(stream, "stdout")), redirect_stderr(_Sender(stream, "stderr")):
            try:
                return handle(request["arguments"]) if _what_decides() == decides else None
            except Exception:  # a fault of ours: shown as it would be, and the next command is another matter
                traceback.print_exc()
                return 1
    finally:
        done.set()
        os.environ.clear()
        os.environ.update(before)


def _end_with_caller(connection: socket.socket, done: threading.Event) -> None:
    """Interrupt this process where the command that it works for has ended first, by Ctrl-C for instance."""
    with suppress(OSError):
        gone = connection.recv(1, socket.MSG_PEEK) == b""
        if gone and not done.is_set():
            os.kill(os.getpid(), signal.SIGINT)


def _end_with_parent(parent: int) -> None:
    """End this process where the one that started it is gone, of whatever."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


class _Sender(io.TextIOBase):
    """Passes text on to the command that is being worked for."""

    def __init__(self, stream: IO[str], to: str) -> None:
        self._stream, self._to = stream, to

    def write(self, text: str) -> int:
        with suppress(OSError):  # its caller is gone; `_end_with_caller` sees to that
            _answer(self._stream, to=self._to, text=text)
        return len(text)

    def writable(self) -> bool:
        return True


def _answer(stream: IO[str], **answer: Any) -> None:
    print(json.dumps(answer), file=stream, flush=True)
