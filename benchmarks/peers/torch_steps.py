"""The same training in PyTorch, some steps a turn."""

from __future__ import annotations

import sys

from benchmarks.peers.batches import batch_indices
from benchmarks.peers.protocol import Task, Turns
from benchmarks.peers.torch_training import Training


def main() -> None:
    """Train as the task in the first argument says, in turns."""
    turns, task = Turns(), Task.from_json(sys.argv[1])
    training = Training(task)
    batches = batch_indices(task, len(training.labels))

    def train() -> None:
        for _ in range(task.steps):
            training.step(next(batches))
        training.finish()

    compile_seconds = training.compile_seconds(lambda: training.step(next(batches)))
    training.choose_adam(lambda: training.step(next(batches)))
    train()
    turns.ready(**training.facts(), compile_seconds=compile_seconds)
    while True:
        turns.begin()
        train()
        turns.end()


if __name__ == "__main__":
    main()
