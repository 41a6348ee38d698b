"""A stage's run in MLflow, with what every stage says about its experiment."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from resblock.stages.openings import opening_of
from resblock.stages.terminal import warn
from resblock.tracking.stage import StageRun, track

ABOUT = (
    "What the residual block buys, and how accuracy changes with depth, on {dataset}. "
    "The view *Depth against accuracy* (button Views) shows the training runs: residual blue, plain orange, cnn green. "
    "Group them by `variant` for means over seeds. Every run is a stage of `dvc.yaml`; `resblock sync` brings the runs "
    "to what the files say."
)


def tracked(
    manifest: Mapping[str, Any], *, watch_machine: bool = False, later: bool = False
) -> AbstractContextManager[StageRun]:
    """Open the MLflow run of the stage that will leave `manifest`, at once or `later`: see `track`."""
    opening = opening_of(manifest)
    about = ABOUT.format(dataset=opening.dataset)
    return track(opening, about=about, warn=warn, watch_machine=watch_machine, later=later)
