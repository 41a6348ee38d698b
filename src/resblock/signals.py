"""Signals that must wait.

Cut short in the middle of a call, MLflow leaves its database locked or half made, and TensorFlow's import aborts.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

HELD = (signal.SIGINT, signal.SIGTERM)
SAME_WISH = 2.0  # seconds: a terminal and a parent process may both pass on one Ctrl-C

ARRIVED: list[tuple[int, float]] = []  # signals that a command has heard as a wish to end, and when; it notes them here


@contextmanager
def uninterrupted() -> Generator[None]:
    """Hold back Ctrl-C and SIGTERM until the block has ended; a second one, later, cuts through.

    The first may have come before the block, which is then part of an orderly end.
    """
    handlers = {number: signal.getsignal(number) for number in HELD}
    if threading.current_thread() is not threading.main_thread() or None in handlers.values():
        yield  # only the main thread is interrupted, and handlers set outside Python cannot be put back
        return
    held: list[tuple[int, float]] = []

    def hold(number: int, frame: FrameType | None) -> None:
        held.append((number, time.monotonic()))
        handler = handlers[signal.Signals(number)]
        if held[-1][1] - [*ARRIVED, *held][0][1] > SAME_WISH and callable(handler):
            handler(number, frame)

    for number in HELD:
        signal.signal(number, hold)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if held:
            signal.raise_signal(held[0][0])
