"""Which network and seed of a study to use, by validation accuracy alone: the test split chooses nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from resblock.core.spec import ModelSpec
from resblock.evaluation.score import Score, headline
from resblock.study.summary import Study, Summary, lead

ACCURACY, LOSS = headline("validation_accuracy"), headline("validation_loss")
DIGITS = 9  # decimals to which means are told apart: the order of addition must not crown anyone


@dataclass(frozen=True)
class Candidate:
    """One network over its finished seeds, with the headline's kind of batch-norm statistics."""

    summary: Summary

    @property
    def spec(self) -> ModelSpec:
        """The network."""
        return self.summary.spec

    @cached_property
    def accuracy(self) -> float:
        """Mean validation accuracy over the finished seeds."""
        return _mean(self.summary.values(ACCURACY))

    @cached_property
    def loss(self) -> float:
        """Mean validation loss over the finished seeds, in nats."""
        return _mean(self.summary.values(LOSS))

    @property
    def best(self) -> Score:
        """The finished seed of highest validation accuracy; among equals that of lower loss, then the smaller seed."""
        return best_seed(self.summary.finished)

    @property
    def reliability(self) -> tuple[int, int]:
        """Diverged seeds and, negated, finished ones: the less, the better."""
        diverged = sum(score.status == "diverged" for score in self.summary.scores)
        return diverged, -len(self.summary.finished)


@dataclass(frozen=True)
class Champion:
    """The network to use, and the one that came second, if there was another."""

    dataset: str
    winner: Candidate
    runner_up: Candidate | None
    not_told_apart: Sequence[Candidate] = ()  # as reliable ones whose accuracy may well be the winner's, the best first
    less_reliable: Sequence[Candidate] = ()  # of higher accuracy, but with diverged or missing seeds, the best first

    @property
    def score(self) -> Score:
        """The score of the seed to use."""
        return self.winner.best

    @property
    def reason(self) -> str:
        """Why this one, in plain sentences."""
        seeds = len(self.winner.summary.finished)
        text = (
            f"{self.winner.spec}: mean validation accuracy {self.winner.accuracy:.4f} over "
            f"{seeds} {'seed' if seeds == 1 else 'seeds'}, batch-norm statistics re-estimated; this is its best, "
            f"seed {self.score.seed}, with {self.score.metrics[ACCURACY]:.4f}."
        )
        return f"{text} {self._against(self.runner_up)}" if self.runner_up else f"{text} No other network finished."

    def _against(self, other: Candidate) -> str:
        second = f"Runner-up: {other.spec} with {other.accuracy:.4f}"
        if self.winner.reliability != other.reliability:
            trouble = f" ({other.summary.trouble})" if other.summary.trouble else ""
            return f"{second} over {len(other.summary.finished)} of {len(other.summary.scores)} seeds{trouble}."
        if self.winner.accuracy > other.accuracy:
            return f"{second}{', not told apart by these seeds' if other in self.not_told_apart else ''}."
        decided = f"validation loss, {self.winner.loss:.4f} against {other.loss:.4f}"
        return f"{second} as well; decided by {decided if self.winner.loss < other.loss else 'fewer layers'}."


def champion(study: Study) -> Champion | None:
    """Return the network and seed to use, or None where no training has finished.

    Networks are ranked by, each point deciding only where those before it are equal:

    1. fewer diverged seeds: what may diverge is not to be relied on, however good its other seeds are;
    2. more finished seeds: a mean over fewer, missing ones left out, is more of a lottery;
    3. higher mean validation accuracy over the finished seeds;
    4. lower mean validation loss over them;
    5. fewer layers, then the order of the study.

    Means are compared to nine decimals. The seed to use is the winner's best by validation accuracy, see `best_seed`.
    Both are taken with batch-norm statistics re-estimated, as every headline is.
    """
    candidates = [Candidate(summary) for summary in study.summaries if summary.finished]
    ranked = sorted(candidates, key=lambda one: (*one.reliability, -one.accuracy, one.loss, one.spec.depth))
    if not ranked:
        return None
    winner, *others = ranked
    alike = [
        other
        for other in others
        if other.reliability == winner.reliability and not lead(winner.summary, other.summary, ACCURACY).clear
    ]
    higher = [other for other in others if other.accuracy > winner.accuracy]  # which reliability alone put behind
    less_reliable = sorted(higher, key=lambda other: -other.accuracy)
    return Champion(study.dataset, winner, others[0] if others else None, alike, less_reliable)


def best_seed(scores: Sequence[Score]) -> Score:
    """Return the finished score of highest validation accuracy; ties go to lower loss, then to the smaller seed.

    Raises ValueError where none of `scores` has finished.
    """
    finished = [score for score in scores if score.status == "finished"]
    return min(finished, key=lambda score: (-score.metrics[ACCURACY], score.metrics[LOSS], score.seed))


def _mean(values: Sequence[float]) -> float:
    return round(math.fsum(values) / len(values), DIGITS)
