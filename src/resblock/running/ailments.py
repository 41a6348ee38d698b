"""What may be wrong with a machine: its tools, packages, locks, disk and card."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import psutil
from packaging.requirements import Requirement
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from resblock.core.errors import UserError
from resblock.core.files import write_json
from resblock.running.caller import RECORDER
from resblock.running.cards import FOUND_AT
from resblock.running.finding import Finding
from resblock.stages.weights import LOCK

DVC = Path(".dvc")
RWLOCK, GUARD = DVC / "tmp/rwlock", DVC / "tmp/rwlock.lock"
REQUIREMENTS = Path("requirements.lock")
GUARD_PATIENCE = 2.0  # seconds: DVC holds it for a moment
LITTLE = 1_000_000_000  # bytes; below that a study's results, checkpoints and store soon have no room
SHOWN = 5
ASK_JAX = "import jax; print(jax.default_backend())"
JAX_PATIENCE = 120  # seconds for JAX to start


def git() -> Iterator[Finding]:
    """Look for git and its repository: runs are tagged with the commit, DVC ignores what git ignores."""
    if shutil.which("git") is None:
        yield Finding("git is not installed", "install git (Debian, Ubuntu: apt-get install git)")
        return
    asked = ["git", "rev-parse", "--is-inside-work-tree"]
    if subprocess.run(asked, capture_output=True, check=False).returncode:  # noqa: S603
        yield Finding("this folder is no git repository", "clone the project with git, or `git init` here")


def dvc() -> Iterator[Finding]:
    """Look for DVC and its project."""
    if importlib.util.find_spec("dvc") is None:
        yield Finding("DVC is not installed", "`make setup`, then `. .venv/bin/activate`")
    if not (DVC / "config").is_file():
        yield Finding(f"{DVC}/config is not here", "run from the project's root, or `git checkout .dvc`")


def dvc_locks() -> Iterator[Finding]:
    """Look for locks of DVC that nobody holds: of processes that were killed, or half written by one."""
    if not RWLOCK.is_file():
        return
    try:
        with _guarded():
            dead = _dead()
    except UserError:
        return  # whatever edits it for so long lives
    if dead is None:
        yield Finding(f"{RWLOCK} is damaged, and DVC refuses to work", f"rm {RWLOCK}", _remove_rwlock)
    elif dead:
        names = ", ".join(map(str, dead))
        yield Finding(
            f"{RWLOCK} names processes that are gone ({names})", f"take them out of {RWLOCK}", _release_the_dead
        )


@contextmanager
def _guarded() -> Generator[None]:
    """Keep DVC from its file of locks for the block: it empties the file, in place, before it writes it anew.

    Raises UserError where a process of DVC keeps everybody else from it.
    """
    with GUARD.open("a+b") as guard:
        deadline = time.monotonic() + GUARD_PATIENCE
        while True:
            try:
                fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as DVC does while it edits
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise UserError(f"a DVC process is at work in {RWLOCK}; ask again when it has ended") from None
                time.sleep(0.05)
            else:
                break
        yield


def _dead() -> list[int] | None:
    """Return the processes of DVC's locks that are gone; None where their file is not as DVC writes it."""
    try:
        tree = json.loads(RWLOCK.read_text(encoding="utf-8"))
        return sorted({int(info["pid"]) for info in _holders(tree) if not holds(info)})
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _holders(tree: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from tree.get("write", {}).values()
    for several in tree.get("read", {}).values():
        yield from several


def holds(info: dict[str, Any]) -> bool:
    """Return whether the process that took a lock lives, and is not another one with the number of a dead one.

    Whatever may be DVC, however it was started (``python -X dev -m dvc``, ``…/dvc/__main__.py``, a script that imports
    it), counts as that, and so does what may not be looked at: the lock of a living process must not be taken away.
    """
    try:
        words = psutil.Process(int(info["pid"])).cmdline()
    except psutil.NoSuchProcess:  # or a zombie, which psutil counts among them
        return False
    except psutil.Error:
        return True
    if words and " ".join(words).endswith(str(info["cmd"])):  # DVC notes the arguments of its process
        return True
    return any("dvc" in word or word == RECORDER for word in words)


def _release_the_dead() -> str:
    with _guarded():
        tree: dict[str, Any] = json.loads(RWLOCK.read_text(encoding="utf-8"))
        write = {path: info for path, info in tree.get("write", {}).items() if holds(info)}
        read = {path: [each for each in infos if holds(each)] for path, infos in tree.get("read", {}).items()}
        write_json(RWLOCK, {"write": write, "read": {path: infos for path, infos in read.items() if infos}})
    return "removed them"


def _remove_rwlock() -> str:
    with _guarded():
        if _dead() is not None:
            return "it is whole by now"
        RWLOCK.unlink(missing_ok=True)
    return "removed it; DVC writes a new one"


def lock_file() -> Iterator[Finding]:
    """See whether dvc.lock can be read: DVC writes it in place, so a kill may leave half of it."""
    if not LOCK.is_file():
        yield Finding(f"{LOCK} is not here", "`git checkout dvc.lock`, or run everything again", harmful=False)
        return
    try:
        text = LOCK.read_text(encoding="utf-8")
        tree = YAML(typ="safe").load(text)
        well = isinstance(tree, dict) and isinstance(tree.get("stages"), dict) and text.endswith("\n")
        well = well and all(map(_is_entry, tree["stages"].values()))  # where a cut leaves what can be read
    except (YAMLError, UnicodeDecodeError):
        well = False
    if not well:
        yield Finding(
            f"{LOCK} is damaged",
            f"`git checkout {LOCK}`; results that are in DVC's cache are then restored, not made again",
        )


def _is_entry(entry: Any) -> bool:
    """Return whether `entry` of dvc.lock says all that DVC writes of a stage: a command, and of each file a digest."""
    if not isinstance(entry, dict) or "cmd" not in entry:
        return False
    files = [each for kind in ("deps", "outs") for each in entry.get(kind) or ()]
    told = (isinstance(each, dict) and {"path", "hash", "md5"} <= set(each) for each in files)
    makes_something = bool(entry.get("outs")) or not str(entry["cmd"]).startswith("resblock ")  # a person's need not
    return makes_something and all(told)


def packages() -> Iterator[Finding]:
    """Compare installed packages with the lock file."""
    if not REQUIREMENTS.is_file():
        return
    needed = {Requirement(line).name.lower() for line in requires("resblock") or () if "extra ==" not in line}
    other: list[str] = []
    for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines():
        if not re.match(r"[A-Za-z0-9]", line):
            continue
        requirement = Requirement(line.rstrip("\\ "))
        if requirement.marker and not requirement.marker.evaluate():
            continue
        try:
            if not requirement.specifier.contains(installed := version(requirement.name), prereleases=True):
                other.append(f"{requirement.name} {installed} instead of {str(requirement.specifier)[2:]}")
        except PackageNotFoundError:
            if requirement.name.lower() in needed:
                other.append(f"no {requirement.name}")
    if other:
        more = f" and {len(other) - SHOWN} more" if len(other) > SHOWN else ""
        yield Finding(f"not what {REQUIREMENTS} says: {', '.join(other[:SHOWN])}{more}", "`make setup`")


def disk() -> Iterator[Finding]:
    """See whether there is room."""
    free = shutil.disk_usage(Path()).free
    if free < LITTLE:
        yield Finding(
            f"{free / 1e9:.1f} GB are free here", "free some space: `dvc gc --workspace` removes what nothing here uses"
        )


def card() -> Iterator[Finding]:
    """See whether JAX uses the graphics card, where there is one and JAX is what trains."""
    if not FOUND_AT.is_dir() or not any(FOUND_AT.iterdir()):
        return
    if importlib.util.find_spec("jax") is None:
        yield Finding("a graphics card is here, and no JAX", "see docs/gpu.md", harmful=False)
        return
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    asked = [sys.executable, "-c", ASK_JAX]
    try:
        said = subprocess.run(  # noqa: S603
            asked, capture_output=True, text=True, check=True, env=environment, timeout=JAX_PATIENCE
        ).stdout.strip()
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        said = "nothing"
    if said != "gpu":
        yield Finding(
            f"a graphics card is here, and JAX computes on {said}",
            'install jax[cuda12] of the same version, and look for JAX_PLATFORMS in the environment; see "docs/gpu.md"',
            harmful=os.environ.get("KERAS_BACKEND") == "jax",
        )
