"""The tables of docs/performance.md, from the files in benchmarks/results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from scripts.blocks import markdown, replace_blocks

from benchmarks import tables
from benchmarks.speed import from_trees
from benchmarks.workers import ROOT

PAGE = ROOT / "docs" / "performance.md"
Results = Sequence[Mapping[str, Any]]  # of each machine


def speed(results: Results) -> str:
    """Return, for each machine, our speed as ratios, then everybody's as it is."""
    return _by_machine(results, "speed", _speed)


def fixed(results: Results) -> str:
    """Return, for each machine, the fixed costs."""
    return _by_machine(results, "fixed", lambda section: [_table(tables.fixed_costs(section["costs"]))])


def profile(results: Results) -> str:
    """Return, for each machine, where a step's time goes."""
    return _by_machine(results, "profile", _profiles)


def gpu(results: Results) -> str:
    """Return, for each machine with a GPU, our speed as ratios, then everybody's as it is."""
    return _by_machine(results, "gpu", _speed)


BLOCKS: dict[str, Callable[[Results], str]] = {"speed": speed, "fixed": fixed, "profile": profile, "gpu": gpu}


def written(page: Path, results: Results) -> str:
    """Return what `page` is to say, given `results`."""
    blocks = {name: make(results) for name, make in BLOCKS.items()}
    return replace_blocks(page, page.read_text(encoding="utf-8"), blocks)


def _by_machine(results: Results, name: str, lines: Callable[[Mapping[str, Any]], Iterable[str]]) -> str:
    parts = [
        "\n\n".join([_heading(tree["machine"], tree[name]), *lines(tree[name])]) for tree in results if name in tree
    ]
    return "\n\n".join(["", *parts, ""]) if parts else "\nNot measured yet.\n"


def _heading(machine: Mapping[str, Any], section: Mapping[str, Any]) -> str:
    card = f", {section['card']}" if section.get("card") else ""
    memory = f"{machine['memory_bytes'] / 2**30:.0f} GiB"
    return f"**{machine['name']}, {machine['cores']} cores, {memory}{card}**, {section['measured']}"


def _speed(section: Mapping[str, Any]) -> Iterator[str]:
    measurements = from_trees(section["measurements"])
    versions = {name: number for each in measurements for name, number in each.versions.items()}
    threads = f" on {section['threads']} threads" if "threads" in section else ""
    said = ", ".join(f"{name} {number}" for name, number in sorted(versions.items()))
    yield f"{len(measurements[0].seconds)} rounds{threads}; {said}."
    yield _table(tables.ratios(measurements))
    yield _table(tables.speeds(measurements))


def _profiles(section: Mapping[str, Any]) -> Iterator[str]:
    for each in section["profiles"]:
        yield (
            f"`{each['network']}`, {each['precision']}, batch {each['batch_size']}, one thread: "
            f"{each['step_milliseconds']:.0f} ms a step without the profiler."
        )
        yield _table(tables.operations(each))


def _table(frame: pd.DataFrame) -> str:
    return markdown(frame, text=tables.TEXT)
