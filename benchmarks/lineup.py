"""Who is compared with whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import click

from benchmarks.peers.protocol import Epoch, Task
from benchmarks.workers import ROOT, Peer
from resblock import paths
from resblock.core.backends import PINNED
from resblock.params import read_params

DATASET = "cifar10"
# Steps in a turn: a few seconds each on two cores.
NETWORKS = {"cnn-4": 48, "residual-20": 24, "residual-56": 10}
PRECISIONS = ("float32", "mixed_bfloat16")
IMPLEMENTATIONS = ("resblock", "keras", "pytorch")
WHOLE_EPOCH = Epoch(training=45_000, validation=5_000, reestimation=2_000, sample=2_000)
# PyTorch's layouts, and whether it is compiled.
TORCH_WAYS = (("", False), ("channels-last", False), ("channels-last", True))
# Its steps are not what is timed; the images that it looks at besides are as many as in a whole one.
SHORT_EPOCH = replace(WHOLE_EPOCH, training=2_560)
TORCH_PYTHON = Path(".venv-bench/bin/python")


def cpu_peers(
    network: str, implementations: Sequence[str], precisions: Sequence[str], threads: int, torch_python: Path
) -> list[Peer]:
    """Return every peer of `network` at each precision; PyTorch in both memory layouts, and compiled."""
    peers: list[Peer] = []
    for precision in precisions:
        options = {"threads": threads, "steps": NETWORKS[network]}
        for implementation in implementations:
            for layout, compiled in TORCH_WAYS if implementation == "pytorch" else (("", False),):
                task = make_task(network, precision, layout=layout, compiled=compiled, **options)
                peers.append(make_peer(implementation, task, torch_python))
    return peers


def epoch_peers(network: str, precision: str, epoch: Epoch, threads: int, torch_python: Path) -> list[Peer]:
    """Return who trains whole epochs: this project, and PyTorch, channels-last, eager and compiled."""
    ours = make_task(network, precision, threads=threads, steps=0, epoch=epoch)
    theirs = [replace(ours, layout="channels-last", compiled=compiled) for compiled in (False, True)]
    return [make_peer("resblock", ours, torch_python), *(make_peer("pytorch", task, torch_python) for task in theirs)]


def scaled_epoch(training: int) -> Epoch:
    """Return an epoch of `training` images, whose other passes keep their proportion to it."""
    share = training / WHOLE_EPOCH.training
    return Epoch(**{name: max(1, round(count * share)) for name, count in asdict(WHOLE_EPOCH).items()})


def single_peers(network: str, precision: str, threads: int, torch_python: Path) -> list[Peer]:
    """Return whose trainings run side by side: this project's, and eager PyTorch's, channels-last."""
    ours = make_task(network, precision, threads=threads, steps=NETWORKS[network])
    theirs = replace(ours, layout="channels-last")
    return [make_peer("resblock", ours, torch_python), make_peer("pytorch", theirs, torch_python)]


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
    if implementation == "resblock":
        return Peer(implementation, task, environment=PINNED["tensorflow"])  # as its commands do before they import it
    if implementation != "pytorch":
        return Peer(implementation, task)
    if not torch_python.exists():
        raise click.ClickException(
            f"{torch_python}: no such interpreter; make bench installs PyTorch there, --torch-python names another's, "
            "--peer leaves PyTorch out"
        )
    return Peer(implementation, task, python=str(torch_python.absolute()))
