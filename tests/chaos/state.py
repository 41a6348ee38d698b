"""What a study ends as: the digests of its outs, what MLflow shows, whether DVC is content, what was left behind."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from ruamel.yaml import YAML

from resblock.core.files import digest_file
from resblock.running.checkup import recorded_as_made
from resblock.tracking.result import KEY_TAG, NAME_TAG, SUPERSEDED_TAG
from tests.chaos.scene import store_of
from tests.pipeline.conftest import Workspace

TIMED = ("images_per_second", "seconds", "system/")  # metrics that differ in every repeat
TIMED_OUTS = ("index.html", "/timing")  # outs that print times
MANIFEST = "run.json"
EXPERIMENT = "resblock-digits"


@dataclass(frozen=True)
class EndState:
    """All of a finished study that must be equal in every repeat."""

    outs: Mapping[str, str]  # stage and file to digest
    shown: Mapping[str, Any]  # each live run of a result in MLflow


def end_state(root: Path) -> EndState:
    """Read what the study in `root` ended as."""
    return EndState(files_of(root), dict(_shown(root)))


def files_of(root: Path) -> dict[str, str]:
    """Return the digests of a study's outs, as dvc.lock has them and as they lie there."""
    recorded: dict[str, str] = {}
    lying: dict[str, str] = {}
    for name, stage in Workspace(root).lock().items():
        for file in (*stage["outs"], *stage.get("deps", [])):
            path = str(file["path"])
            if not path.startswith("src/") and not path.endswith(TIMED_OUTS):
                recorded[f"{name} {path}"] = str(file.get("md5"))
        lying |= {path: digest for out in stage["outs"] for path, digest in _digests(root, str(out["path"]))}
    return {**recorded, **lying}


def _digests(root: Path, out: str) -> Iterator[tuple[str, str]]:
    """Yield each file of an out as it lies in the project, with its digest: what dvc.lock says may be wrong."""
    if not out.endswith(TIMED_OUTS):
        place = root / out
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if not path.is_dir():
                yield str(path.relative_to(root)), digest_file(path) if path.is_file() else "missing"


def _shown(root: Path) -> Iterator[tuple[str, Any]]:
    """Yield each live run of a result, with all that it shows but times."""
    client = MlflowClient(tracking_uri=store_of(root))
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    for run in client.search_runs([experiment.experiment_id], f"tags.`{SUPERSEDED_TAG}` = 'false'"):
        tags = run.data.tags
        if KEY_TAG not in tags:  # of a command, which leaves no result
            continue
        metrics = {
            name: [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name)]
            for name in run.data.metrics
            if not name.startswith(TIMED)
        }
        # A figure of the end may be written again with the same value; an epoch may not.
        final = {
            name: sorted(points if any(step for step, _ in points) else set(points)) for name, points in metrics.items()
        }
        yield (
            f"{tags[NAME_TAG]} {tags[KEY_TAG]}",
            {"status": run.info.status, "params": dict(run.data.params), "metrics": final},
        )


def differences(found: EndState, expected: EndState) -> list[str]:
    """Say in what a study ended otherwise than the undisturbed one."""
    said: list[str] = []
    for what, ours, theirs in (("outs", found.outs, expected.outs), ("MLflow", found.shown, expected.shown)):
        said += [f"{what}: {name} is missing" for name in sorted(theirs.keys() - ours.keys())]
        said += [f"{what}: {name} is too many" for name in sorted(ours.keys() - theirs.keys())]
        said += [
            f"{what}: {name} is {_short(ours[name])}, undisturbed {_short(theirs[name])}"
            for name in sorted(ours.keys() & theirs.keys())
            if ours[name] != theirs[name]
        ]
    return said


def _short(value: Any) -> str:
    return json.dumps(value, default=str)[:200]


def misrecorded(root: Path) -> list[str]:
    """Say which trainings dvc.lock or the run cache have under parameters that they were not trained with."""
    entries = [(f"dvc.lock, {name}", entry) for name, entry in Workspace(root).lock().items()]
    for file in sorted((root / ".dvc/cache/runs").glob("*/*/*")):
        tree: dict[str, Any] = YAML(typ="safe").load(file.read_text())
        entries.append((f"run cache, {tree['cmd']}", tree))
    said: list[str] = []
    for name, entry in entries:
        if not str(entry["cmd"]).startswith("resblock train "):
            continue
        (out,) = [out for out in entry["outs"] if out["path"].endswith(f"/{MANIFEST}")]
        cached = root / ".dvc/cache/files/md5" / out["md5"][:2] / out["md5"][2:]
        manifest = cached if cached.is_file() else root / out["path"]
        if not manifest.is_file():
            continue  # dvc.lock of a result that a fault took away; DVC will see that
        if not recorded_as_made(entry["params"]["params.yaml"], json.loads(manifest.read_text())):
            said.append(f"{name}: recorded with other parameters than it was trained with")
    return said


def left_behind(root: Path) -> list[str]:
    """Say what lies about that a finished study does not leave: partial files, checkpoints, runs without an end."""
    said = [f"{path.relative_to(root)} was left" for path in (root / "results").rglob("*.partial")]
    said += [f"{path.relative_to(root)} was left" for path in (root / ".checkpoints").glob("*.lock")]
    client = MlflowClient(tracking_uri=store_of(root))
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    running = client.search_runs(experiments, "attributes.status = 'RUNNING'")
    return said + [f"MLflow: {run.info.run_name} is RUNNING" for run in running]
