"""What a stage says while it works: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from resblock.core.training.run import EpochRow

EPOCH_LINE = re.compile(r"epoch +(\d+)/(\d+)  train .* re-estimated \S+ ([\d.]+|nan)%")


def say(message: str) -> None:
    """Print one line of progress."""
    print(message, flush=True)


def warn(message: str) -> None:
    """Print one line that asks for attention, on the error stream."""
    print(f"warning: {message}", file=sys.stderr, flush=True)


def epoch_line(row: EpochRow, epochs: int) -> str:
    """Return one epoch's losses and accuracies as one plain line of at most 80 characters."""
    return (
        f"epoch {row.epoch:>{len(str(epochs))}}/{epochs}  "
        f"train {row.loss:.3f} {row.accuracy:.1%}  "
        f"validation {row.validation_loss:.3f} {row.validation_accuracy:.1%}  "
        f"re-estimated {row.validation_loss_reestimated:.3f} {row.validation_accuracy_reestimated:.1%}"
    )


def read_epoch_line(line: str) -> tuple[int, int, float] | None:
    """Return what `epoch_line` said: epoch, epochs, and validation accuracy re-estimated; None of another line."""
    found = EPOCH_LINE.fullmatch(line)
    return (int(found[1]), int(found[2]), float(found[3]) / 100) if found else None


@contextmanager
def counting_bar(name: str) -> Generator[Callable[[int, int], None]]:
    """Show a bar over what is done of a whole where the output is a terminal; yields what moves it."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done, total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(name)
        yield lambda done, total: progress.update(task, completed=done, total=total if total > 0 else None)


@contextmanager
def step_bar(name: str) -> Generator[Callable[[int, int, int], None]]:
    """Show a bar over each epoch's steps where the output is a terminal; yields what moves it."""
    console = Console()
    if not console.is_terminal:
        yield lambda epoch, done, steps: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(name)

        def move(epoch: int, done: int, steps: int) -> None:
            progress.update(task, description=f"{name}, epoch {epoch}", completed=done, total=steps)

        yield move
