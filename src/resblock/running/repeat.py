"""A training done again in a scratch folder, and the first place where it differs from what is published."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resblock import paths
from resblock.core.errors import UserError
from resblock.core.files import read_arrays, read_json
from resblock.core.spec import RunKey
from resblock.core.training.checkpoint import Checkpoint
from resblock.core.training.job import Job, Workshop
from resblock.core.training.manifest import read_recipe
from resblock.core.training.run import CURVE, GRADIENTS, METRICS, WEIGHTS, EpochRow, Run, write_run
from resblock.core.training.watcher import Nobody
from resblock.damage import conflicted
from resblock.evaluation.identity import OUTSIDE_THE_KEY
from resblock.stages.terminal import step_bar, warn
from resblock.stages.weights import md5

DIGITS = 8  # of a digest that is shown


@dataclass(frozen=True)
class Repeat:
    """What training again gave: the files of a run, of its first epochs alone where it was not trained to its end."""

    manifest: Mapping[str, Any]  # of the code, the data and the machine here
    folder: Path
    epochs: int  # that were trained
    whole: bool


class _EnoughError(Exception):
    """The training has reached the epoch that it was to reach."""


class _Watcher(Nobody):
    """Ends a training after so many epochs; its schedule stays that of the whole."""

    def __init__(self, name: str, epochs: int | None, check: Callable[[Mapping[str, Any]], None]) -> None:
        self._name, self._epochs, self._check = name, epochs, check
        self.manifest: Mapping[str, Any] = {}

    @contextmanager
    def watch(self, manifest: dict[str, Any]) -> Generator[None]:
        """See `resblock.core.training.job.Watcher`."""
        self.manifest = manifest
        self._check(manifest)
        with step_bar(self._name) as self._move:
            yield

    def step(self, epoch: int, done: int, steps: int) -> None:
        """See `resblock.core.training.job.Watcher`."""
        self._move(epoch, done, steps)

    def epoch(self, row: EpochRow) -> None:
        """See `resblock.core.training.job.Watcher`."""
        if row.epoch == self._epochs:
            raise _EnoughError

    def warn(self, message: str) -> None:
        """See `resblock.core.training.job.Watcher`."""
        warn(message)


def repeat(
    key: RunKey,
    published: Mapping[str, Any],
    scratch: Path,
    workshop: Workshop,
    *,
    epochs: int | None = None,
    check: Callable[[Mapping[str, Any]], None] = lambda _: None,
) -> Repeat:
    """Train `key` again as its manifest `published` says, into the folder `scratch`; to the end, or so many epochs.

    `check` gets the manifest of what is about to be trained here, and may raise before it is.
    """
    recipe = read_recipe(published)
    job = Job(
        key=key,
        recipe=recipe,
        splits=paths.splits(key.dataset),
        results=scratch / "run",
        cost=scratch / "cost.json",
        checkpoints=scratch / "checkpoints",
    )
    watcher = _Watcher(paths.stage(key), epochs if epochs is not None and epochs < recipe.epochs else None, check)
    try:
        run = workshop.train(job, watcher)
    except _EnoughError:
        progress = Checkpoint(job.checkpoints, watcher.manifest["key"]).load(warn)
        assert progress is not None  # it is saved before the watcher hears of the epoch
        write_run(job.results, Run(watcher.manifest, "finished", progress.curve, {}, progress.gradients))
        return Repeat(watcher.manifest, job.results, len(progress.curve), whole=False)
    return Repeat(watcher.manifest, job.results, len(run.curve), whole=True)


def unlike(published: Mapping[str, Any], here: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the entries in which two manifests differ, and in words how: what was trained, by what, on what."""
    return [
        (name.partition(".")[0], f"{name.replace('.', ' ')}: published {_show(theirs)}, here {_show(ours)}")
        for name, theirs, ours in _differing(published, here)
    ]


def first_difference(published: Path, again: Repeat, weights: str | None) -> str | None:
    """Say where the training that left the folder `published` first differs from `again`; None where it does not.

    Curve and gradient norms are compared to the byte as far as `again` goes, metrics and weights where it is whole.
    `weights` is the MD5 of the published weights, which need not be here; None where nobody knows it. Raises UserError
    where git left the conflict of a merge in what is published.
    """
    for name in (CURVE, GRADIENTS, METRICS):
        if words := conflicted(published / name):
            raise UserError(words)
    last = None if again.whole else again.epochs
    for name in (CURVE, GRADIENTS):
        if words := _first_in_table(published / name, again.folder / name, last):
            return f"{name}, {words}"
    if not again.whole:
        return None
    if words := _first_in_metrics(published / METRICS, again.folder / METRICS):
        return f"{METRICS}, {words}"
    if weights is None or weights == md5(again.folder / WEIGHTS):
        return None
    return f"{WEIGHTS}, {_first_in_weights(published / WEIGHTS, again.folder / WEIGHTS)}"


def _differing(theirs: Any, ours: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(theirs, Mapping) and isinstance(ours, Mapping):
        for key in dict.fromkeys((*ours, *theirs)):
            if name or key not in OUTSIDE_THE_KEY:
                yield from _differing(theirs.get(key), ours.get(key), f"{name}.{key}" if name else key)
    elif theirs != ours:
        yield name, theirs, ours


def _show(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text[:DIGITS] if len(text) == 64 else text


def _first_in_table(published: Path, here: Path, last: int | None) -> str | None:
    """Compare the lines of two tables up to epoch `last`, to the end where that is None."""
    theirs, ours = (_lines(path, last) for path in (published, here))
    if theirs == ours:
        return None
    columns = _cells(ours[0])
    for number, (their_line, our_line) in enumerate(zip(theirs, ours, strict=False)):
        if their_line == our_line:
            continue
        their_cells, our_cells = _cells(their_line), _cells(our_line)
        if number == 0:
            return f"the names of the columns: published {', '.join(their_cells)}, here {', '.join(our_cells)}"
        place = f"epoch {our_cells[0]}" if published.name == CURVE else " ".join(our_cells[:3])
        for column, their_cell, our_cell in zip(columns, their_cells, our_cells, strict=False):
            if their_cell != our_cell:
                return f"{place}, {column}: published {their_cell or 'nothing'}, here {our_cell or 'nothing'}"
        return f"{place}: the numbers are equal, the bytes are not"
    return f"published {len(theirs) - 1} rows, here {len(ours) - 1}; those that both have are equal"


def _lines(path: Path, last: int | None) -> list[bytes]:
    """Return the header and the rows up to epoch `last`, which each row begins with."""
    header, *rows = path.read_bytes().splitlines(keepends=True) or [b""]
    return [header, *(row for row in rows if last is None or _epoch(row) <= last)]


def _epoch(row: bytes) -> int:
    number = row.partition(b",")[0]
    return int(number) if number.isdigit() else 0  # what is no row of a table must not pass unseen


def _cells(line: bytes) -> list[str]:
    return next(csv.reader(io.StringIO(line.decode(errors="replace"), newline="")), [])


def _first_in_metrics(published: Path, here: Path) -> str | None:
    if published.read_bytes() == here.read_bytes():
        return None
    for name, theirs, ours in _differing(read_json(published), read_json(here)):
        return f"{name}: published {theirs}, here {ours}"
    return "the numbers are equal, the bytes are not"


def _first_in_weights(published: Path, here: Path) -> str:
    if not published.is_file():
        return "another file than the published one, of which only the digest is here"
    theirs, ours = read_arrays(published), read_arrays(here)
    for name, mine in ours.items():
        if name not in theirs or theirs[name].shape != mine.shape:
            return f"{name}: no array of this name and shape is published"
        if not np.array_equal(theirs[name], mine, equal_nan=True):
            apart = np.nan_to_num(np.abs(theirs[name].astype(np.float64) - mine), nan=np.inf)
            return f"{name}: {np.count_nonzero(apart)} of {mine.size} numbers, by {apart.max():.2g} at most"
    return "the numbers are equal, the bytes are not"
