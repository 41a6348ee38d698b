"""Each stage's result as MLflow shows it, read from the files that git holds: for live runs and rebuilt ones alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import accumulate
from pathlib import Path
from typing import Any

from resblock import costs, paths
from resblock.core.files import read_json
from resblock.core.spec import RunKey
from resblock.core.training.run import CURVE, GRADIENTS, MANIFEST, METRICS, EpochRow, read_curve
from resblock.evaluation.assessment import SCORE, TABLES, read_score
from resblock.evaluation.flow import SHATTERING
from resblock.evaluation.score import HEADLINE
from resblock.params import ParamsError, read_params
from resblock.report.template import LINKS
from resblock.stages.manifests import training_key
from resblock.stages.openings import opening_of
from resblock.stages.weights import weights_address
from resblock.tracking.result import Artifact, Result, epoch_metrics, flatten

DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError)  # raised by files that are not what they were
PICTURE, COST = "curve.png", "cost.json"


def datasets_with_results() -> list[str]:
    """Return every data set that has results here, by name, but those of the study first and in its order."""
    try:
        study = read_params(paths.PARAMS).study.datasets
    except ParamsError:  # what is there can be shown without
        study = []
    return sorted(paths.datasets(), key=lambda name: (study.index(name) if name in study else len(study), name))


def results_of(dataset: str) -> Iterator[tuple[Path, Result | Exception]]:
    """Yield each result on `dataset` that lies here with its manifest; an exception where its files are damaged."""
    for path in paths.manifests(dataset):
        try:
            yield path, result_of(read_json(path))
        except DAMAGED as error:
            yield path, error


def result_of(manifest: Mapping[str, Any]) -> Result:
    """Return the result that `manifest` belongs to, with what its files hold."""
    stage = str(manifest["stage"]).partition("@")[0]
    if stage == "train":
        return trained(training_key(manifest))
    if stage == "evaluate":
        return evaluated(manifest)
    described = {"download": _downloaded, "preprocess": _preprocessed, "probe": _probed, "report": _reported}
    metrics, artifacts = described[stage](manifest)
    started = paths.manifest(stage, manifest["dataset"]).stat().st_mtime
    return replace(opening_of(manifest), metrics=metrics, artifacts=artifacts, started=started)


def trained(key: RunKey) -> Result:
    """Return the result of one training: curve, cost, and test figures if it was this very result that was scored."""
    folder = paths.run(key)
    manifest = read_json(folder / MANIFEST)
    opening = opening_of(manifest)
    tags = {**opening.tags, "resblock.status": manifest["status"]}
    if address := weights_address(key):
        tags["resblock.weights"] = address
    curve = read_curve(folder) if (folder / CURVE).is_file() else []
    metrics = _test_figures(key, manifest["key"])
    artifacts = _copies(folder, CURVE, GRADIENTS, METRICS, MANIFEST)
    if curve:
        artifacts += (Artifact(PICTURE, folder / CURVE, lambda path: _draw(key, curve, path)),)
    started, step_ends = (folder / MANIFEST).stat().st_mtime, dict[int, float]()
    if taken := costs.own_first(key, manifest):
        cost = taken.cost
        artifacts += (Artifact(COST, taken.file),)
        metrics |= {
            name: getattr(cost, name) for name in ("images_per_second", "seconds", "parameters", "multiply_adds")
        }
        started = datetime.fromisoformat(cost.started).timestamp()
        step_ends = dict(enumerate(accumulate(cost.epoch_seconds, initial=started)))
    return replace(
        opening,
        tags=tags,
        curve={row.epoch: epoch_metrics(row) for row in curve},
        metrics=metrics,
        artifacts=artifacts,
        started=started,
        step_ends=step_ends,
    )


def evaluated(manifest: Mapping[str, Any]) -> Result:
    """Return the result of one evaluation: all losses and accuracies, and the tables of closer looks."""
    folder = paths.scores(training_key(manifest))
    score = read_score(folder)
    opening = opening_of(manifest)
    return replace(
        opening,
        tags={**opening.tags, "resblock.status": score.status},
        metrics=score.metrics,
        artifacts=_copies(folder, *TABLES, MANIFEST),
        started=(folder / MANIFEST).stat().st_mtime,
    )


def _test_figures(key: RunKey, result: str) -> dict[str, float]:
    """Return the figures on test images, unless another result of the same training was scored."""
    folder = paths.scores(key)
    if not (folder / SCORE).is_file() or read_json(folder / MANIFEST)["training"] != result:
        return {}
    return {name: value for name, value in read_score(folder).metrics.items() if name.startswith("test")}


def _downloaded(manifest: Mapping[str, Any]) -> tuple[Mapping[str, float], tuple[Artifact, ...]]:
    sizes = {"files": len(manifest["files"]), "bytes": manifest["bytes"]}
    return sizes, (Artifact(MANIFEST, paths.manifest("download", manifest["dataset"])),)


def _preprocessed(manifest: Mapping[str, Any]) -> tuple[Mapping[str, float], tuple[Artifact, ...]]:
    sizes = {f"{name}_images": size for name, size in manifest["sizes"].items()}
    return sizes, (Artifact(MANIFEST, paths.manifest("preprocess", manifest["dataset"])),)


def _draw(key: RunKey, curve: Sequence[EpochRow], path: Path) -> None:
    from resblock.report.figures import run_curves  # Matplotlib, 27 MB that a runner need not hold
    from resblock.report.style import save_figure

    save_figure(run_curves({str(key): curve}), path)


def _probed(manifest: Mapping[str, Any]) -> tuple[Mapping[str, float], tuple[Artifact, ...]]:
    networks = len(manifest["variants"]) * len(manifest["seeds"])
    return {"networks": networks}, _copies(paths.untrained(manifest["dataset"]), GRADIENTS, SHATTERING, MANIFEST)


def _reported(manifest: Mapping[str, Any]) -> tuple[Mapping[str, float], tuple[Artifact, ...]]:
    folder = paths.report(manifest["dataset"])
    files = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.is_file()]
    written = read_json(folder / METRICS) if METRICS in files else {}
    gaps = written.get(HEADLINE, written).get("residual_minus_plain", {})  # once a part for each kind of statistics
    numbers = {name: value for name, value in flatten(gaps, "residual_minus_plain.").items() if value is not None}
    # The page of links tells of the store at hand, and would differ from itself in every other.
    return numbers, _copies(folder, *(name for name in files if not name.endswith((".partial", ".gitignore", LINKS))))


def _copies(folder: Path, *names: str) -> tuple[Artifact, ...]:
    return tuple(Artifact(name, folder / name) for name in names if (folder / name).is_file())
