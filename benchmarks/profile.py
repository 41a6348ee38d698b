"""Where a step's time goes, by TensorFlow's own profiler: ``python -m benchmarks.profile TASK``.

Prints, as JSON, every operation's share of a training step, on one thread so that times add up.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import tensorflow as tf

from benchmarks.peers.batches import batch_indices, read_images
from benchmarks.peers.ours import make_trainer
from benchmarks.peers.protocol import Task, Turns
from resblock.core.backends import start
from resblock.core.splits import Split


def main() -> None:
    """Profile the steps of the task in the first argument."""
    turns, task = Turns(), Task.from_json(sys.argv[1])
    start(task.threads)
    trainer = make_trainer(task, Split(*read_images(task)))
    batches = batch_indices(task, trainer.images)

    def train() -> float:
        began = time.perf_counter()
        trainer.steps.train([next(batches) for _ in range(task.steps)], lambda _: None)
        return time.perf_counter() - began

    train()
    seconds = train()
    with TemporaryDirectory() as folder:
        options = tf.profiler.experimental.ProfilerOptions(host_tracer_level=2, python_tracer_level=0)
        tf.profiler.experimental.start(folder, options=options)
        train()
        tf.profiler.experimental.stop()
        operations = read_operations(Path(folder))
    rows = [
        {"operation": name, "count": count / task.steps, "milliseconds": spent / task.steps}
        for name, (count, spent) in operations.items()
    ]
    turns.report({"step_milliseconds": 1000 * seconds / task.steps, "operations": rows})


def read_operations(folder: Path) -> dict[str, tuple[int, float]]:
    """Return how often each kind of operation ran on the processor, and its milliseconds in all."""
    xplane: Any = import_module("tensorflow.tsl.profiler.protobuf.xplane_pb2")
    counts: Counter[str] = Counter()
    spent: Counter[str] = Counter()
    for path in folder.rglob("*.xplane.pb"):
        space = xplane.XSpace()
        space.ParseFromString(path.read_bytes())
        for plane in space.planes:
            if "CPU" not in plane.name:
                continue
            for event in (event for line in plane.lines for event in line.events):
                # An operation's event is named by the graph's node and its kind: "…/stem_conv/convolution:Conv2D".
                node, colon, kind = plane.event_metadata[event.metadata_id].name.rpartition(":")
                if colon and kind.isidentifier() and not node.endswith(":"):  # C++'s own names hold "::"
                    counts[kind] += 1
                    spent[kind] += event.duration_ps / 1e9
    return {kind: (counts[kind], milliseconds) for kind, milliseconds in spent.items()}


if __name__ == "__main__":
    main()
