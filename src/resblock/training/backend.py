"""Keras and its backend, brought up quietly and with a chosen number of threads."""

from __future__ import annotations

import importlib
import os
import platform
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path


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


def machine_name() -> str:
    """Return the processor's name, as far as the system tells it, and the system's."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()}, {platform.system()}"
    return f"{platform.processor() or platform.machine()}, {platform.system()}"


def emulates_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether bfloat16 is known to be slow here: on a processor whose features do not name it.

    False where a graphics card computes, and where the system does not list the processor's features.
    """
    keras = importlib.import_module("keras")
    if any(not device.startswith("cpu") for device in keras.distribution.list_devices()):
        return False
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    # x86 has a line of flags per core, ARM one of Features. oneDNN, which computes convolutions, has kernels of its own
    # for these and converts to float32 and back elsewhere.
    features = {word for line in lines if line.startswith(("flags", "Features")) for word in line.split()[1:]}
    return bool(features) and not features & {"avx512_bf16", "amx_bf16", "bf16"}


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
