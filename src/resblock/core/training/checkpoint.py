"""Where a training stood after its last finished epoch, so that a killed one goes on as if it had not been."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from resblock.core.errors import UserError
from resblock.core.files import PARTIAL, digest_bytes, exclusive, read_arrays, write_arrays
from resblock.core.training.run import EpochRow, GradientRow

KEPT = 50  # checkpoints of other trainings: more than run side by side; about 1 GB of the deepest networks, with Adam

_STATE = "state.json"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # what file systems say that have none


@dataclass(frozen=True)
class Progress:
    """All that the next epoch needs. The order of images and the learning rate follow from the epoch."""

    variables: Mapping[str, np.ndarray]  # of model and optimiser: weights, moving averages, random states, moments
    started: str  # UTC, ISO 8601: when the first process began
    curve: Sequence[EpochRow]
    epoch_seconds: Sequence[float]
    train_seconds: Sequence[float]
    gradients: Sequence[GradientRow] = ()


@dataclass
class Checkpoint:
    """The one file of a training in progress, named and filled for one key: another key never resumes from it."""

    folder: Path
    key: str
    epochs: int = field(default=0, init=False)  # finished in the file, as far as this process knows

    @property
    def path(self) -> Path:
        """The file's place."""
        return self.folder / f"{self.key}.npz"

    @contextmanager
    def held(self, name: str, warn: Callable[[str], None], results: Path | None = None) -> Generator[None]:
        """Keep other processes out of this training, called `name`, for the block; forget the file when that ends well.

        So is, by whatever key, a training that would leave its files in the same folder of `results`.

        Results are written and tracking is closed within the block: a process killed there need not train again. What
        old trainings left in the folder is tidied up first.

        Raises UserError where another process is at it: two would share the checkpoint, the results and the MLflow run.
        """
        names = [self.key, f"results-{digest_bytes(str(results.resolve()).encode())}"] if results else [self.key]
        with ExitStack() as stack:
            for lock in (self.folder / f"{each}.lock" for each in names):
                self._hold(stack, lock, name, warn)
            self._tidy()
            yield
            self.remove()

    def _hold(self, stack: ExitStack, lock: Path, name: str, warn: Callable[[str], None]) -> None:
        try:
            stack.enter_context(exclusive(lock))
        except BlockingIOError:
            raise UserError(
                f"{name} is being trained already, by {_holder(lock)}; wait until it ends, or end it and run the "
                "same command again: it goes on from the last finished epoch"
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            warn(f"{lock}: this file system has no locks; do not start the same training twice at once")

    def save(self, progress: Progress, warn: Callable[[str], None]) -> None:
        """Replace the file by `progress`, whole or not at all.

        Raises OSError where it cannot be written and there is none yet: better to end after one epoch than to train for
        hours what can probably not be kept. Later it is only reported: a disk that is full for a while should not end
        a night's work, and the file that stands bounds what a kill can take.
        """
        state = {
            "key": self.key,
            "started": progress.started,
            "curve": [asdict(row) for row in progress.curve],
            "epoch_seconds": list(progress.epoch_seconds),
            "train_seconds": list(progress.train_seconds),
            "gradients": [asdict(row) for row in progress.gradients],
        }
        text = np.frombuffer(json.dumps(state).encode(), np.uint8)
        try:
            write_arrays(self.path, {**progress.variables, _STATE: text})
        except OSError as error:
            if not self.epochs:
                raise
            warn(
                f"{self.path}: {error.strerror}; the training goes on, but a killed one would go back to "
                f"epoch {self.epochs}"
            )
        else:
            self.epochs = len(progress.curve)

    def load(self, warn: Callable[[str], None]) -> Progress | None:
        """Return what was saved, or None where there is nothing; a damaged or foreign file is reported and ignored."""
        try:
            arrays = read_arrays(self.path)
            state = json.loads(arrays.pop(_STATE).tobytes())
            if state["key"] != self.key:
                raise ValueError(f"it belongs to {state['key']}")
            curve = [EpochRow(**row) for row in state["curve"]]
            gradients = [GradientRow(**row) for row in state["gradients"]]
            progress = Progress(
                arrays, state["started"], curve, state["epoch_seconds"], state["train_seconds"], gradients
            )
        except FileNotFoundError:
            return None
        except Exception as error:  # what NumPy, zipfile, zlib and json raise on damage is no closed list
            reason = str(error) or type(error).__name__
            warn(f"{self.path}: not a checkpoint of this training ({reason}); starting from the first epoch")
            return None
        self.epochs = len(curve)
        return progress

    def remove(self) -> None:
        """Forget the file: the training has ended."""
        self.path.unlink(missing_ok=True)

    def _tidy(self) -> None:
        """Keep the files of the `KEPT` other trainings that were at work last, and of every one that is at work now."""
        files: dict[str, list[Path]] = {}
        for path in self.folder.iterdir():
            if path.suffix in (".npz", ".lock", PARTIAL):
                files.setdefault(path.name.removeprefix(".").partition(".")[0], []).append(path)
        files.pop(self.key, None)
        for key in sorted(files, key=lambda key: _last_change(files[key]), reverse=True)[KEPT:]:
            with suppress(OSError), exclusive(self.folder / f"{key}.lock"):  # a living process holds it
                for path in files[key]:
                    path.unlink(missing_ok=True)


def _holder(lock: Path) -> str:
    try:
        return f"process {int(lock.read_text())}"
    except (OSError, ValueError):  # it has just ended, or just begun
        return "another process"


def _last_change(paths: Sequence[Path]) -> float:
    """Return when the newest of `paths` changed, in seconds since 1970; those gone meanwhile do not count."""
    times: list[float] = []
    for path in paths:
        with suppress(FileNotFoundError):
            times.append(path.stat().st_mtime)
    return max(times, default=0.0)
