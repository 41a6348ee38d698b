"""The tables of docs/performance.md, from the files in benchmarks/results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from scripts.blocks import markdown, replace_blocks

from benchmarks import side_by_side as sides
from benchmarks import tables
from benchmarks.lineup import WHOLE_EPOCH
from benchmarks.side_by_side import SideBySide
from benchmarks.speed import Measurement, from_trees
from benchmarks.workers import ROOT

PAGE = ROOT / "docs" / "performance.md"
Results = Sequence[Mapping[str, Any]]  # of each machine


def written(page: Path, results: Results) -> str:
    """Return what `page` is to say, given `results`."""
    blocks = {name: _by_machine(results, name, lines) for name, lines in LINES.items()}
    return replace_blocks(page, page.read_text(encoding="utf-8"), blocks)


def _costs(section: Mapping[str, Any]) -> list[str]:
    return [_table(tables.fixed_costs(section["costs"]))]


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
    threads = f" on {section['threads']} threads" if "threads" in section else ""
    yield f"{len(measurements[0].seconds)} rounds{threads}; {_versions(measurements)}."
    yield _table(tables.ratios(measurements))
    yield _table(tables.speeds(measurements))


def _epoch(section: Mapping[str, Any]) -> Iterator[str]:
    measurements = from_trees(section["measurements"])
    images = measurements[0].images
    what = "a whole epoch" if images == WHOLE_EPOCH.training else f"an epoch cut to {images:,} images"
    rounds = len(measurements[0].seconds)
    yield f"{rounds} rounds of {what} on {section['threads']} threads; {_versions(measurements)}."
    yield _table(tables.ratios(measurements))
    yield _table(tables.epochs(measurements))


def _side_by_side(section: Mapping[str, Any]) -> Iterator[str]:
    measurements = sides.from_trees(section["measurements"])
    yield f"{len(measurements[0].alone_seconds)} rounds; {_versions(measurements)}."
    yield _table(tables.side_by_side(measurements))


def _looks(section: Mapping[str, Any]) -> Iterator[str]:
    measurements = section["measurements"]
    yield f"{len(measurements[0]['after_seconds'])} rounds on {section['threads']} threads."
    yield _table(tables.looks(measurements))


def _versions(measurements: Sequence[Measurement | SideBySide]) -> str:
    versions = {name: number for each in measurements for name, number in each.versions.items()}
    return ", ".join(f"{name} {number}" for name, number in sorted(versions.items()))


def _profiles(section: Mapping[str, Any]) -> Iterator[str]:
    for each in section["profiles"]:
        yield (
            f"`{each['network']}`, {each['precision']}, batch {each['batch_size']}, one thread: "
            f"{each['step_milliseconds']:.0f} ms a step without the profiler."
        )
        yield _table(tables.operations(each))


def _table(frame: pd.DataFrame) -> str:
    return markdown(frame, text=tables.TEXT)


# What is said of each machine, by the name of what was measured there.
LINES: dict[str, Callable[[Mapping[str, Any]], Iterable[str]]] = {
    "speed": _speed,
    "epoch": _epoch,
    "side-by-side": _side_by_side,
    "looks": _looks,
    "fixed": _costs,
    "pictures": _costs,
    "many": _costs,
    "profile": _profiles,
    "gpu": _speed,
}
