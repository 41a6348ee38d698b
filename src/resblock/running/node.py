"""One training on a cluster's node, which shares nothing with the project but the network.

Needs what `resblock.core` needs. The engine sends this code, the splits and a checkpoint, and asks what has happened.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from resblock.core.backends import start
from resblock.core.errors import UserError
from resblock.core.files import exclusive, write_bytes, write_together
from resblock.core.splits import DESCRIPTION, SPLIT_NAMES, read_description, read_verified
from resblock.core.training.job import Job, Workshop
from resblock.core.training.run import Cost, EpochRow, Run
from resblock.core.training.watcher import Nobody

Event = tuple[str, Any]
CACHE = Path(tempfile.gettempdir()) / f"resblock-splits-{os.getuid()}"  # by digest: they come to a node once
SCRATCH, LOCK = "resblock-node-", "alive.lock"
ANSWER = 10.0  # seconds that a question waits for news
LEFT = 60.0  # seconds without a question, after which it gives way to others of its project
ALONE = 3600.0  # seconds without a question, after which nobody will come for the results


class Node:
    """Trains one job, described by its `tree`, in a folder of its own.

    It keeps all that has happened for whoever asks, and goes on where nobody does, for `ALONE` seconds: a driver that
    died is started again and asks from the beginning.
    """

    def __init__(self, tree: Mapping[str, Any], data_digest: str) -> None:
        _sweep()
        self._scratch = tempfile.TemporaryDirectory(prefix=SCRATCH)
        folder, self._splits = Path(self._scratch.name), CACHE / data_digest
        self._alive = ExitStack()
        self._alive.enter_context(exclusive(folder / LOCK))
        self._job = replace(
            Job.from_tree(dict(tree)),
            splits=self._splits,
            results=folder / "made",
            cost=folder / "cost.json",
            checkpoints=folder / "checkpoints",
        )
        self._digest = data_digest
        self._key = ""
        self._events: list[Event] = []
        self._checkpoint: bytes | None = None  # after the last epoch among the events
        self._change = threading.Condition()
        self._begun, self._asked = False, time.monotonic()
        threading.Thread(target=self._end_alone, daemon=True).start()

    def manifest(self) -> dict[str, Any]:
        """Return what the training will say made it: this node's device, versions and variables among it."""
        from resblock.core.training.manifest import make_manifest

        threads = start(self._job.recipe.threads)
        manifest = make_manifest(self._job.key, self._job.recipe, data_digest=self._digest, threads=threads)
        self._key = str(manifest["key"])
        return manifest

    def begun(self) -> bool:
        """Return whether it trains, or has trained, already."""
        return self._begun

    def lacks_splits(self) -> bool:
        """Return whether the images must be sent: they have never come, or are damaged."""
        try:
            dataset = read_description(self._splits)
            for name in SPLIT_NAMES:
                read_verified(self._splits, dataset, name)
        except (UserError, OSError):
            return True
        return dataset.digest != self._digest

    def take_splits(self, files: Mapping[str, bytes]) -> None:
        """Keep the images for all trainings on this node; their description comes last."""
        names = sorted(files, key=lambda name: name == DESCRIPTION)
        write_together({self._splits / name: files[name] for name in names})
        if read_description(self._splits).digest != self._digest:
            raise UserError(f"{self._splits}: other images came than were announced")

    def begin(self, checkpoint: bytes | None) -> None:
        """Train from now on, from `checkpoint` on if there is one; after `manifest`."""
        if self._begun:  # by a driver that died in this moment
            return
        self._begun = True
        if checkpoint:
            write_bytes(self._checkpoint_path, checkpoint)
        threading.Thread(target=self._work, daemon=True).start()

    def hear(self, known: int) -> tuple[list[Event], bytes | None]:
        """Wait a while for more than the first `known` events; return the others, and the checkpoint of the last epoch.

        The last of all events is "results" (all files, the cost), "refused" or "fault" (why). The checkpoint is None
        where no epoch is among those returned.
        """
        with self._change:
            self._asked = time.monotonic()
            self._change.wait_for(lambda: len(self._events) > known, ANSWER)
            self._asked = time.monotonic()
            news = self._events[known:]
            return news, self._checkpoint if any(kind == "epoch" for kind, _ in news) else None

    def end_if_left(self) -> None:
        """End where nobody has asked for a while: others of the same project want the room."""
        if time.monotonic() - self._asked > LEFT:
            self._end()

    @property
    def _checkpoint_path(self) -> Path:
        return self._job.checkpoints / f"{self._key}.npz"

    def _work(self) -> None:
        try:
            Workshop(start).train(self._job, _Sender(self._job, self._tell))
        except UserError as error:
            self._tell("refused", str(error))
        except BaseException:  # told where a person is, who sees nothing of this process
            self._tell("fault", traceback.format_exc())
        finally:
            self._scratch.cleanup()

    def _tell(self, kind: str, content: Any) -> None:
        with self._change:
            if kind == "epoch":
                self._checkpoint = self._checkpoint_path.read_bytes()
            self._events.append((kind, content))
            self._change.notify_all()

    def _end_alone(self) -> None:
        while (left := self._asked + ALONE - time.monotonic()) > 0:
            time.sleep(left)
        self._end()

    def _end(self) -> None:
        self._scratch.cleanup()
        os._exit(0)


def _sweep() -> None:
    """Remove what killed processes have left in the temporary folder."""
    for folder in Path(tempfile.gettempdir()).glob(f"{SCRATCH}*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > LEFT:  # else it may be about to take its lock
                with exclusive(folder / LOCK):  # a living process holds it
                    shutil.rmtree(folder, ignore_errors=True)


class _Sender(Nobody):
    """Tells of a training's course, with all files that it leaves."""

    def __init__(self, job: Job, tell: Callable[[str, Any], None]) -> None:
        self._job, self._tell = job, tell

    @contextmanager
    def watch(self, manifest: dict[str, Any]) -> Generator[None]:
        """See `resblock.core.training.job.Watcher`."""
        yield

    def epoch(self, row: EpochRow) -> None:
        """See `resblock.core.training.job.Watcher`."""
        self._tell("epoch", row)

    def resumed(self, curve: Sequence[EpochRow]) -> None:
        """See `resblock.core.training.job.Watcher`."""
        self._tell("resumed", list(curve))

    def warn(self, message: str) -> None:
        """See `resblock.core.training.job.Watcher`."""
        self._tell("warning", message)

    def written(self, run: Run, cost: Cost) -> None:
        """See `resblock.core.training.job.Watcher`."""
        files = {path.name: path.read_bytes() for path in self._job.results.iterdir()}
        self._tell("results", (files, self._job.cost.read_bytes()))
