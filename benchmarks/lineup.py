"""Who is compared with whom."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from benchmarks.peers.protocol import Task
from benchmarks.workers import ROOT, Peer
from resblock import paths
from resblock.params import read_params

DATASET = "cifar10"
# Steps in a turn: a few seconds each on two cores.
NETWORKS = {"cnn-4": 48, "residual-20": 24, "residual-56": 10}
PRECISIONS = ("float32", "mixed_bfloat16")
IMPLEMENTATIONS = ("resblock", "keras", "pytorch")
TORCH_PYTHON = Path(".venv-bench/bin/python")


def cpu_peers(network: str, implementations: Sequence[str], threads: int, torch_python: Path) -> list[Peer]:
    """Return every peer of `network` at both precisions; PyTorch in both memory layouts."""
    peers: list[Peer] = []
    for precision in PRECISIONS:
        for implementation in implementations:
            for layout in ("", "channels-last") if implementation == "pytorch" else ("",):
                task = make_task(network, precision, threads=threads, steps=NETWORKS[network], layout=layout)
                peers.append(make_peer(implementation, task, torch_python))
    return peers


def make_task(network: str, precision: str, *, batch_size: int = 0, **options: object) -> Task:
    """Return a task with the recipe of params.yaml for CIFAR-10. Raises ClickException where the images are missing."""
    folder = ROOT / paths.splits(DATASET)
    if not (folder / "train_images.npy").exists():
        raise click.ClickException(
            f"{paths.splits(DATASET)}: no images there; the benchmarks train on CIFAR-10: dvc repro preprocess@cifar10"
        )
    recipe = read_params(ROOT / paths.PARAMS).recipe(DATASET)
    return Task(
        network=network,
        precision=precision,
        batch_size=batch_size or recipe.batch_size,
        data=str(folder),
        seed=0,
        learning_rate=recipe.learning_rate,
        momentum=recipe.batch_norm_momentum,
        epsilon=recipe.batch_norm_epsilon,
        **options,  # pyright: ignore[reportArgumentType]
    )


def make_peer(implementation: str, task: Task, torch_python: Path) -> Peer:
    """Return a peer on its interpreter. Raises ClickException where PyTorch's is missing."""
    if implementation != "pytorch":
        return Peer(implementation, task)
    if not torch_python.exists():
        raise click.ClickException(
            f"{torch_python}: no such interpreter; make bench installs PyTorch there, --torch-python names another's, "
            "--peer leaves PyTorch out"
        )
    return Peer(implementation, task, python=str(torch_python.absolute()))
