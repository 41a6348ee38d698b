"""The answer to the study's two questions in plain words, and which network to use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from resblock.core.spec import ModelSpec
from resblock.evaluation.score import HEADLINE, headline
from resblock.report.tables import percent
from resblock.report.words import KINDS
from resblock.study.champion import Candidate, Champion, champion
from resblock.study.comparison import Comparison, Decision, compare
from resblock.study.interval import Interval
from resblock.study.numbers import capitalised, counted, listed, points_in_words
from resblock.study.summary import Study
from resblock.study.verdicts import decide

TEST = headline("test_accuracy")
OPEN, FEW = "it stays open ", "too few seeds say "
NAMED = 3  # networks that are not told apart from the champion


def answer(study: Study) -> tuple[str, str]:
    """Return what the block buys and what depth does to residual networks, and what that rests on.

    The first is a sentence without numbers, the second has those that it rests on, and says which network to use.
    Accuracies are those of test images, statistics as in every headline; a diverged training counts at chance.
    """
    best = champion(study)
    if best is None:
        return "No training has finished yet, so nothing is known.", ""
    compared = [each for each in compare(study, HEADLINE) if each.gap.metric == TEST and each.gap.differences]
    first = _first(study.dataset, _block(compared), _depth(study))
    last = (
        f"All this is with batch-norm statistics {KINDS[HEADLINE]}: computed anew on training images, the weights "
        "untouched."
    )
    return first, " ".join([*_numbers(study, compared), *_use(best), last])


def _first(dataset: str, block: str, depth: str) -> str:
    """Return both answers as sentences; what is open of both is said once."""
    if not block or not depth:
        return f"On test images of {dataset} {block or depth}." if block or depth else ""
    for start in (OPEN, FEW):
        if block.startswith(start) and depth.startswith(start):
            return f"On test images of {dataset} {block}, and {depth.removeprefix(start)}."
    return f"On test images of {dataset} {block}. {capitalised(depth)}."


def _block(found: Sequence[Comparison]) -> str:
    """Say at which depths the block helps or hurts, and at which that stays open, errors of all comparisons held."""
    layers: dict[Decision, str] = {
        each: _layers(one.gap.depth for one in found if one.decision == each) for each in _DECISIONS
    }
    opened = layers.pop("undecided")
    if opened and all(one.gap.interval.n < 2 for one in found):
        return f"{FEW}whether the residual block helps at {opened}"
    told = [f"{_DECISIONS[decision]} at {there}" for decision, there in layers.items() if there]
    if not told:
        return f"{OPEN}whether the residual block helps at {opened}" if opened else ""
    said = f"the residual block {' and '.join(told)}"
    return f"{said}, at {opened} that stays open" if opened else said


_DECISIONS: Mapping[Decision, str] = {"residual better": "helps", "plain better": "hurts", "undecided": ""}


def _depth(study: Study) -> str:
    """Say whether residual networks gain or lose accuracy from the shallowest to the deepest."""
    change = study.deepening(TEST)
    if change is None:
        return ""
    span = f"from {change.shallow.depth} to {_layers([change.deep.depth])}"
    if change.interval.n < 2:
        return f"{FEW}whether residual networks gain or lose accuracy {span}"
    way = {"supported": "gain", "refuted": "lose"}.get(decide(change.interval, 0.0))
    opened = f"{OPEN}whether residual networks gain or lose accuracy {span}"
    return f"{span} residual networks {way} accuracy" if way else opened


def _numbers(study: Study, compared: Sequence[Comparison]) -> Iterator[str]:
    """Yield what the deepest twins, and the shallowest and deepest residual networks, have right."""
    if compared and (plain := compared[-1].gap.residual.twin):
        gap = compared[-1].gap
        ours, theirs = (_mean(study, spec, gap.differences) for spec in (gap.residual, plain))
        yield (
            f"At {_layers([gap.depth])} {ours} of the test images are right with the block and {theirs} without it "
            f"({_sure(study, gap.interval, (gap.residual, plain))})."
        )
        if compared[-1].decision == "undecided" and decide(gap.interval, 0.0) != "undecided":
            yield "Taken alone the difference is significant; corrected for the number of comparisons (Holm) it is not."
    if change := study.deepening(TEST):
        both = change.shallow, change.deep
        few, many = (_mean(study, spec, change.differences) for spec in both)
        yield (
            f"Residual networks have {few} right at {_layers([change.shallow.depth])} and {many} at "
            f"{change.deep.depth} ({_sure(study, change.interval, both)})."
        )


def _use(found: Champion) -> Iterator[str]:
    """Yield which network to use, which others may be as good, and what it has right."""
    best, higher = found.winner, found.less_reliable
    if higher:
        yield f"The champion is {best.spec}: {_share(best.accuracy)} of the validation images are right."
        named = _named(higher, lambda other: f"{other.spec} ({_share(other.accuracy)}, {_lacking(other)})")
        yield (
            f"More are right with {named}, but a network of which more seeds diverged, or fewer have finished, is not "
            "preferred."
        )
    else:
        yield f"The champion is {best.spec}, the best on validation images: {_share(best.accuracy)} are right."
    if alike := found.not_told_apart:
        named = _named(alike, lambda other: f"{other.spec} ({_share(other.accuracy)})")
        yield f"Not told apart from it there: {named}."
    yield f"Of the test images {best.spec} has {percent(best.summary.interval(TEST))} % right."


def _named(candidates: Sequence[Candidate], words: Callable[[Candidate], str]) -> str:
    more = len(candidates) - NAMED
    return listed([*map(words, candidates[:NAMED]), *([f"{more} more"] if more > 0 else [])])


def _lacking(candidate: Candidate) -> str:
    return f"{candidate.summary.trouble} of {counted(len(candidate.summary.scores), 'seed')}"


def _mean(study: Study, spec: ModelSpec, seeds: Iterable[int]) -> str:
    values = study.accuracies(TEST)[spec]
    return _share(float(np.mean([values[seed] for seed in seeds])))


def _share(accuracy: float) -> str:
    return f"{100 * accuracy:.1f} %"


def _sure(study: Study, interval: Interval, both: tuple[ModelSpec, ModelSpec]) -> str:
    finished = study.accuracies(TEST)
    seeds = counted(interval.n, "seed")
    if any(len(finished[spec]) > interval.n for spec in both):
        seeds = f"{'the ' if interval.n > 1 else ''}{seeds} that both have"
    return "; ".join([f"{points_in_words(interval)}, {seeds}", *study.remarks(both, missing=False)])


def _layers(depths: Iterable[int]) -> str:
    """Return depths in words, for instance ``8 and 20 layers``; empty where there are none."""
    names = listed([str(depth) for depth in depths])
    return f"{names} layers" if names else ""
