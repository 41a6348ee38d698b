"""The side of a stage's command: it hands itself over to the worker that the environment names.

Imports are few here, since every stage of a study waits for them.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

WORKER = "RESBLOCK_WORKER"  # the socket of the worker that runs a command, where one is to
PACKAGE = Path(__file__).resolve().parent.parent
PATIENCE = 20  # seconds for a worker to start


def hand_over(arguments: Sequence[str]) -> int | None:
    """Let the worker that the environment names run `arguments`, and pass on what it prints.

    Returns its exit code; None where there is no worker, or it does not take the command.
    """
    place = os.environ.get(WORKER)
    if not place:
        return None
    with socket.socket(socket.AF_UNIX) as connection:
        if not _connect(connection, Path(place)):
            return None
        # A worker that dies resets the connection or closes it: told apart from its answer either way.
        with suppress(OSError), connection.makefile("rw", encoding="utf-8") as stream:
            request = {
                "arguments": list(arguments),
                "folder": str(Path.cwd()),
                "environment": {name: value for name, value in os.environ.items() if name != WORKER},
                "package": str(PACKAGE),
            }
            print(json.dumps(request), file=stream, flush=True)
            for line in stream:
                answer: dict[str, Any] = json.loads(line)
                if "refused" in answer:
                    return None
                if "code" in answer:
                    return int(answer["code"])
                (sys.stderr if answer["to"] == "stderr" else sys.stdout).write(answer["text"])
                sys.stdout.flush()
    print("resblock: the worker ended in the middle of this stage; run the same command again", file=sys.stderr)
    return 1


def _connect(connection: socket.socket, place: Path) -> bool:
    """Reach the worker whose socket is at `place`; one that has just been started is waited for a while."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            connection.connect(str(place))
        except FileNotFoundError:
            if not place.parent.is_dir() or time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        except OSError:
            return False
        else:
            return True
