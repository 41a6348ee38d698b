"""What lies here of the trainings that a study asks for: each is checked, and a foreign one has no figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resblock.core.files import read_json
from resblock.core.spec import RunKey
from resblock.core.training.run import MANIFEST, is_there
from resblock.evaluation.assessment import read_score
from resblock.evaluation.identity import Wanted, intact, keys_of, read_training
from resblock.evaluation.score import Score, Status, empty_score

NAMED = 3  # trainings that a sentence names


@dataclass(frozen=True)
class Found:
    """One training of a study, and what an evaluation found of it."""

    key: RunKey
    score: Score  # with figures only where training and evaluation are what was asked for
    training: Mapping[str, Any] | None = None  # its manifest, where it is what was asked for
    evaluation: Mapping[str, Any] | None = None  # the manifest of what looked at it, likewise
    reason: str = ""  # why it has no figures, where something is here


def find(wanted: Wanted, training: Path, scores: Path) -> Found:
    """Look for a training in the folder `training`, and for what was found of it in the folder `scores`."""

    def without(status: Status, reason: str, manifest: Mapping[str, Any] | None = None) -> Found:
        return Found(wanted.key, empty_score(wanted.key.spec, wanted.key.seed, status), manifest, reason=reason)

    if not is_there(training):
        return without("missing", "")
    manifest, reason = read_training(training, wanted)
    if reason:
        return without("foreign", reason)
    if manifest["status"] == "diverged":
        return without("diverged", "", manifest)
    if not is_there(scores):
        return without("missing", "trained, but not evaluated yet", manifest)
    try:
        evaluation = read_json(scores / MANIFEST)
        if not intact(evaluation) or evaluation["training"] not in keys_of(manifest):
            return without("foreign", "its scores are those of another training")
        return Found(wanted.key, read_score(scores), manifest, evaluation)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return without("foreign", "its scores are damaged, or another version's")


def left_out(found: Iterable[tuple[str, Found]]) -> list[str]:
    """Return a sentence for each reason for which trainings that are here have no figures; each stands with its name.

    What is missing altogether is told elsewhere.
    """
    names: dict[str, list[str]] = {}
    for name, one in found:
        if one.reason:
            names.setdefault(one.reason, []).append(name)
    return [f"{_listed(those)}: {reason}" for reason, those in names.items()]


def _listed(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
