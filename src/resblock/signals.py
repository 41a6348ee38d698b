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


@contextmanager
def uninterrupted() -> Generator[None]:
    """Hold back Ctrl-C and SIGTERM until the block has ended; a second one, later, cuts through."""
    handlers = {number: signal.getsignal(number) for number in HELD}
    if threading.current_thread() is not threading.main_thread() or None in handlers.values():
        yield  # only the main thread is interrupted, and handlers set outside Python cannot be put back
        return
    arrived: list[tuple[int, float]] = []

    def hold(number: int, frame: FrameType | None) -> None:
        arrived.append((number, time.monotonic()))
        handler = handlers[signal.Signals(number)]
        if len(arrived) > 1 and arrived[-1][1] - arrived[0][1] > SAME_WISH and callable(handler):
            handler(number, frame)

    for number in HELD:
        signal.signal(number, hold)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if arrived:
            signal.raise_signal(arrived[0][0])
