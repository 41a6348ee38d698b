"""What computes: Keras' backends behind one protocol. Nothing else asks which one runs.

`start` brings up the one that KERAS_BACKEND names, TensorFlow where it names none; `backend` returns it.
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase

from resblock.core.backends.machine import available_cores
from resblock.core.backends.protocol import Backend
from resblock.core.errors import OtherThreadsError, UserError

NAMES = ("tensorflow", "jax")

# Variables that change, or may change, the bits of a result; where they are set, they are in a training's key.
CHANGE_BITS = (
    "CUBLAS*",
    "CUDNN_*",
    "DNNL_*",
    "JAX_*",
    "KERAS_NNX_ENABLED",
    "NVIDIA_TF32_OVERRIDE",
    "ONEDNN_*",
    "TF_AUTO_MIXED_*",  # not TF_*: Terraform's variables begin so too
    "TF_CONV2D_*",
    "TF_CUDNN_*",
    "TF_DETERMINISTIC_OPS",
    "TF_DISABLE_*",
    "TF_ENABLE_*",
    "TF_FP16_*",
    "TF_MATMUL_*",
    "TF_SET_*",
    "TF_USE_*",
    "TF_XLA_*",
    "XLA_*",
)
# By backend, unless a person decides otherwise. TensorFlow by itself takes oneDNN's kernels on processors with AVX-512
# alone, and is half as fast on others.
PINNED = {"tensorflow": {"TF_ENABLE_ONEDNN_OPTS": "1"}}
CHANGE_NONE = (  # among them
    "*_LOG*",
    "*_VERBOSE",
    "JAX_*CACHE*",
    "JAX_PLATFORM*",
    "JAX_TRACEBACK_FILTERING",
    "XLA_PYTHON_CLIENT_*",
)


_started: dict[str, int] = {}  # the number of threads, by backend; a runtime starts once in a process
_pinned: dict[str, dict[str, str]] = {}  # by backend, what was pinned before it was imported


def variables_that_change_bits() -> dict[str, str]:
    """Return those of CHANGE_BITS that are set here, and what is pinned, or would be as the backend is imported."""

    def among(name: str, patterns: Sequence[str]) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in patterns)

    found = {name: os.environ[name] for name in os.environ if among(name, CHANGE_BITS) and not among(name, CHANGE_NONE)}
    chosen = _name()
    return dict(sorted({**_pinned.get(chosen, PINNED.get(chosen, {})), **found}.items()))


def start(threads: int) -> int:
    """Import Keras without its backend's start-up noise and set the number of threads; return that number.

    Call it before the first tensor: `threads` decides a result's last bits. 0 takes all the machine has. Raises
    UserError where KERAS_BACKEND names none of `NAMES`, and OtherThreadsError where another number computes already.
    """
    count = threads or available_cores()
    chosen = load()
    with _quiet_stderr():
        if _started.get(chosen.name, count) != count:
            raise OtherThreadsError(f"this process computes with {_started[chosen.name]} threads already, not {count}")
        _pin_keras()
        chosen.set_up(count)
        _started[chosen.name] = count
    return count


def load() -> Backend:
    """Import Keras and its backend without their start-up noise; start no runtime."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("KERAS_BACKEND", NAMES[0])
    _pin_variables()
    with _quiet_stderr():
        try:
            return backend()
        except ModuleNotFoundError as error:
            raise UserError(f"{error.name} is not installed, and KERAS_BACKEND={_name()} needs it") from None


def _pin_variables() -> None:
    """Set what is pinned, once: a backend reads its variables as it is imported, and one that is here has read them."""
    chosen = _name()
    if chosen not in _pinned:
        pins = {} if chosen in sys.modules else PINNED.get(chosen, {})
        _pinned[chosen] = {name: value for name, value in pins.items() if name not in os.environ}
        os.environ.update(_pinned[chosen])


def _pin_keras() -> None:
    """Let nothing in a person's ``~/.keras/keras.json`` decide a result."""
    import keras

    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_dtype_policy("float32")


def backend() -> Backend:
    """Return the backend that Keras runs on. Raises UserError where KERAS_BACKEND names none of `NAMES`."""
    name = _name()
    if name not in NAMES:
        raise UserError(f"KERAS_BACKEND: got {name}, must be one of {', '.join(NAMES)}")
    return importlib.import_module(f"resblock.core.backends.{name}").BACKEND


def _name() -> str:
    """Return what Keras runs on, or would."""
    if "keras" in sys.modules:
        return str(sys.modules["keras"].backend.backend())
    return os.environ.get("KERAS_BACKEND", NAMES[0])


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
