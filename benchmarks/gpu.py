"""Who is compared with whom on a graphics card: this project on Keras and JAX, PyTorch eager and compiled.

All under bfloat16, the images on the card. Written where there was no card to try it on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.lineup import make_peer, make_task
from benchmarks.workers import Peer

BATCH_SIZES = (128, 1024)
STEPS = 200  # in a turn


def peers_on_card(network: str, batch_size: int, threads: int, torch_python: Path) -> list[Peer]:
    """Return this project on JAX, and PyTorch eager and compiled, on the same card."""
    options: dict[str, Any] = {"batch_size": batch_size, "threads": threads, "steps": STEPS, "device": "cuda"}
    ours = make_task(network, "mixed_bfloat16", **options)
    peers = [
        # Its neighbours need the card's memory too, of which JAX would take three quarters at its start.
        Peer("resblock", ours, environment={"KERAS_BACKEND": "jax", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"})
    ]
    for compiled in (False, True):
        task = make_task(network, "mixed_bfloat16", **options, layout="channels-last", compiled=compiled)
        peers.append(make_peer("pytorch", task, torch_python))
    return peers
