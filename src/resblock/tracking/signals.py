"""Signals that must wait: cut short in the middle of a call, MLflow leaves its database locked or half made."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

_HELD = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def uninterrupted() -> Generator[None]:
    """Hold back Ctrl-C and SIGTERM until the block has ended; a second one cuts through."""
    handlers = {number: signal.getsignal(number) for number in _HELD}
    if threading.current_thread() is not threading.main_thread() or None in handlers.values():
        yield  # only the main thread is interrupted, and handlers set outside Python cannot be put back
        return
    arrived: list[int] = []

    def hold(number: int, _: FrameType | None) -> None:
        arrived.append(number)
        if len(arrived) > 1:
            raise KeyboardInterrupt

    for number in _HELD:
        signal.signal(number, hold)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if arrived:
            signal.raise_signal(arrived[0])
