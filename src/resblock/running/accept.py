"""New code recorded for a result that only code made stale: in its manifest and in dvc.lock, the result untouched.

Whoever calls this has trained the first epochs again, and found them equal to the published ones.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from resblock import paths
from resblock.core.errors import UserError
from resblock.core.files import digest_sources, read_json, write_bytes, write_json
from resblock.core.spec import RunKey
from resblock.core.training.run import MANIFEST
from resblock.evaluation.identity import intact
from resblock.params import Params
from resblock.running.repeat import Repeat, unlike
from resblock.signals import uninterrupted

STALE_BY_CODE = [f"{paths.CORE} modified"]


def is_stale(key: RunKey, published: Mapping[str, Any], *, changed: Mapping[str, Any], params: Params) -> bool:
    """Return whether code, and nothing else, made the training of `key` stale; False where nothing did.

    `changed` is what `Dvc.changed` returned.

    Raises UserError where its manifest or DVC name another reason.
    """
    if not intact(published):
        raise UserError("its run.json was edited: its key is not that of its content")
    asked = params.recipe(key.dataset, key.recipe).tree()
    if reasons := [words for _, words in unlike({"recipe": published["recipe"]}, {"recipe": asked})]:
        raise UserError(f"{paths.PARAMS} asks for another recipe ({'; '.join(reasons)})")
    found = list(_flat(changed.get(paths.stage(key), [])))
    if found not in ([], STALE_BY_CODE):
        more = "; `dvc checkout` or `dvc pull` brings what is deleted" if "deleted" in " ".join(found) else ""
        raise UserError(f"by dvc status it is not the code alone that changed ({', '.join(found)}){more}")
    return bool(found) or published["code"] != digest_sources(paths.CORE)


def refuse_others(published: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Raise UserError where more than the code would make the training here another one than the published."""
    if reasons := [words for name, words in unlike(published, here) if name != "code"]:
        raise UserError("; ".join(reasons))
    if here["code"] != digest_sources(paths.CORE):
        raise UserError(
            f"the code that runs is not that in {paths.CORE}; run resblock from the project's root, once it rests"
        )


def accept(key: RunKey, published: Mapping[str, Any], repeat: Repeat, *, weights: bool) -> None:
    """Record the code that trained `repeat` for the result of `key`, and what was compared; `weights`: those too.

    The result keeps its numbers. Its new key is the one that this code gives it, and its manifest says of each earlier
    one by which code it was trained and how much of it the next code gave again. Raises UserError where more than the
    code differs, or DVC cannot record it.
    """
    refuse_others(published, repeat.manifest)
    seen = {"key": published["key"], "code": published["code"], "epochs": repeat.epochs, "weights": weights}
    tree = {name: repeat.manifest.get(name, value) for name, value in published.items()}
    if tree["key"] != published["key"]:  # else DVC alone saw a change, in what is no Python file
        tree["verified"] = [*published.get("verified", ()), seen]
    file = paths.run(key) / MANIFEST
    before = file.read_bytes()
    if read_json(file) != published:
        raise UserError(f"{file}: has changed meanwhile; start again")
    with uninterrupted():
        write_json(file, tree)
        recorded = _dvc("--wait-for-lock", "commit", "--force", "--quiet", paths.stage(key))
        if recorded.returncode:
            write_bytes(file, before)
            raise UserError(f"dvc commit failed: {recorded.stderr.strip()}")


def _flat(node: Any, name: str = "") -> Iterator[str]:
    """Yield each change of a stage in DVC's JSON: what changed, and how."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _flat(value, "" if key in ("changed deps", "changed outs") else f"{name} {key}".strip())
    elif isinstance(node, list):
        for value in node:
            yield from _flat(value, name)
    else:
        yield f"{name} {node}".strip()


def _dvc(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run DVC, out of reach of a Ctrl-C at the terminal: cut short, it may leave half of what it writes."""
    return subprocess.run(  # noqa: S603
        [sys.executable, "-m", "dvc", *arguments], capture_output=True, text=True, check=False, process_group=0
    )
