"""Where a training stood after its last finished epoch, so that a killed one goes on as if it had not been."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from resblock.files import read_arrays, write_arrays
from resblock.training.run import EpochRow

_STATE = "state.json"


@dataclass(frozen=True)
class Progress:
    """All that the next epoch needs. The order of images and the learning rate follow from the epoch."""

    variables: Mapping[str, np.ndarray]  # of model and optimiser: weights, moving averages, random states, moments
    started: str  # UTC, ISO 8601: when the first process began
    curve: Sequence[EpochRow]
    epoch_seconds: Sequence[float]
    train_seconds: Sequence[float]


@dataclass(frozen=True)
class Checkpoint:
    """The one file of a training in progress, named and filled for one key: another key never resumes from it."""

    folder: Path
    key: str

    @property
    def path(self) -> Path:
        """The file's place."""
        return self.folder / f"{self.key}.npz"

    def save(self, progress: Progress) -> None:
        """Replace the file by `progress`, whole or not at all."""
        state = {
            "key": self.key,
            "started": progress.started,
            "curve": [asdict(row) for row in progress.curve],
            "epoch_seconds": list(progress.epoch_seconds),
            "train_seconds": list(progress.train_seconds),
        }
        text = np.frombuffer(json.dumps(state).encode(), np.uint8)
        write_arrays(self.path, {**progress.variables, _STATE: text})

    def load(self, warn: Callable[[str], None]) -> Progress | None:
        """Return what was saved, or None where there is nothing; a damaged or foreign file is reported and ignored."""
        try:
            arrays = read_arrays(self.path)
            state = json.loads(arrays.pop(_STATE).tobytes())
            if state["key"] != self.key:
                raise ValueError(f"it belongs to {state['key']}")
            curve = [EpochRow(**row) for row in state["curve"]]
            return Progress(arrays, state["started"], curve, state["epoch_seconds"], state["train_seconds"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            warn(f"{self.path}: not a checkpoint of this training ({error}); starting from the first epoch")
            return None

    def remove(self) -> None:
        """Forget the file: the training has ended."""
        self.path.unlink(missing_ok=True)
