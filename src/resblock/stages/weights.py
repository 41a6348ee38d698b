"""Where DVC keeps a training's weights: an address that a run can name, whether or not the file is here."""

from __future__ import annotations

import configparser
import hashlib
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from resblock import paths
from resblock.core.spec import RunKey
from resblock.core.training.run import MANIFEST, WEIGHTS

LOCK = Path("dvc.lock")
CONFIGS = (Path(".dvc/config"), Path(".dvc/config.local"))  # the later one wins
CACHE = ".dvc/cache"  # where nothing else is configured, relative to the project


def weights_address(key: RunKey) -> str | None:
    """Return the place of the weights in DVC's remote, in its cache where there is no remote; None if unknown.

    A stage's entry in dvc.lock is written after it has ended, so weights that are here are digested here.
    """
    digest = weights_digest(key)
    return _stored(_name(digest)) if digest else None


def weights_digest(key: RunKey) -> str | None:
    """Return the MD5 of the weights, by dvc.lock where they are not here; None if unknown."""
    weights = paths.run(key) / WEIGHTS
    return md5(weights) if weights.is_file() else _locked(key)


def may_be_pulled(path: Path, stage: str) -> bool:
    """Return whether DVC's remote holds the file at `path`, which `stage` makes; one on a server may."""
    if not LOCK.is_file():
        return False
    outs = _read_stages(LOCK.resolve(), LOCK.stat().st_mtime_ns).get(stage, {}).get("outs", ())
    digest = next((out.get("md5") for out in outs if Path(out["path"]) in (path, *path.parents)), None)
    place = _remote()
    return bool(digest and place and ("://" in place or Path(place, _name(digest)).is_file()))


def md5(path: Path) -> str:
    """Return the digest by which DVC knows the file at `path`, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _locked(key: RunKey) -> str | None:
    """Return what dvc.lock says of the weights, provided that it speaks of the very result that is here."""
    if not LOCK.is_file():
        return None
    stage = _read_stages(LOCK.resolve(), LOCK.stat().st_mtime_ns).get(paths.stage(key), {})
    outs = {Path(out["path"]).name: out.get("md5") for out in stage.get("outs", ())}
    manifest = paths.run(key) / MANIFEST
    return outs.get(WEIGHTS) if manifest.is_file() and outs.get(MANIFEST) == md5(manifest) else None


@lru_cache(maxsize=1)
def _read_stages(lock: Path, _: int) -> dict[str, Any]:
    """Read `lock` once for all trainings, and again when it has changed at the time given."""
    return (YAML(typ="safe").load(lock.read_text(encoding="utf-8")) or {}).get("stages", {})


def _name(digest: str) -> str:
    """Return what DVC calls a file in a cache or a remote."""
    return f"files/md5/{digest[:2]}/{digest[2:]}"


def _stored(name: str) -> str:
    """Return the address of what DVC calls `name`; of a folder in the project it must be in there, as few are."""
    place = _remote()
    if place and "://" not in place and not Path(place).is_absolute():
        place = place if Path(place, name).is_file() else None
    return f"{(place or dvc_config().get('cache', 'dir', fallback=CACHE)).rstrip('/')}/{name}"


def _remote() -> str | None:
    """Return the address of DVC's remote, a relative folder as seen from the project; None where there is none."""
    config = dvc_config()
    remote = config.get("core", "remote", fallback=None)
    place = config.get(f"'remote \"{remote}\"'", "url", fallback=None) if remote else None
    if place and "://" not in place and not Path(place).is_absolute():
        return os.path.normpath(CONFIGS[0].parent / place)  # DVC reads it from where its configuration lies
    return place


def dvc_config() -> configparser.ConfigParser:
    """Return how DVC is configured in this project."""
    config = configparser.ConfigParser(interpolation=None)  # an address may hold a per cent sign
    config.read(CONFIGS, encoding="utf-8")
    return config
