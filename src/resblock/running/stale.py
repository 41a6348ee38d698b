"""What DVC would do, and why: each stage that is stale or follows from one, and what made it so."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from resblock import paths
from resblock.core.errors import UserError, one_line
from resblock.core.files import read_json
from resblock.core.recipe import BASE
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.training.run import MANIFEST
from resblock.running.recorder import read_quickly

Kind = Literal["new", "parameter", "code", "data", "command", "missing", "changed", "follows"]
Action = Literal["run", "restore", "look up"]
SOURCES = "src/"
RECIPE = "--recipe"


@dataclass(frozen=True)
class Cause:
    """One reason for which a stage is stale."""

    kind: Kind
    what: str  # a key and its values, a file, a folder, or the stage that it follows from

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}" if self.what else self.kind


@dataclass(frozen=True)
class Step:
    """A stage that is not up to date. `look up`: it follows from restored results, and may be in DVC's cache too."""

    stage: str
    command: tuple[str, ...]  # what DVC would start, for instance resblock train digits plain-8 0
    causes: tuple[Cause, ...]
    action: Action
    bytes: int  # of its outs the last time, as dvc.lock says; 0 if it has never been run

    @property
    def kind(self) -> str:
        """The stage without its axes, for instance train."""
        return self.command[1]

    @property
    def dataset(self) -> str:
        """The data set that it works on."""
        return self.command[2]

    @property
    def recipe(self) -> str:
        """The recipe of what it makes or looks at."""
        return self.command[self.command.index(RECIPE) + 1] if RECIPE in self.command else BASE

    @property
    def key(self) -> RunKey | None:
        """The one training that it makes or looks at; None for a stage of many, or of a whole data set."""
        end = self.command.index(RECIPE) if RECIPE in self.command else len(self.command)
        axes = self.command[3:end]
        return RunKey(self.dataset, ModelSpec.parse(axes[0]), int(axes[1]), self.recipe) if len(axes) == 2 else None


def stale_steps(targets: Sequence[str]) -> list[Step]:
    """Return what `dvc repro` would do, in an order in which it could be done.

    A target is a data set, for all stages on it, or a stage (* for anything in it), with those it needs; none at all:
    the whole study. Raises UserError where DVC knows no such thing, or cannot look.
    """
    with _repository() as repo:
        graph = repo.index.graph
        order = list(_in_order(graph, _chosen(repo, targets)))
        # Asked of each stage: with targets `repo.status` reads dvc.lock anew for each of them, a second every time.
        status: dict[str, list[Any]] = {}
        with repo.lock:
            for stage in order:
                status.update(stage.status(check_updates=True))
        steps: dict[str, Step] = {}
        settled: set[str] = set()  # restored to what dvc.lock says: what follows from them does not change
        for stage in order:
            command = tuple(str(stage.cmd).split())
            if command[:1] != ("resblock",):
                continue  # a person's own: what it makes is data to the study's
            before = [each.addressing for each in graph.successors(stage) if each.addressing in steps]
            made = {str(out) for each in graph.successors(stage) if each.addressing in steps for out in each.outs}
            own = [cause for cause in _causes(stage, status.get(stage.addressing, [])) if not _within(cause.what, made)]
            unsettled = [name for name in before if name not in settled]
            size = sum(out.meta.size or 0 for out in stage.outs)
            if not own and not unsettled:
                continue
            if any(steps[name].action == "run" for name in unsettled):
                action: Action = "run"
            elif unsettled:
                action = "look up"
            else:
                action = "restore" if _restorable(repo, stage) else "run"
                if action == "restore" and all(cause.kind in ("missing", "changed") for cause in own):
                    settled.add(stage.addressing)
            follows = [Cause("follows", _listed(unsettled))] if unsettled else []
            steps[stage.addressing] = Step(stage.addressing, command, (*own, *follows), action, int(size))
    return list(steps.values())


@contextmanager
def _repository() -> Generator[Any]:
    """Open DVC's project here; what keeps DVC from looking is told as a message."""
    from dvc.exceptions import DvcException  # a second to import, and only this needs it
    from dvc.repo import Repo

    read_quickly()
    try:
        with Repo() as repo:
            yield repo
    except DvcException as error:
        raise UserError(f"DVC cannot say what is stale: {one_line(error)}; `resblock doctor` may know why") from None


def _chosen(repo: Any, targets: Sequence[str]) -> list[Any]:
    """Return DVC's stages that `targets` name."""
    everything = list(repo.index.stages)
    if not targets:
        return everything
    chosen: list[Any] = []
    for target in targets:
        named = [
            stage
            for stage in everything
            if fnmatchcase(stage.addressing, target) or target in str(stage.cmd).split()[2:3]
        ]
        if not named:
            stages = sorted({stage.addressing.partition("@")[0] for stage in everything})
            raise UserError(
                f"{target}: neither a data set of the study nor a stage; name one as `dvc stage list` does, for "
                f"instance {everything[0].addressing} (there are {', '.join(stages)})"
            )
        chosen += named
    return chosen


def _in_order(graph: Any, stages: Iterable[Any]) -> Iterator[Any]:
    """Yield `stages` and all that they need, each once and after what it needs."""
    seen: set[Any] = set()

    def visit(stage: Any) -> Iterator[Any]:
        if stage not in seen:
            seen.add(stage)
            for needed in sorted(graph.successors(stage), key=lambda each: each.addressing):
                yield from visit(needed)
            yield stage

    for stage in stages:
        yield from visit(stage)


def _causes(stage: Any, entries: Sequence[Any]) -> list[Cause]:
    """Return in our words what `dvc status` says of a stage."""
    entries = [entry if isinstance(entry, dict) else {entry: {}} for entry in entries]
    merged: dict[str, Mapping[str, Any]] = {name: changes for entry in entries for name, changes in entry.items()}
    outs, deps = merged.get("changed outs", {}), merged.get("changed deps", {})
    if outs and deps and not any(out.hash_info for out in stage.outs):
        return [Cause("new", "never run")]
    causes: list[Cause] = []
    for place, change in deps.items():
        if isinstance(change, Mapping):  # a file of parameters
            causes += [Cause("parameter", words) for key in change for words in _edits(stage, str(place), str(key))]
        elif str(place).startswith(SOURCES):
            causes.append(Cause("code", str(place)))
        else:
            causes.append(Cause("missing" if change == "deleted" else "data", str(place)))
    if "changed command" in merged:
        causes.append(Cause("command", str(stage.cmd)))
    for place, change in outs.items():
        where = " in DVC's cache" if change == "not in cache" and Path(place).exists() else ""
        causes.append(Cause("changed" if change == "modified" else "missing", f"{place}{where}"))
    return causes


def _edits(stage: Any, file: str, key: str) -> Iterator[str]:
    """Yield each value below `key` that is not the one by which the stage was run last, with both."""
    (dependency,) = [dep for dep in stage.deps if str(dep) == file]
    former = (dependency.hash_info.value or {}).get(key)
    present = dependency.read_params().get(key)
    for name, (old, new) in _differences(key, former, present):
        yield f"{name} {_shown(old)} -> {_shown(new)}"


def _differences(key: str, old: Any, new: Any) -> Iterator[tuple[str, tuple[Any, Any]]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in dict.fromkeys((*old, *new)):
            yield from _differences(f"{key}.{name}", old.get(name), new.get(name))
    elif old != new:
        yield key, (old, new)


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(str(each) for each in value)}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _within(place: str, folders: set[str]) -> bool:
    """Return whether `place` is one of `folders`, lies in one, or holds one."""
    path = Path(place)
    return any(path == each or each in path.parents or path in each.parents for each in map(Path, folders))


def _restorable(repo: Any, stage: Any) -> bool:
    """Return whether DVC has the results of a stage whose inputs are all there, as `dvc repro` would find out."""
    from dvc.exceptions import DvcException
    from dvc.stage.cache import RunCacheNotFoundError

    try:
        if stage.changed_stage() or not stage.deps_cached():
            stage.save_deps()  # in memory alone: which results are looked for
            for out in stage.outs:
                out.clear()
        repo.stage_cache.restore(stage, dry=True)
    except (RunCacheNotFoundError, DvcException, FileNotFoundError):
        return False
    return True


def _listed(names: Sequence[str], shown: int = 2) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def made_by_others(keys: Iterable[RunKey]) -> list[str]:
    """Say which trainings here were made by other versions of packages than are installed: DVC does not watch these."""
    found: dict[str, list[RunKey]] = {}
    for key in keys:
        manifest = paths.run(key) / MANIFEST
        if not manifest.is_file():
            continue
        for package, theirs in read_json(manifest).get("versions", {}).items():
            if (ours := _installed(package)) != theirs:
                found.setdefault(f"{package} {theirs}, here is {ours or 'none'}", []).append(key)
    return [f"{len(made)} trainings were made by {words}" for words, made in found.items()]


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
