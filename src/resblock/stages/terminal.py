"""What a stage says while it works: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from resblock.core.training.run import EpochRow


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
