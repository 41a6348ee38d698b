"""The benchmarks' command line: ``python -m benchmarks COMMAND``, from the project's root."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import pandas as pd
from rich.console import Console

from benchmarks import side_by_side as sides
from benchmarks import tables
from benchmarks.commands import run
from benchmarks.document import PAGE, written
from benchmarks.fixed import FixedCost, measure_fixed_costs, measure_memory
from benchmarks.gpu import BATCH_SIZES, peers_on_card
from benchmarks.lineup import (
    IMPLEMENTATIONS,
    NETWORKS,
    PRECISIONS,
    SHORT_EPOCH,
    TORCH_PYTHON,
    WHOLE_EPOCH,
    cpu_peers,
    epoch_peers,
    make_task,
    scaled_epoch,
    single_peers,
)
from benchmarks.many import measure_many
from benchmarks.pictures import measure_pictures
from benchmarks.results import read_results, save_section
from benchmarks.speed import Measurement, compare, to_trees
from benchmarks.workers import ROOT
from resblock.core.backends.machine import available_cores, emulates_bfloat16
from resblock.core.errors import UserError
from resblock.core.files import write_text

ROUNDS, QUICK_ROUNDS = 9, 2
EPOCH_ROUNDS = 3  # half an hour each
FEWEST_IMAGES = 4_500  # a tenth of an epoch: below that, what does not grow with the images would weigh too much
ONE_NETWORK = "residual-20"  # where one stands for all
PROFILED_STEPS = 8
FILE_WIDTH = 140  # columns
QUIET = 0.5  # processes that compute, in the last minute's mean, below which a machine counts as idle

some_networks = click.option(
    "--network", "networks", multiple=True, type=click.Choice(list(NETWORKS)), help="Default: all; others save nothing."
)
some_rounds = click.option(
    "--rounds", type=click.IntRange(1), default=ROUNDS, show_default=True, help="Turns of each peer."
)
some_precisions = click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(PRECISIONS),
    help="Default: both, where the processor computes with bfloat16.",
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
@some_precisions
@some_rounds
@click.option("--quick", is_flag=True, help=f"{QUICK_ROUNDS} rounds, and nothing is saved.")
@click.option("--threads", type=click.IntRange(1), help="Default: as many as there are cores.")
@some_torch
def speed(
    networks: Sequence[str],
    peers: Sequence[str],
    precisions: Sequence[str],
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
    chosen = _precisions(precisions)
    for network in networks or NETWORKS:
        lineup = cpu_peers(network, peers or IMPLEMENTATIONS, chosen, count, torch_python)
        measurements += compare(lineup, QUICK_ROUNDS if quick else rounds, click.echo)
    _show(tables.speeds(measurements), tables.ratios(measurements))
    if not quick and not networks and not peers:
        _save("speed", {"threads": count, "measurements": to_trees(measurements)})


@main.command("epoch")
@some_networks
@some_precisions
@click.option(
    "--images",
    type=click.IntRange(FEWEST_IMAGES, WHOLE_EPOCH.training),
    default=WHOLE_EPOCH.training,
    show_default=True,
    help="Training images of an epoch; every other pass keeps its proportion.",
)
@click.option("--rounds", type=click.IntRange(1), default=EPOCH_ROUNDS, show_default=True, help="Epochs of each peer.")
@click.option("--threads", type=click.IntRange(1), help="Default: as many as there are cores.")
@some_torch
@saving
def epoch(
    networks: Sequence[str],
    precisions: Sequence[str],
    images: int,
    rounds: int,
    threads: int | None,
    torch_python: Path,
    save: bool,
) -> None:
    """Time whole epochs against PyTorch, eager and compiled: steps, validation, statistics, checkpoint.

    Example: python -m benchmarks epoch --images 9000 --rounds 7
    """
    _warn_where_busy()
    count = threads or available_cores()
    measurements: list[Measurement] = []
    chosen = _precisions(precisions)
    for network in networks or NETWORKS:
        for precision in chosen:
            lineup = epoch_peers(network, precision, scaled_epoch(images), count, torch_python)
            measurements += compare(lineup, rounds, click.echo)
    _show(tables.epochs(measurements), tables.ratios(measurements))
    if save and not networks:
        _save("epoch", {"threads": count, "measurements": to_trees(measurements)})


@main.command("side-by-side")
@some_precisions
@some_rounds
@some_torch
@saving
def side_by_side(precisions: Sequence[str], rounds: int, torch_python: Path, save: bool) -> None:
    """Time a training on each core, on one thread, against one training on all cores."""
    _warn_where_busy()
    count = available_cores()
    if count < 2:
        raise click.ClickException("one core: there is nothing to run side by side")
    measurements = [
        sides.compare_side_by_side(peer, count, rounds, click.echo)
        for precision in _precisions(precisions)
        for peer in single_peers(ONE_NETWORK, precision, count, torch_python)
    ]
    _show(tables.side_by_side(measurements))
    if save:
        _save("side-by-side", {"measurements": sides.to_trees(measurements)})


@main.command("looks")
@some_precisions
@some_rounds
@click.option("--threads", type=click.IntRange(1), help="Default: as many as there are cores.")
@saving
def looks(precisions: Sequence[str], rounds: int, threads: int | None, save: bool) -> None:
    """Time what an epoch does after its steps against the passes forward that it consists of."""
    _warn_where_busy()
    count = threads or available_cores()
    measurements: list[dict[str, Any]] = []
    for precision in _precisions(precisions):
        task = make_task(ONE_NETWORK, precision, threads=count, steps=0, epoch=SHORT_EPOCH)
        measured = json.loads(run([sys.executable, "-m", "benchmarks.looks", task.to_json(), str(rounds)]))
        measurements.append({"network": task.network, "precision": precision, **measured})
    _show(tables.looks(measurements))
    if save:
        _save("looks", {"threads": count, "measurements": measurements})


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
    _tell_and_keep("fixed", measure_fixed_costs(), save=save)


@main.command("memory")
def memory() -> None:
    """Measure the memory of trainings alone, a part of `fixed`; exit with 1 where it is too much. Saves nothing."""
    if any(cost["measured"] >= cost["limit"] for cost in _told(measure_memory())):
        raise click.ClickException("a training needs more memory than is allowed")


@main.command("pictures")
@saving
def pictures(save: bool) -> None:
    """Time how folders of 60,000 and 100,000 made-up pictures become splits, and measure the memory (10 minutes)."""
    _tell_and_keep("pictures", measure_pictures(), save=save)


@main.command("many")
@saving
def many(save: bool) -> None:
    """Measure what the runner adds to many trainings, and Ray where it is installed (half an hour)."""
    _tell_and_keep("many", measure_many(), save=save)


@main.command("profile")
@click.argument("networks", nargs=-1, type=click.Choice(list(NETWORKS)))
@saving
def profile(networks: Sequence[str], save: bool) -> None:
    """Say which operations a step's time goes to, on one thread."""
    profiles: list[dict[str, Any]] = []
    for network in networks or (ONE_NETWORK,):
        for precision in PRECISIONS:
            task = make_task(network, precision, threads=1, steps=PROFILED_STEPS)
            measured = json.loads(run([sys.executable, "-m", "benchmarks.profile", task.to_json()]))
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


def _tell_and_keep(name: str, measuring: Iterable[FixedCost], *, save: bool) -> None:
    costs = _told(measuring)
    if save:
        _save(name, {"costs": costs})


def _told(measuring: Iterable[FixedCost]) -> list[dict[str, Any]]:
    """Return the costs as the results file holds them, having said each when it was known."""
    costs: list[dict[str, Any]] = []
    for cost in measuring:
        costs.append(asdict(cost))
        click.echo(f"{cost.what}: {cost.measured:.2f} {cost.unit}".replace("`", ""))
    _show(tables.fixed_costs(costs))
    return costs


def _show(*frames: pd.DataFrame) -> None:
    console = Console()
    if not console.is_terminal:  # a file has room for the widest table
        console = Console(width=FILE_WIDTH)
    for frame in frames:
        if len(frame):
            tables.show(frame, console)


def _precisions(given: Sequence[str]) -> Sequence[str]:
    """Return the precisions that are worth an hour: bfloat16 only where the processor has it, or who asks gets it."""
    if given or not emulates_bfloat16():
        return given or PRECISIONS
    click.echo("this processor only emulates bfloat16, many times slower: float32 alone is timed", err=True)
    return ("float32",)


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
