"""A stage's result as MLflow is to show it: what a live run ends as, and what is rebuilt from the files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from resblock.core.files import digest_bytes, digest_file
from resblock.core.training.run import EpochRow

STAGE_TAG = "resblock.stage"  # without axes, for instance train
NAME_TAG = "resblock.name"  # DVC's name, for instance train@digits-residual-20-0
KEY_TAG = "resblock.key"
SUPERSEDED_TAG = "resblock.superseded"  # true: an older or a doubled run of the stage
SOURCE_TAG = "resblock.source"  # live: logged by the stage as it ran; files: rebuilt
EXPERIMENT_TAG = "resblock.experiment"  # the `dvc exp run` that a run belongs to
STUDY_TAG = "resblock.study"  # on trainings: whether the study names the network and the seed
PROCESS_TAG = "resblock.process"  # who writes, or wrote, the run
CURVE_TAG = "resblock.curve"  # digest of the curve that the run is known to hold
ARTIFACTS_TAG = "resblock.artifacts"  # JSON: artifact to the digest of what it was made from
PARENT_TAG = "mlflow.parentRunId"
NOTE_TAG = "mlflow.note.content"

# What MLflow is asked for: the live runs of trainings, and among them those of the study.
LIVE = f"tags.`{STAGE_TAG}` = 'train' and tags.`{SUPERSEDED_TAG}` = 'false'"
TRAIN_RUNS = f"{LIVE} and tags.`{STUDY_TAG}` = 'true'"

RATE = "schedule/learning_rate"  # the parameter is called learning_rate: of one name, MLflow's charts confuse the two

Context = Literal["training", "validation", "test"]


@dataclass(frozen=True)
class DataInput:
    """One split of a data set that a stage read."""

    name: str
    digest: str
    context: Context
    source: str  # an address, or where else the data come from
    profile: Mapping[str, Any]  # sizes


@dataclass(frozen=True)
class Artifact:
    """A file below a run's artifacts: a copy of `source`, or drawn from it."""

    name: str  # for instance figures/depth.png
    source: Path
    draw: Callable[[Path], None] | None = None

    @cached_property
    def digest(self) -> str:
        """Sixteen hex digits over the bytes of `source`."""
        return digest_file(self.source)[:16]


@dataclass(frozen=True)
class Result:
    """Everything that MLflow shows of one result. Before a stage has run, only what is known then."""

    name: str  # of the DVC stage, for instance train@digits-residual-20-0
    dataset: str
    key: str | None  # the result's identity; None for what leaves no files
    params: Mapping[str, Any] = field(default_factory=dict[str, Any])  # nested ones become dotted
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    note: str = ""  # Markdown
    inputs: tuple[DataInput, ...] = ()
    code_is_here: bool = True  # whether the code of this checkout is what made it
    curve: Mapping[int, Mapping[str, float]] = field(default_factory=dict[int, Mapping[str, float]])  # by step
    metrics: Mapping[str, float] = field(default_factory=dict[str, float])  # at the end
    artifacts: tuple[Artifact, ...] = ()
    started: float | None = None  # seconds since 1970
    step_ends: Mapping[int, float] = field(default_factory=dict[int, float])  # likewise, by step
    formerly: tuple[str, ...] = ()  # keys that it had by earlier code, which has been verified to give the same

    @property
    def stage(self) -> str:
        """The stage without its axes, for instance ``train``."""
        return self.name.partition("@")[0]

    @property
    def is_training(self) -> bool:
        """Whether it is of a training, by the data set's own recipe or by another."""
        return self.stage in ("train", "ablate")

    @property
    def ended(self) -> float | None:
        """When the last step ended, in seconds since 1970."""
        return max(self.step_ends.values(), default=self.started)

    @cached_property
    def curve_digest(self) -> str:
        """Equal for equal curves only."""
        rows = [(step, sorted(values.items())) for step, values in sorted(self.curve.items())]
        return digest_bytes(repr(rows).encode())[:16]

    @cached_property
    def shown_params(self) -> dict[str, str]:
        """Parameters as MLflow keeps them: one level, text."""
        return {name: shown_text(value) for name, value in flatten(self.params).items()}

    @cached_property
    def shown_tags(self) -> dict[str, str]:
        """Tags that follow from the result alone, not from where and when its run was written."""
        tags = {
            STAGE_TAG: self.stage,
            NAME_TAG: self.name,
            "resblock.dataset": self.dataset,
            "mlflow.source.name": f"dvc repro {self.name}",
            "mlflow.source.type": "LOCAL",
            **self.tags,
        }
        if self.key:
            tags[KEY_TAG] = self.key
        if self.note:
            tags[NOTE_TAG] = self.note
        return tags


def epoch_metrics(row: EpochRow) -> dict[str, float]:
    """Return one epoch's numbers under the names that MLflow shows them by."""
    return {RATE if name == "learning_rate" else name: value for name, value in row.metrics.items()}


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one level of dotted names."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def shown_text(value: Any) -> str:
    """Return a parameter as MLflow keeps it."""
    return ", ".join(str(entry) for entry in value) if isinstance(value, (list, tuple)) else str(value)
