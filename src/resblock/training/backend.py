"""Keras and its backend, brought up quietly and with a chosen number of threads."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager


def prepare_backend(threads: int) -> int:
    """Import Keras without its backend's start-up noise and set the number of threads; return that number.

    Call it once, before the first tensor: `threads` decides a result's last bits. 0 takes all the machine has.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    count = threads or available_cores()
    with _quiet_stderr():
        keras = importlib.import_module("keras")
        if keras.backend.backend() == "tensorflow":
            tensorflow = importlib.import_module("tensorflow")
            tensorflow.config.threading.set_intra_op_parallelism_threads(count)
            tensorflow.config.threading.set_inter_op_parallelism_threads(count)
            tensorflow.zeros(1)  # start the runtime here, where its greetings are not heard
    return count


def available_cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _quiet_stderr() -> Generator[None]:
    """Hold back what C++ writes to the error stream; show it after all when the block fails."""
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(saved, 2)
            held.seek(0)
            os.write(2, held.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
