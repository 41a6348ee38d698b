"""The benchmarks' command line: ``python -m benchmarks COMMAND``, from the project's root."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import pandas as pd
from rich.console import Console

from benchmarks import tables
from benchmarks.document import PAGE, written
from benchmarks.fixed import measure_fixed_costs
from benchmarks.gpu import BATCH_SIZES, peers_on_card
from benchmarks.lineup import IMPLEMENTATIONS, NETWORKS, PRECISIONS, TORCH_PYTHON, cpu_peers, make_task
from benchmarks.results import read_results, save_section
from benchmarks.speed import Measurement, compare, to_trees
from benchmarks.workers import ROOT
from resblock.errors import UserError
from resblock.files import write_text
from resblock.training.backend import available_cores

ROUNDS, QUICK_ROUNDS = 9, 2
PROFILED = ("residual-20",)
PROFILED_STEPS = 8
FILE_WIDTH = 140  # columns
QUIET = 0.5  # processes that compute, in the last minute's mean, below which a machine counts as idle

some_networks = click.option(
    "--network", "networks", multiple=True, type=click.Choice(list(NETWORKS)), help="Default: all; others save nothing."
)
some_rounds = click.option(
    "--rounds", type=click.IntRange(1), default=ROUNDS, show_default=True, help="Turns of each peer."
)
some_torch = click.option(
    "--torch-python", type=click.Path(path_type=Path), default=TORCH_PYTHON, show_default=True, help="Whose PyTorch."
)
saving = click.option("--save/--no-save", default=True, show_default=True, help="Keep the results.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Measure speed and fixed costs. Let nothing else run meanwhile."""


@main.command("speed")
@some_networks
@click.option("--peer", "peers", multiple=True, type=click.Choice(IMPLEMENTATIONS), help="Likewise.")
@some_rounds
@click.option("--quick", is_flag=True, help=f"{QUICK_ROUNDS} rounds, and nothing is saved.")
@click.option("--threads", type=click.IntRange(1), help="Default: as many as there are cores.")
@some_torch
def speed(
    networks: Sequence[str],
    peers: Sequence[str],
    rounds: int,
    quick: bool,
    threads: int | None,
    torch_python: Path,
) -> None:
    """Time training steps against stock Keras and PyTorch, in turns.

    Example: python -m benchmarks speed --quick --network residual-20
    """
    _warn_where_busy()
    count = threads or available_cores()
    measurements: list[Measurement] = []
    for network in networks or NETWORKS:
        lineup = cpu_peers(network, peers or IMPLEMENTATIONS, count, torch_python)
        measurements += compare(lineup, QUICK_ROUNDS if quick else rounds, click.echo)
    _show(tables.speeds(measurements), tables.ratios(measurements))
    if not quick and not networks and not peers:
        _save("speed", {"threads": count, "measurements": to_trees(measurements)})


@main.command("gpu")
@some_networks
@some_rounds
@some_torch
def gpu(networks: Sequence[str], rounds: int, torch_python: Path) -> None:
    """Time training steps on a graphics card: Keras on JAX against PyTorch, eager and compiled."""
    _warn_where_busy()
    measurements: list[Measurement] = []
    for network in networks or NETWORKS:
        for batch_size in BATCH_SIZES:
            lineup = peers_on_card(network, batch_size, available_cores(), torch_python)
            measurements += compare(lineup, rounds, click.echo)
    _show(tables.speeds(measurements), tables.ratios(measurements))
    if not networks:
        card = next(each.card for each in measurements if each.card)
        _save("gpu", {"card": card, "measurements": to_trees(measurements)})


@main.command("fixed")
@saving
def fixed(save: bool) -> None:
    """Time what commands cost before their work, what tracking adds, and the memory of a training."""
    costs: list[dict[str, Any]] = []
    for cost in measure_fixed_costs():
        costs.append(asdict(cost))
        click.echo(f"{cost.what}: {cost.measured:.2f} {cost.unit}".replace("`", ""))
    _show(tables.fixed_costs(costs))
    if save:
        _save("fixed", {"costs": costs})


@main.command("profile")
@click.argument("networks", nargs=-1, type=click.Choice(list(NETWORKS)))
@saving
def profile(networks: Sequence[str], save: bool) -> None:
    """Say which operations a step's time goes to, on one thread."""
    profiles: list[dict[str, Any]] = []
    for network in networks or PROFILED:
        for precision in PRECISIONS:
            task = make_task(network, precision, threads=1, steps=PROFILED_STEPS)
            command = [sys.executable, "-m", "benchmarks.profile", task.to_json()]
            ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
            if ended.returncode:
                raise click.ClickException(f"the profile of {network} failed:\n{ended.stderr[-2000:]}")
            measured = json.loads(ended.stdout)
            profiles.append(
                {"network": network, "precision": precision, "batch_size": task.batch_size, "threads": 1, **measured}
            )
            _show(tables.operations(profiles[-1]))
    if save:
        _save("profile", {"profiles": profiles})


@main.command("document")
@click.option("--check", is_flag=True, help="Only compare; exit with 1 where the page differs.")
def document(check: bool) -> None:
    """Write the tables of docs/performance.md from benchmarks/results."""
    text = written(PAGE, read_results())
    if not check:
        write_text(PAGE, text)
    elif text != PAGE.read_text(encoding="utf-8"):
        raise click.ClickException("docs/performance.md: its tables are not what the results say; run make bench")


def _show(*frames: pd.DataFrame) -> None:
    console = Console()
    if not console.is_terminal:  # a file has room for the widest table
        console = Console(width=FILE_WIDTH)
    for frame in frames:
        if len(frame):
            tables.show(frame, console)


def _warn_where_busy() -> None:
    """Say when others compute here: two threads that wait for each other at every loop's end suffer most, PyTorch's."""
    load = os.getloadavg()[0]
    if load > QUIET:
        click.echo(f"warning: a load of {load:.1f} already; PyTorch above all will look slower than it is", err=True)


def _save(name: str, section: dict[str, Any]) -> None:
    click.echo(f"saved: {save_section(name, section).relative_to(ROOT)}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"benchmarks: {error}")
