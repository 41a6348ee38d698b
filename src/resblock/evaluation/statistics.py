"""Re-estimated batch-norm statistics as a file: what a trained network is used with, so that it is as good as it reads.

Training leaves moving averages among the weights, which lag behind. The published accuracies are taken with statistics
re-estimated on training images, and whoever uses a network has no training images at hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from resblock.core.files import arrays_bytes, read_arrays
from resblock.core.training.run import Run

STATISTICS_FILE = "statistics.npz"


def statistics_bytes(statistics: Mapping[str, np.ndarray]) -> bytes:
    """Return what `read_statistics` reads of moving means and variances by variable path, float32 (channel,).

    A network without batch normalisation has none.
    """
    return arrays_bytes(statistics)


def read_statistics(folder: Path) -> dict[str, np.ndarray]:
    """Read the statistics in `folder`."""
    return read_arrays(folder / STATISTICS_FILE)


def normalizing_by(statistics: Mapping[str, np.ndarray], run: Run) -> Run:
    """Return `run` with `statistics` among its weights instead of those as trained.

    Raises ValueError where they are another network's.
    """
    if foreign := [name for name in statistics if name not in run.weights]:
        raise ValueError(f"{STATISTICS_FILE}: the weights have no {foreign[0]}; the statistics are another network's")
    return replace(run, weights={**run.weights, **statistics})
