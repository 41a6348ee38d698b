"""A stage's run in MLflow, with what every stage says about its experiment."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

from resblock.stages.terminal import warn
from resblock.tracking.stage import StageDescription, StageRun, track

ABOUT = (
    "What the residual block buys, and how accuracy changes with depth, on {dataset}. "
    "The view *Depth against accuracy* (button Views) shows the training runs: residual blue, plain orange, cnn green. "
    "Group them by `variant` for means over seeds. Every run is a stage of `dvc.yaml`."
)


@contextmanager
def tracked(
    stage: str,
    dataset: str,
    params: Mapping[str, Any],
    *,
    data_digest: str = "",
    axes: str | None = None,
    key: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> Generator[StageRun]:
    """Open the MLflow run of ``<stage>@<axes>``, the data set being the only axis unless `axes` says otherwise."""
    everything = {**(tags or {}), "resblock.dataset": dataset}
    if data_digest:
        everything["resblock.data"] = data_digest
    description = StageDescription(f"{stage}@{axes or dataset}", dataset, params, everything, key)
    with track(description, about=ABOUT.format(dataset=dataset), warn=warn) as run:
        yield run
