"""The engine on this machine: warm workers, which share its cores and cards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import Self

from resblock.core.backends.machine import available_cores
from resblock.running.cards import A_CARD, cards, variables_for
from resblock.running.queue import Unit, Where
from resblock.running.warm import Worker


class Local:
    """Runs `jobs` units at once; by default as many as the cores, or a few for each card, carry."""

    def __init__(self, jobs: int | None, threads: Iterable[int]) -> None:
        self._cards = cards()
        self.cores = None if jobs or self._cards else available_cores()
        self.slots: Mapping[Where, int] = {"here": jobs or default_jobs(threads, len(self._cards))}
        self._free: list[tuple[int | None, Worker]] = []  # and the threads that it has computed with, if it has
        self._all = ExitStack()
        self._ends: dict[int, ExitStack] = {}
        self._on_card: Counter[str] = Counter(dict.fromkeys(self._cards, 0))
        self._change = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._all.close()

    def prepare(self, units: Sequence[Unit]) -> None:
        """See `Engine`: workers import Keras side by side, while DVC starts; the first stages wait for one, too."""
        computing = sum(unit.threads is not None for unit in units)
        with self._change:
            while len(self._ends) < min(computing, self.slots["here"]):
                self._free.append((None, self._start()))

    @contextmanager
    def seat(self, unit: Unit) -> Generator[Mapping[str, str]]:
        """See `Engine`: a worker, warm if one has computed with so many threads before."""
        used, worker = self._take(unit.threads)
        try:
            yield worker.environment if worker else {}
        finally:
            if worker:
                with self._change:
                    self._free.append((used if unit.threads is None else unit.threads, worker))

    def _take(self, threads: int | None) -> tuple[int | None, Worker | None]:
        """Take a worker for `threads`, and what it has computed with; for what computes nothing one that is there."""
        with self._change:
            for dead in [free for free in self._free if not free[1].lives]:
                self._free.remove(dead)
                self._end(dead[1])
            fitting = [free for free in self._free if threads in (None, free[0])]
            unused = [free for free in self._free if free[0] is None]
            if found := next(iter((*fitting, *unused)), None):
                self._free.remove(found)
                return found
            if threads is None:
                return None, None
            if self._free and len(self._ends) >= self.slots["here"]:
                self._end(self._free.pop(0)[1])  # a runtime has one number of threads for life
            return None, self._start()

    def _start(self) -> Worker:
        card = min(self._on_card, key=self._on_card.__getitem__, default=None)
        worker = Worker.start(variables_for(card) if card is not None else None)
        stack = self._ends[id(worker)] = self._all.enter_context(ExitStack())
        stack.enter_context(worker)
        if card is not None:
            self._on_card[card] += 1
            stack.callback(self._on_card.subtract, [card])
        return worker

    def _end(self, worker: Worker) -> None:
        self._ends.pop(id(worker)).close()


def default_jobs(threads: Iterable[int], cards_here: int = 0) -> int:
    """Return how many units run at once where nobody says: what the fewest threads of any recipe leave room for."""
    cores = available_cores()
    fitting = max((max(1, cores // each) if each else 1 for each in threads), default=1)
    return min(fitting, A_CARD * cards_here) if cards_here else fitting
