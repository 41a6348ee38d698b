"""As many trainings as there are cores, each on one thread, against one training on all of them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmarks.speed import PAUSE
from benchmarks.workers import Peer, Worker


@dataclass(frozen=True)
class SideBySide:
    """What one peer's trainings did, alone and together."""

    network: str
    implementation: str
    precision: str
    configuration: str
    batch_size: int
    images: int  # of each training, in one turn
    trainings: int  # together; as many threads as the one that trains alone
    alone_seconds: tuple[float, ...]  # of each round's turn
    together_seconds: tuple[float, ...]  # until the last one is done
    versions: dict[str, str]


def compare_side_by_side(peer: Peer, trainings: int, rounds: int, say: Callable[[str], None]) -> SideBySide:
    """Let one training on `trainings` threads, and as many on one thread each, take turns.

    The trainings that run together begin at once, and their turn ends with the last of them: what a person waits for.
    """
    with ExitStack() as stack:

        def start(threads: int) -> Worker:
            say(f"{peer.task.network}: warming up {peer}, threads: {threads}")
            return stack.enter_context(Worker(replace(peer, task=replace(peer.task, threads=threads))))

        workers = {"alone": [start(trainings)], "together": [start(1) for _ in range(trainings)]}
        seconds: dict[str, list[float]] = {way: [] for way in workers}
        order = random.Random(0)  # noqa: S311
        for number in range(1, rounds + 1):
            say(f"{peer.task.network}: round {number} of {rounds}")
            for way in order.sample(list(workers), len(workers)):
                time.sleep(PAUSE)
                seconds[way].append(_turn(workers[way]))
        return SideBySide(
            network=peer.task.network,
            implementation=peer.implementation,
            precision=peer.task.precision,
            configuration=peer.configuration,
            batch_size=peer.task.batch_size,
            images=peer.task.images,
            trainings=trainings,
            alone_seconds=tuple(seconds["alone"]),
            together_seconds=tuple(seconds["together"]),
            versions=workers["alone"][0].facts["versions"],
        )


def to_trees(measurements: list[SideBySide]) -> list[dict[str, Any]]:
    """Return what the results file holds of `measurements`."""
    return [asdict(measurement) for measurement in measurements]


def from_trees(trees: list[dict[str, Any]]) -> list[SideBySide]:
    """Return what `to_trees` gave."""
    times = ("alone_seconds", "together_seconds")
    rows: list[dict[str, Any]] = [{**tree, **{name: tuple(tree[name]) for name in times}} for tree in trees]
    return [SideBySide(**row) for row in rows]


def _turn(workers: list[Worker]) -> float:
    began = time.perf_counter()
    for worker in workers:
        worker.begin()
    for worker in workers:
        worker.end()
    return time.perf_counter() - began
