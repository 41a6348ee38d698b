"""Training speed side by side: every peer warmed up and waiting, each for its short turn, round after round.

A machine's speed drifts over minutes, with its temperature and with what else it does. Peers that take turns of a few
seconds meet the same drift, so the ratio within a round says more than two long runs, one after the other.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any

import click

from benchmarks.workers import Peer, Turn, Worker

# OpenMP's and oneDNN's threads go on spinning for some milliseconds after their last work, on the next one's cores.
PAUSE = 0.5  # seconds between two turns


@dataclass(frozen=True)
class Measurement:
    """What one peer did with one network."""

    network: str
    implementation: str
    precision: str
    configuration: str
    batch_size: int
    images: int  # in one turn
    seconds: tuple[float, ...]  # of each round's turn
    peak_bytes: int  # resident
    parameters: int
    multiply_adds: int  # of one image's forward pass
    adam: str  # how PyTorch's Adam went over the parameters
    card: str  # the graphics card's name, as PyTorch says it
    versions: dict[str, str]
    compile_seconds: float = 0.0  # before the first turn
    parts: dict[str, tuple[float, ...]] = field(default_factory=dict[str, tuple[float, ...]])  # of each round's epoch


def compare(peers: Sequence[Peer], rounds: int, say: Callable[[str], None]) -> list[Measurement]:
    """Let `peers`, all of one network, train in turns and return their measurements in that order.

    The order within a round is drawn anew each time. Raises ClickException where a peer fails, or where parameter
    counts differ, since then the networks do.
    """
    with ExitStack() as stack:
        workers: list[Worker] = []
        for peer in peers:
            say(f"{peer.task.network}: warming up {peer}")
            workers.append(stack.enter_context(Worker(peer)))
        counts = {str(worker.peer): int(worker.facts["parameters"]) for worker in workers}
        if len(set(counts.values())) > 1:
            raise click.ClickException(f"{peers[0].task.network}: peers differ in parameters: {counts}")
        turns: dict[str, list[Turn]] = {str(peer): [] for peer in peers}
        order = random.Random(0)  # noqa: S311
        for number in range(1, rounds + 1):
            say(f"{peers[0].task.network}: round {number} of {rounds}")
            for worker in order.sample(workers, len(workers)):
                time.sleep(PAUSE)
                turns[str(worker.peer)].append(worker.turn())
        multiply_adds = max(int(worker.facts.get("multiply_adds", 0)) for worker in workers)
        return [
            Measurement(
                network=worker.peer.task.network,
                implementation=worker.peer.implementation,
                precision=worker.peer.task.precision,
                configuration=worker.peer.configuration,
                batch_size=worker.peer.task.batch_size,
                images=worker.peer.task.images,
                seconds=tuple(turn.seconds for turn in turns[str(worker.peer)]),
                peak_bytes=turns[str(worker.peer)][-1].peak_bytes,
                parameters=counts[str(worker.peer)],
                multiply_adds=multiply_adds,
                adam=str(worker.facts.get("adam", "")),
                card=str(worker.facts.get("card", "")),
                versions=worker.facts["versions"],
                compile_seconds=float(worker.facts.get("compile_seconds", 0)),
                parts={
                    part: tuple(turn.parts[part] for turn in turns[str(worker.peer)])
                    for part in turns[str(worker.peer)][-1].parts
                },
            )
            for worker in workers
        ]


def to_trees(measurements: Sequence[Measurement]) -> list[dict[str, Any]]:
    """Return what the results file holds of `measurements`."""
    return [asdict(measurement) for measurement in measurements]


def from_trees(trees: Sequence[dict[str, Any]]) -> list[Measurement]:
    """Return what `to_trees` gave."""
    rows: list[dict[str, Any]] = []
    for tree in trees:
        parts = {part: tuple(seconds) for part, seconds in tree.get("parts", {}).items()}
        rows.append({**tree, "seconds": tuple(tree["seconds"]), "parts": parts})
    return [Measurement(**row) for row in rows]
