"""Measurements as tables, for the terminal and for docs/performance.md alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from benchmarks.peers.protocol import Part
from benchmarks.side_by_side import SideBySide
from benchmarks.speed import Measurement

# The columns of words; the others hold numbers.
TEXT = ("network", "implementation", "precision", "against", "what", "held", "operation")
PASSES = 3  # forward, and backward towards the inputs and towards the weights, of as many multiply-adds each
# An epoch's parts as the table has them.
EPOCH_COLUMNS: dict[str, tuple[Part, ...]] = {
    "training": ("train",),
    "looks": ("validate", "reestimate", "validate_reestimated", "sample", "looks"),
    "checkpoint and log": ("checkpoint", "log"),
}
# What the ratios are to reach, by the peer and the precision.
TARGETS = {
    ("pytorch", "float32"): 1.0,
    ("pytorch", "mixed_bfloat16"): 1.0,
    ("keras", "float32"): 1.5,
    ("keras", "mixed_bfloat16"): 2.0,
}
# Where there is nothing to normalise more is to be had.
UNNORMALIZED_TARGETS = {"pytorch": 1.5}
# What an epoch does after its steps, as a ratio to the passes it consists of, at the speed of training's.
LOOKS_TARGET = 1.15


def images_per_second(measurement: Measurement) -> np.ndarray:
    """Return the training speed in each round, images/s (round,)."""
    return measurement.images / np.array(measurement.seconds)


def speeds(measurements: Sequence[Measurement]) -> pd.DataFrame:
    """Return a row per peer: images and multiply-adds per second, peak memory."""
    rows: list[dict[str, str]] = []
    for each in measurements:
        speed = images_per_second(each)
        work = PASSES * each.multiply_adds * float(np.median(speed))
        rows.append(
            {
                "network": f"`{each.network}`",
                "implementation": " ".join(filter(None, (each.implementation, each.configuration))),
                "precision": each.precision,
                "batch": str(each.batch_size),
                "images/s": f"{np.median(speed):,.0f}",
                "lowest – highest": f"{speed.min():,.0f} – {speed.max():,.0f}",
                "multiply-adds/s": f"{work / 1e9:,.0f} G",
                "compiling": f"{each.compile_seconds:.0f} s" if each.compile_seconds else "",
                "peak memory": f"{each.peak_bytes / 2**30:.2f} GiB",
            }
        )
    return pd.DataFrame(rows)


def epochs(measurements: Sequence[Measurement]) -> pd.DataFrame:
    """Return a row per peer: what an epoch takes, and its parts, in median seconds."""
    rows: list[dict[str, str]] = []
    for each in measurements:
        spent = {part: float(np.median(seconds)) for part, seconds in each.parts.items()}
        rows.append(
            {
                "network": f"`{each.network}`",
                "implementation": " ".join(filter(None, (each.implementation, each.configuration))),
                "precision": each.precision,
                "epoch, s": f"{np.median(each.seconds):.1f}",
                "lowest – highest": f"{min(each.seconds):.1f} – {max(each.seconds):.1f}",
                **{
                    f"{name}, s": f"{sum(spent.get(part, 0) for part in parts):.2f}"
                    for name, parts in EPOCH_COLUMNS.items()
                },
                "compiling": f"{each.compile_seconds:.0f} s" if each.compile_seconds else "",
                "peak memory": f"{each.peak_bytes / 2**30:.2f} GiB",
            }
        )
    return pd.DataFrame(rows)


def side_by_side(measurements: Sequence[SideBySide]) -> pd.DataFrame:
    """Return a row per peer: images per second of one training on all cores, of one on each, and their ratio."""
    rows: list[dict[str, str]] = []
    for each in measurements:
        alone = each.images / np.array(each.alone_seconds)
        together = each.trainings * each.images / np.array(each.together_seconds)
        low, median, high = np.quantile(together / alone, (0.25, 0.5, 0.75))
        rows.append(
            {
                "network": f"`{each.network}`",
                "implementation": " ".join(filter(None, (each.implementation, each.configuration))),
                "precision": each.precision,
                "trainings": str(each.trainings),
                "one on all threads, images/s": f"{np.median(alone):,.0f}",
                "together, images/s": f"{np.median(together):,.0f}",
                "ratio": f"{median:.2f}",
                "quartiles": f"{low:.2f} – {high:.2f}",
            }
        )
    return pd.DataFrame(rows)


def looks(measurements: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return a row per network: what follows an epoch's steps, and the same images' passes forward in training."""
    rows: list[dict[str, str]] = []
    for each in measurements:
        after, forward = np.array(each["after_seconds"]), np.array(each["forward_seconds"])
        low, median, high = np.quantile(after / forward, (0.25, 0.5, 0.75))
        rows.append(
            {
                "network": f"`{each['network']}`",
                "precision": each["precision"],
                "images": f"{each['images']:,}",
                "after the steps, s": f"{np.median(after):.2f}",
                "training's passes forward, s": f"{np.median(forward):.2f}",
                "ratio": f"{median:.2f}",
                "quartiles": f"{low:.2f} – {high:.2f}",
                "at most": f"{LOOKS_TARGET:.2f}",
                "held": _held(median <= LOOKS_TARGET),
            }
        )
    return pd.DataFrame(rows)


def ratios(measurements: Sequence[Measurement]) -> pd.DataFrame:
    """Return, for each of our measurements, how often its speed is a peer's: the ratio's median and quartiles.

    PyTorch stands for the fastest of its configurations at the same precision, by median.
    """
    rows: list[dict[str, str]] = []
    for ours, peer in _pairs(measurements):
        ratio = images_per_second(ours) / images_per_second(peer)
        low, median, high = np.quantile(ratio, (0.25, 0.5, 0.75))
        target = TARGETS.get((peer.implementation, peer.precision))
        if ours.network.startswith("cnn"):
            target = UNNORMALIZED_TARGETS.get(peer.implementation, target)
        rows.append(
            {
                "network": f"`{ours.network}`",
                "precision": ours.precision,
                "batch": str(ours.batch_size),
                "against": " ".join(filter(None, (peer.implementation, peer.configuration))),
                "ratio": f"{median:.2f}",
                "quartiles": f"{low:.2f} – {high:.2f}",
                "to reach": f"{target:.1f}" if target else "",
                "held": _held(median >= target) if target else "",
            }
        )
    return pd.DataFrame(rows)


def fixed_costs(costs: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return a row per fixed cost: measured, allowed, held."""
    return pd.DataFrame(
        [
            {
                "what": cost["what"],
                "measured": f"{cost['measured']:.2f} {cost['unit']}",
                "allowed": f"{cost['limit']:g} {cost['unit']}",
                "held": _held(cost["measured"] < cost["limit"]),
            }
            for cost in costs
        ]
    )


def operations(profile: dict[str, Any], shown: int = 15) -> pd.DataFrame:
    """Return where a step's time goes: the operations that take most of it, and the rest in one row."""
    every = sorted(profile["operations"], key=lambda row: -row["milliseconds"])
    total = sum(row["milliseconds"] for row in every)
    rest = every[shown:]
    rows = [(f"`{row['operation']}`", row["count"], row["milliseconds"]) for row in every[:shown]]
    if rest:
        rows.append(
            (f"{len(rest)} others", sum(row["count"] for row in rest), sum(row["milliseconds"] for row in rest))
        )
    return pd.DataFrame(
        [
            {"operation": name, "times": f"{count:.0f}", "ms": f"{spent:.1f}", "share": f"{spent / total:.1%}"}
            for name, count, spent in rows
        ]
    )


def show(frame: pd.DataFrame, console: Console) -> None:
    """Print `frame`, without the marks that Markdown needs."""
    table = Table()
    for column in frame:
        table.add_column(str(column), justify="left" if column in TEXT else "right")
    for row in frame.astype(str).to_numpy().tolist():
        table.add_row(*(cell.replace("`", "") for cell in row))
    console.print(table)


def _pairs(measurements: Sequence[Measurement]) -> Iterator[tuple[Measurement, Measurement]]:
    for ours in measurements:
        if ours.implementation != "resblock":
            continue
        for implementation in dict.fromkeys(each.implementation for each in measurements):
            alike = [
                each
                for each in measurements
                if (each.network, each.precision, each.batch_size) == (ours.network, ours.precision, ours.batch_size)
                and each.implementation == implementation != "resblock"
            ]
            for configuration in _compared(implementation, alike):
                yield ours, configuration


def _compared(implementation: str, alike: Sequence[Measurement]) -> list[Measurement]:
    """Return the fastest, but of PyTorch the fastest uncompiled and the fastest compiled."""
    groups = [[each for each in alike if ("compiled" in each.configuration) is kind] for kind in (False, True)]
    return [max(group, key=lambda each: float(np.median(images_per_second(each)))) for group in groups if group]


def _held(holds: Any) -> str:
    return "yes" if holds else "no"
