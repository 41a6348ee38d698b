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
    os.environ["NPROC"] = str(count)  # JAX's threads on a CPU
    with _quiet_stderr():
        keras = importlib.import_module("keras")
        if keras.backend.backend() == "tensorflow":
            tensorflow = importlib.import_module("tensorflow")
            tensorflow.config.threading.set_intra_op_parallelism_threads(count)
            tensorflow.config.threading.set_inter_op_parallelism_threads(count)
            tensorflow.zeros(1)  # start the runtime here, where its greetings are not heard
        else:
            keras.ops.zeros(1)
    return count


def available_cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def accelerator() -> str | None:
    """Return the kind of the device that Keras computes on, or None where that is the processor."""
    keras = importlib.import_module("keras")
    if all(device.startswith("cpu") for device in keras.distribution.list_devices()):
        return None
    if keras.backend.backend() == "jax":
        return str(importlib.import_module("jax").devices()[0].device_kind)
    tensorflow = importlib.import_module("tensorflow")
    card = tensorflow.config.list_physical_devices("GPU")[0]
    return str(tensorflow.config.experimental.get_device_details(card).get("device_name", card.name))


def machine_name() -> str:
    """Return the name of what computes, as far as the system tells it, and the system's."""
    name = (accelerator() if "keras" in sys.modules else None) or _processor() or platform.machine()
    return f"{name}, {platform.system()}"


def _processor() -> str | None:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or None


def emulates_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether bfloat16 is known to be slow here: on a processor whose features do not name it.

    False where a graphics card computes, and where the system does not list the processor's features.
    """
    if accelerator():
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
