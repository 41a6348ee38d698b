"""One training on a cluster's node, which shares nothing with the project but the network.

Needs what `resblock.core` needs. The engine sends this code, the splits and a checkpoint, and hears what happens.
"""

from __future__ import annotations

import os
import tempfile
import threading
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from resblock.core.backends import start
from resblock.core.errors import UserError
from resblock.core.files import write_bytes, write_together
from resblock.core.splits import DESCRIPTION, read_description
from resblock.core.training.job import Job, Workshop
from resblock.core.training.run import Cost, EpochRow, Run
from resblock.core.training.watcher import Nobody

Event = tuple[str, Any]
CACHE = Path(tempfile.gettempdir()) / f"resblock-splits-{os.getuid()}"  # by digest: they come to a node once


class Node:
    """Trains one job, described by its `tree`, in a folder of its own."""

    def __init__(self, tree: Mapping[str, Any], data_digest: str) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="resblock-")
        folder, self._splits = Path(self._scratch.name), CACHE / data_digest
        self._job = replace(
            Job.from_tree(dict(tree)),
            splits=self._splits,
            results=folder / "made",
            cost=folder / "cost.json",
            checkpoints=folder / "checkpoints",
        )
        self._digest = data_digest

    def manifest(self) -> dict[str, Any]:
        """Return what the training will say made it: this node's device, versions and variables among it."""
        from resblock.core.training.manifest import make_manifest

        threads = start(self._job.recipe.threads)
        return make_manifest(self._job.key, self._job.recipe, data_digest=self._digest, threads=threads)

    def lacks_splits(self) -> bool:
        """Return whether the images must be sent."""
        return not (self._splits / DESCRIPTION).is_file()

    def take_splits(self, files: Mapping[str, bytes]) -> None:
        """Keep the images for all trainings on this node; their description comes last."""
        names = sorted(files, key=lambda name: name == DESCRIPTION)
        write_together({self._splits / name: files[name] for name in names})
        if read_description(self._splits).digest != self._digest:
            raise UserError(f"{self._splits}: other images came than were announced")

    def train(self, key: str, checkpoint: bytes | None) -> Iterator[Event]:
        """Train, from `checkpoint` on if there is one, and yield what happens, the results last."""
        if checkpoint:
            write_bytes(self._job.checkpoints / f"{key}.npz", checkpoint)
        events: SimpleQueue[Event | None] = SimpleQueue()

        def work() -> None:
            try:
                Workshop(start).train(self._job, _Sender(self._job, key, events.put))
            except UserError as error:
                events.put(("refused", str(error)))
            except BaseException:  # told where a person is, who sees nothing of this process
                events.put(("fault", traceback.format_exc()))
            finally:
                events.put(None)

        threading.Thread(target=work, daemon=True).start()
        while (event := events.get()) is not None:
            yield event


class _Sender(Nobody):
    """Tells the engine of a training's course, with all files that it leaves."""

    def __init__(self, job: Job, key: str, send: Callable[[Event], None]) -> None:
        self._job, self._checkpoint, self._send = job, job.checkpoints / f"{key}.npz", send

    @contextmanager
    def watch(self, manifest: dict[str, Any]) -> Generator[None]:
        """See `resblock.core.training.job.Watcher`."""
        yield

    def epoch(self, row: EpochRow) -> None:
        """See `resblock.core.training.job.Watcher`."""
        self._send(("epoch", (row, self._checkpoint.read_bytes())))

    def resumed(self, curve: Sequence[EpochRow]) -> None:
        """See `resblock.core.training.job.Watcher`."""
        self._send(("resumed", list(curve)))

    def warn(self, message: str) -> None:
        """See `resblock.core.training.job.Watcher`."""
        self._send(("warning", message))

    def written(self, run: Run, cost: Cost) -> None:
        """See `resblock.core.training.job.Watcher`."""
        files = {path.name: path.read_bytes() for path in self._job.results.iterdir()}
        self._send(("results", (files, self._job.cost.read_bytes())))
