"""A data set's entry in params.yaml, written as a person would: text is added, and what stands there stays."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from resblock import defaults
from resblock.core.errors import UserError
from resblock.core.files import write_text
from resblock.params import ParamsError, read_params

NAME = "[a-z0-9]+(-[a-z0-9]+)*"
COMMENT = 28  # column at which comments start

COMMENTS: Mapping[str, str] = {
    "format": "folder | arrays | parquet | cifar10 | cifar100: how the files at sources/{name} are read",
    "size": "pixels: the short side is brought to it, the rest cut off around the centre",
    "channels": "1 (grey) | 3 (RGB)",
    "on_error": "refuse | skip pictures that cannot be read",
    "test_fraction": "official | auto (official where there is one, else 0.2) | a fraction in (0, 1)",
    "validation_fraction": "official | auto (official where there is one, else 0.1 of the rest) | a fraction in (0, 1)",
    "split_seed": "decides which images go where",
    "epochs": "passes over the training images, by their number",
    "batch_size": "images per optimiser step",
    "learning_rate": "the peak, where the schedule moves it",
    "schedule": "constant | step | cosine | onecycle",
    "horizontal_flip": "true where a mirrored picture means the same",
    "vertical_flip": "true where a picture upside down means the same",
    "crop_padding": "pixels of zeros on each side before a random crop; 4 is usual at 32 pixels",
    "reestimate_images": "training images from which batch-norm statistics are re-estimated",
    "images": "training images that gradients are measured on",
    "corrupted_images": "test images made worse in five ways",
}


def defaults_in_use(path: Path, name: str) -> dict[str, Any]:
    """Return the keys that params.yaml, the file at `path`, leaves to the defaults of a person's data set `name`."""
    tree = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    if "format" not in ((tree.get("data") or {}).get(name) or {}):
        return {}  # a published one, which has none
    return defaults.left_out(tree, name)


def require_written(path: Path, name: str) -> None:
    """Raise ParamsError where the file at `path` leaves keys of `name` to the defaults: DVC would not see them."""
    if held := defaults_in_use(path, name):
        raise ParamsError(
            f"{path} leaves {len(held)} keys of {name} to the defaults ({next(iter(held))} …), where DVC does not see "
            f"them; `resblock data add {name}` writes them down"
        )


def write_entry(path: Path, name: str, values: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Add to the file at `path` what it lacks of the sections `values` of the data set `name`; return the keys added.

    The study is to comprise it, too. Raises UserError, the file untouched, where that cannot be done.
    """
    before = path.read_text(encoding="utf-8")
    tree: dict[str, Any] = YAML(typ="safe").load(before)
    lines, added = before.splitlines(), list[str]()
    for section, wanted in values.items():
        there = (tree.get(section) or {}).get(name)
        missing = {key: value for key, value in wanted.items() if key not in (there or {})}
        if missing:
            block = [f"    {_line(key, value, name)}" for key, value in missing.items()]
            _insert(
                lines, [section] if there is None else [section, name], [*([] if there else [f"  {name}:"]), *block]
            )
            added += [f"{section}.{name}.{key}" for key in missing]
    if name not in tree["study"]["datasets"]:
        _join_study(lines, name)
    _check(path, "\n".join(lines) + "\n", before)
    return added


def _check(path: Path, text: str, before: str) -> None:
    """Write `text` if it is right; what stood there stays otherwise."""
    scratch = path.with_name(f".{path.name}.new")
    try:
        write_text(scratch, text)
        read_params(scratch)
    except ParamsError as error:
        raise UserError(f"{path} cannot be added to by this command: {error}; write the entry by hand") from None
    finally:
        scratch.unlink(missing_ok=True)
    if text != before:
        write_text(path, text)


def _line(key: str, value: Any, name: str) -> str:
    text = f"{key}: {as_yaml(value)}"
    comment = COMMENTS.get(key, "").format(name=name)
    return f"{text:<{COMMENT - 1}} # {comment}" if comment else text


def as_yaml(value: Any) -> str:
    """Return a value as it stands in params.yaml, on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(as_yaml(each) for each in value)}]"
    return str(value)


def _insert(lines: list[str], place: Sequence[str], block: Sequence[str]) -> None:
    """Insert `block` at the end of the section at `place`, a path of keys."""
    start, end = 0, len(lines)
    for depth, key in enumerate(place):
        indent = "  " * depth
        heads = [i for i in range(start, end) if re.match(rf"{indent}{re.escape(key)}:\s*(#.*)?$", lines[i])]
        if not heads:
            raise UserError(f"params.yaml: found no section {'.'.join(place)} in block style; write the entry by hand")
        start = heads[0] + 1
        deeper = re.compile(rf"{indent}\s+\S|\s*(#.*)?$")
        end = next((i for i in range(start, end) if not deeper.match(lines[i])), end)
    while end > start and not re.match(r"\s+[^\s#]", lines[end - 1]):
        end -= 1  # blank lines and comments before the next section belong to that
    lines[end:end] = block


def _join_study(lines: list[str], name: str) -> None:
    start = next((i for i, line in enumerate(lines) if re.match(r"study:\s*(#.*)?$", line)), None)
    for index in range(start + 1 if start is not None else len(lines), len(lines)):
        if flow := re.match(r"(\s+datasets:\s*\[)([^\]#]*)(\].*)$", lines[index]):
            names = ", ".join(filter(None, (flow[2].strip().rstrip(","), name)))
            lines[index] = f"{flow[1]}{names}{flow[3]}"
            return
        if re.match(r"\s+datasets:\s*(#.*)?$", lines[index]):
            last = index
            while last + 1 < len(lines) and re.match(r"\s+- ", lines[last + 1]):
                last += 1
            indent = lines[last].partition("-")[0]
            lines.insert(last + 1, f"{indent}- {name}")
            return
    raise UserError("params.yaml: found no list study.datasets; add the name there by hand")
