"""What may be wrong with the study's own files: data, results, checkpoints, the tracking store."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from resblock import paths
from resblock.core.backends.machine import available_cores
from resblock.core.errors import UserError
from resblock.core.files import PARTIAL, read_json
from resblock.core.recipe import Recipe
from resblock.core.splits import DESCRIPTION, SPLIT_NAMES, read_description, read_verified
from resblock.core.training.run import WEIGHTS
from resblock.damage import fault
from resblock.data.download import verified
from resblock.data.table import find_dataset
from resblock.params import Params, read_params
from resblock.running.dvc import with_this_python
from resblock.running.finding import Finding
from resblock.running.plan import size
from resblock.stages.weights import LOCK, md5
from resblock.startup import start_keras
from resblock.tracking.health import dead_runs, half_made, is_temporary, set_aside
from resblock.tracking.store import URI_VARIABLE, database_file


def data_files() -> Iterator[Finding]:
    """Compare raw files and splits with their digests."""
    for dataset in read_params(paths.PARAMS).study.datasets:
        raw, splits = paths.raw(dataset), paths.splits(dataset)
        if raw.is_dir() and not verified(find_dataset(dataset).source, raw):
            yield Finding(
                f"{raw} is not what was published", f"`dvc repro --force download@{dataset}` fetches what is wrong"
            )
        if (splits / DESCRIPTION).exists():
            try:
                for name in SPLIT_NAMES:
                    read_verified(splits, read_description(splits), name)
            except (UserError, ValueError) as error:
                # Forced: DVC, which hashes when a stage has ended, may hold the damaged ones for right.
                remedy = f"`dvc repro --force --single-item preprocess@{dataset}` cuts them anew"
                yield Finding(str(error).partition(";")[0], remedy, partial(_cut_anew, dataset))


def _cut_anew(dataset: str) -> str:
    command = ("repro", "--quiet", "--force", "--single-item", f"preprocess@{dataset}")
    environment = with_this_python(os.environ)
    ended = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "dvc", *command], env=environment, capture_output=True, text=True, check=False
    )
    if ended.returncode:
        said = [line for line in ended.stderr.splitlines() if line.strip()]
        raise UserError(said[-1] if said else f"dvc ended with exit code {ended.returncode}")
    return "cut them anew"


def recorded_parameters() -> Iterator[Finding]:
    """Find trainings that dvc.lock records under a recipe by which they were not trained.

    DVC reads params.yaml after a stage has ended: an edit in the moment before leaves the wrong values there.
    """
    if not LOCK.is_file():
        return
    stages: dict[str, Any] = YAML(typ="safe").load(LOCK.read_text(encoding="utf-8"))["stages"]
    for dataset in paths.datasets():
        for manifest in paths.manifests(dataset):
            try:
                made = read_json(manifest)
            except ValueError as error:
                if found := fault(error):
                    yield Finding(*found)
                continue
            if made["stage"] != "train":
                continue
            for name, entry in stages.items():
                outs = [out for out in entry.get("outs", ()) if out["path"] == str(manifest)]
                if not outs or outs[0].get("md5") not in (None, md5(manifest)):
                    continue  # of another stage, or not what it recorded: that is stale, and DVC sees it
                recorded = entry.get("params", {}).get(str(paths.PARAMS), {})
                if not recorded_as_made(recorded, made):
                    yield Finding(
                        f"{name} is recorded with parameters by which {manifest.parent} was not trained",
                        f"`dvc repro --force --single-item {name}` trains it by the present ones",
                    )


def recorded_as_made(recorded: dict[str, Any], manifest: dict[str, Any]) -> bool:
    """Return whether the parameters that DVC recorded are those that the training's manifest tells of."""
    own = recorded.get(f"train.{manifest['dataset']}")
    if own is None:
        return True  # an older layout of the pipeline, which says nothing of it
    difference = recorded.get(f"recipes.{manifest['recipe_name']}") or {}
    try:
        return Recipe.from_tree({**own, **difference}).tree() == manifest["recipe"]
    except UserError:
        return True  # of an older code's keys, and stale for that


def checkpoints() -> Iterator[Finding]:
    """Find what trainings left behind that nobody goes on with."""
    folder = paths.CHECKPOINTS
    if not folder.is_dir():
        return
    idle = [path for path in sorted(folder.iterdir()) if path.is_file() and _is_idle(path)]
    scraps = [path for path in idle if path.suffix in (".lock", PARTIAL)]
    if scraps:
        yield Finding(
            f"{_counted(scraps, 'scrap', 'of killed trainings')} in {folder}", "remove them", _removal(scraps)
        )
    files = [path for path in idle if path.suffix == ".npz"]
    finished = _finished_keys() if files else set[str]()
    done = [path for path in files if path.stem in finished]
    if done:
        words = f"{_counted(done, 'checkpoint')} of trainings that have ended well in {folder}"
        yield Finding(words, "remove them", _removal(done))
    others = [path for path in files if path not in done]
    if not others:
        return
    wanted = _wanted_keys(read_params(paths.PARAMS))
    orphans = [path for path in others if path.stem not in wanted]
    if orphans:
        yield Finding(
            f"{_counted(orphans, 'checkpoint')} that no training of the present study goes on from, in {folder}",
            "remove them by hand, unless you mean to undo an edit of params.yaml or of the code: "
            f"rm {' '.join(str(path) for path in orphans)}",
            harmful=False,
        )


def _is_idle(path: Path) -> bool:
    """Return whether no living process holds the training that `path` belongs to."""
    key = path.name.removeprefix(".").partition(".")[0]
    try:
        with (path.parent / f"{key}.lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _finished_keys() -> set[str]:
    """Return the keys of trainings whose results lie here whole: git may bring back all but the weights."""
    return {
        read_json(manifest)["key"]
        for dataset in paths.datasets()
        for manifest in paths.manifests(dataset)
        if read_json(manifest).get("stage") == "train" and (manifest.parent / WEIGHTS).is_file()
    }


def _wanted_keys(params: Params) -> set[str]:
    """Return the keys of all trainings of the study as it stands, on data sets whose splits are here."""
    start_keras(params.recipe(params.study.datasets[0]).threads)
    from resblock.core.training.manifest import make_manifest  # Keras, now quiet

    wanted: set[str] = set()
    for dataset in params.study.datasets:
        if not (paths.splits(dataset) / DESCRIPTION).is_file():
            continue
        digest = read_description(paths.splits(dataset)).digest
        for key in params.keys(dataset):
            recipe = params.recipe(dataset, key.recipe)
            threads = recipe.threads or available_cores()
            wanted.add(make_manifest(key, recipe, data_digest=digest, threads=threads)["key"])
    return wanted


def _counted(files: list[Path], what: str, rest: str = "") -> str:
    several = f"{what}{'s' * (len(files) != 1)} {rest}".rstrip()
    return f"{len(files)} {several} ({size(sum(path.stat().st_size for path in files))})"


def _removal(files: list[Path]) -> Callable[[], str]:
    def remove() -> str:
        for path in files:
            path.unlink(missing_ok=True)
        return "removed them"

    return remove


def store() -> Iterator[Finding]:
    """Look at the file behind MLflow: whole, and in a place that lasts."""
    file = database_file()
    if file is None or not file.exists():
        return
    if why := half_made(file):
        yield Finding(
            f"{file} {why}; MLflow cannot use it",
            "put it aside and call `resblock sync`, which makes another from the files",
            partial(set_aside, file),
        )
    if is_temporary(file) and not is_temporary(Path.cwd()):
        yield Finding(f"{file} lies in a temporary folder", f"name a place that lasts in {URI_VARIABLE}, or unset it")


def runs() -> Iterator[Finding]:
    """Find runs that say RUNNING for processes that are gone."""
    file = database_file()
    if file is not None and (not file.exists() or half_made(file)):
        return
    dead, end = dead_runs(read_params(paths.PARAMS).study.datasets)
    if dead:
        names = ", ".join(dead[:3]) + (f" and {len(dead) - 3} more" if len(dead) > 3 else "")
        yield Finding(f"{len(dead)} say RUNNING, and their processes are gone: {names}", "mark them KILLED", end)
