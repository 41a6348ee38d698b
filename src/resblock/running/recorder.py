"""DVC as `resblock run` starts it: `python -m resblock.running.recorder …` is `python -m dvc …`, but for three things.

DVC reads dvc.lock with a parser in Python whenever it starts, dvc.yaml and params.yaml once for every stage. It notes
every stage that has ended by reading and writing all of dvc.lock anew, more slowly still: seconds a stage in a study of
hundreds, and n stages take n squared. Here the parser is libyaml with the same rules, each file is read once, and the
one entry takes its place in the text. What is read and written is DVC's own to the byte; where dvc.lock does not look
as DVC leaves it, DVC does it. And a process may run one command after the other, since its start takes a second.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, ClassVar

HEAD = "schema: '2.0'\nstages:\n"
OTHER_SECTION = re.compile(r"^[^\s]", re.MULTILINE)  # behind the stages, for instance data sets


def spliced(text: str, entry: str) -> str | None:
    """Return dvc.lock, `text`, with the `entry` of one stage in the place of its former one, or at the end.

    `entry` is as DVC writes it, from the stage's name on. None where `text` is not as DVC leaves it.
    """
    if not text.startswith(HEAD) or not text.endswith("\n") or OTHER_SECTION.search(text, len(HEAD)):
        return None
    name = entry.partition("\n")[0]
    if not re.fullmatch(r"  [^\s#'\"?][^#'\"]*:", name):
        return None
    begin = text.find(f"\n{name}\n")
    if begin < 0:
        return text + entry
    following = re.compile(r"^  \S", re.MULTILINE).search(text, begin + 1 + len(name))
    return text[: begin + 1] + entry + (text[following.start() :] if following else "")


def loader() -> Any:
    """Return PyYAML's loader by libyaml with the rules of YAML 1.2, in which DVC writes: 1e-05 is a number there."""
    import yaml
    from ruamel.yaml.resolver import implicit_resolvers

    class Loader(yaml.CSafeLoader):
        yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # pyright: ignore[reportIncompatibleVariableOverride]

    for versions, tag, rule, first in implicit_resolvers:
        if (1, 2) in versions:
            Loader.add_implicit_resolver(tag, rule, first)
    return Loader


def read_lock(text: str) -> Any:
    """Return what dvc.lock, `text`, says; None where it is not as DVC leaves it."""
    return deepcopy(_read(text))  # DVC may change what it gets


@lru_cache(maxsize=1)
def _read(text: str) -> Any:
    """Return the same for `read_lock`: DVC reads the file anew for every stage that it is asked for."""
    import yaml

    if not text.startswith(HEAD) or OTHER_SECTION.search(text, len(HEAD)) or not yaml.__with_libyaml__:
        return None
    reading = loader()(text)  # makes plain values alone
    try:
        return reading.get_single_data()
    finally:
        reading.dispose()


@cache
def read_quickly() -> None:
    """Let DVC in this process read dvc.lock by libyaml, and dvc.yaml and params.yaml once, not for each stage."""
    from dvc.utils import strictyaml
    from dvc.utils.serialize import _yaml

    parse: Any = _yaml.parse_yaml
    parse_once = lru_cache(maxsize=4)(parse)  # by its text: an edit is seen

    def parse_yaml(text: str, path: Any, typ: str = "safe") -> Any:
        if typ != "safe":
            return parse(text, path, typ=typ)
        found = read_lock(text) if str(path).endswith(".lock") else None
        return deepcopy(parse_once(text, str(path))) if found is None else found

    strictyaml.parse_yaml = parse_yaml  # pyright: ignore[reportAttributeAccessIssue]
    _yaml.parse_yaml = parse_yaml  # pyright: ignore[reportAttributeAccessIssue]


@cache
def _record_quickly() -> None:
    """Let DVC in this process put one stage's entry into dvc.lock where it writes the whole file anew."""
    from dvc.dvcfile import Lockfile
    from dvc.stage import serialize
    from dvc.utils.serialize import dumps_yaml

    from resblock.core.files import write_text  # NumPy, which commands that only ask for this module's name do without

    slow: Any = Lockfile.dump_stages

    def dump_stages(self: Any, stages: Any, **options: Any) -> None:
        for stage in stages:
            file = Path(self.path)
            text = file.read_text("utf-8") if file.is_file() else ""
            entry = dumps_yaml({"stages": serialize.to_lockfile(stage, **options)}).removeprefix("stages:\n")
            if (changed := spliced(text, entry)) is None:
                slow(self, [stage], **options)
            elif changed != text:
                write_text(file, changed)  # whole or not at all, which DVC's is not
                self.repo.scm_context.track_file(self.relpath)

    Lockfile.dump_stages = dump_stages


def main(arguments: list[str]) -> int:
    """Run DVC's command line; where there is none, one after the other as they come, until one fails."""
    from dvc.cli import main as dvc

    _record_quickly()
    read_quickly()
    return dvc(arguments) if arguments else _serve(dvc)


def _serve(dvc: Callable[[list[str]], int]) -> int:
    """Run command lines that come as JSON on standard input, each in an environment of its own.

    After each that ended well comes a line with the word that it was sent with.
    """
    with os.fdopen(os.dup(sys.stdin.fileno()), encoding="utf-8") as requests, suppress(KeyboardInterrupt):
        with Path(os.devnull).open() as nothing:
            os.dup2(nothing.fileno(), sys.stdin.fileno())  # what a stage reads is no request
        for line in requests:
            request: dict[str, Any] = json.loads(line)
            os.environ.clear()
            os.environ.update(request["environment"])
            sys.argv = ["dvc", *request["arguments"]]  # DVC's locks say which command holds them
            if code := dvc(request["arguments"]):
                return code
            print(f"\n{request['word']}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
