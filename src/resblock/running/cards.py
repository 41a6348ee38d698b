"""The graphics cards of this machine, and how many trainings share one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

VISIBLE = "CUDA_VISIBLE_DEVICES"
PREALLOCATE = "XLA_PYTHON_CLIENT_PREALLOCATE"  # JAX would take three quarters of a card; TensorFlow grows by itself
FOUND_AT = Path("/proc/driver/nvidia/gpus")
A_CARD = 2  # trainings on one card by default: a small network does not fill it, and each takes memory of its own
ASK = (
    "import sys; from resblock.startup import start_keras; from resblock.core.backends import backend; "
    "start_keras(1); sys.exit(0 if backend().accelerator() else 1)"
)


def cards(found_at: Path = FOUND_AT) -> list[str]:
    """Return the cards that Keras would compute on, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get(VISIBLE)
    if visible is None:
        names = [str(number) for number in range(len(list(found_at.iterdir())))] if found_at.is_dir() else []
    else:
        names = [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    return names if names and _keras_uses_one() else []


def variables_for(card: str) -> Mapping[str, str]:
    """Return the variables by which a process computes on one card and leaves room for others on it."""
    return {VISIBLE: card, PREALLOCATE: os.environ.get(PREALLOCATE, "false")}


def _keras_uses_one() -> bool:
    """Ask a process of its own, since Keras, once imported, takes the memory of many runners."""
    return subprocess.run([sys.executable, "-c", ASK], capture_output=True, check=False).returncode == 0  # noqa: S603
