"""Which network to use on a data set, how sure that is, and what to run next if it is not. Computed, never typed.

The rule. Networks are compared by validation accuracy with batch-norm statistics re-estimated; the test split chooses
nothing. The best is the one of highest mean over seeds. The choice is the shallowest of those within noise of it, the
better of two as deep: the 95 % t-interval of the best's lead, paired by seed, holds zero. Accuracies are counts of
images, and intervals allow for that. The choice is sure where that interval ends below MARGIN, so that nothing that
matters is lost by it. Whoever picks the best of many picks luck with it, so leads are overestimated rather than under.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from resblock.core.model.architecture import design
from resblock.core.spec import FAMILIES, ModelSpec
from resblock.study.efficiency import Costs, quiet_seconds
from resblock.study.interval import CONFIDENCE, Interval, seeds_in_words, seeds_needed
from resblock.study.numbers import listed, points
from resblock.study.summary import Gap, Lead, Study, Summary, lead

METRIC, LEARNT = "validation_accuracy_reestimated", "train_accuracy_reestimated"
MARGIN = 0.01  # of accuracy: what a lead must reach to matter
BY_HEART = 0.05  # of accuracy: how far training images may be ahead before more of them would help more than depth
FEWEST_SEEDS = 3
TENSORS = 2  # kept for the backward pass behind each convolution: its own output and the normalised one
BYTES = 4  # of a float32


@dataclass(frozen=True)
class Price:
    """What one training of a network takes, as far as it is known."""

    spec: ModelSpec
    seconds: float  # wall clock of a quiet machine; scaled by multiply-adds where `measured` is not true
    memory: float  # bytes of activations that a training step keeps
    measured: bool = True


@dataclass(frozen=True)
class Circumstances:
    """What of a data set and its recipe an advice depends on besides scores."""

    image_shape: tuple[int, int, int]
    validation_images: int
    batch_size: int


@dataclass(frozen=True)
class Advice:
    """The network to use, and what it rests on."""

    study: Study
    costs: Costs
    circumstances: Circumstances
    best: Summary
    choice: Summary
    paired: Lead  # the best's over the choice

    @cached_property
    def lead(self) -> Interval:
        """The best's lead over the choice, with its interval."""
        return self.paired.interval

    @property
    def seeds(self) -> int:
        """How many seeds the comparison rests on."""
        return self.lead.n

    @property
    def too_few(self) -> bool:
        """Whether there are too few seeds to speak of noise at all."""
        return self.seeds < FEWEST_SEEDS

    @property
    def sure(self) -> bool:
        """Whether the choice loses less than MARGIN, and the study reaches far enough to say so."""
        return not self.too_few and (self.choice is self.best or self.lead.high < MARGIN)

    @property
    def at_the_edge(self) -> bool:
        """Whether the choice is the deepest network of its kind, so that deeper ones may be better still."""
        return self.choice.spec == max((s.spec for s in self._kind()), key=lambda spec: spec.depth)

    @property
    def by_heart(self) -> bool:
        """Whether the choice has hardly any training image wrong, and of the validation images many more."""
        learnt, known = (self.choice.interval(metric).mean for metric in (LEARNT, METRIC))
        return learnt >= 1 - MARGIN and learnt - known >= BY_HEART

    @cached_property
    def alike(self) -> list[Summary]:
        """Networks as deep as the choice that these seeds do not tell apart from it."""
        level = [s for s in self.study.summaries if s.finished and s.spec.depth == self.choice.spec.depth]
        return [s for s in level if s is not self.choice and not lead(self.choice, s, METRIC).clear]

    @property
    def awaited(self) -> list[Summary]:
        """Networks of the study that were not trained from any seed."""
        return [s for s in self.study.summaries if all(score.status == "missing" for score in s.scores)]

    @cached_property
    def shallower(self) -> bool:
        """Whether there is a network that is shallower than the choice."""
        return any(s.finished and s.spec.depth < self.choice.spec.depth for s in self.study.summaries)

    @cached_property
    def shortcut(self) -> list[Gap]:
        """What the addition buys at each depth that has both twins, the shallowest first."""
        return [gap for gap in self.study.gaps(METRIC) if gap.differences]

    @cached_property
    def prices(self) -> tuple[Price, Price] | None:
        """What the choice costs, and the next deeper network of its kind; None where no cost is known."""
        now = self.costs.get(self.choice.spec)
        if not now:
            return None
        here = Price(self.choice.spec, quiet_seconds(now.values()), self._memory(self.choice.spec))
        deeper = [s.spec for s in self._kind() if s.spec.depth > self.choice.spec.depth and self.costs.get(s.spec)]
        if deeper:
            spec = min(deeper, key=lambda each: each.depth)
            return here, Price(spec, quiet_seconds(self.costs[spec].values()), self._memory(spec))
        spec = next_deeper(self.choice.spec)
        scale = (spec.depth - 2) / max(1, self.choice.spec.depth - 2)  # the work of blocks grows with their number
        return here, Price(spec, here.seconds * scale, self._memory(spec), measured=False)

    def sentences(self) -> Iterator[str]:
        """Yield the advice in plain sentences, the choice first."""
        choice, *others = self.lasting()
        yield choice
        if self.shortcut:
            yield (
                f"The shortcut buys, in points of validation accuracy: {', '.join(map(_bought, self.shortcut))} "
                f"(intervals tell of other seeds on these {self.circumstances.validation_images:,} images)."
            )
        if self.prices:
            yield _cost(*self.prices, self.circumstances.batch_size)
        yield from others

    def lasting(self) -> Iterator[str]:
        """Yield what of it every repeat says alike: which network to use, how sure that is, what to run next."""
        yield self._choice()
        yield self._sureness()
        if self.by_heart:
            yield (
                f"It has {_percent(self.choice, LEARNT)} % of the training images right: it knows them by heart, and "
                "deeper networks would, too."
            )
        yield f"Next: {self.next_step}."

    def _choice(self) -> str:
        name = self.choice.spec.name
        if self.too_few:
            return (
                f"Too few seeds to advise: {self.seeds} {'seed tells' if self.seeds == 1 else 'seeds tell'} no noise. "
                f"Best so far on validation images is {self.best.spec} with {_percent(self.best)} %."
            )
        what = (
            f"Use {name}: {_percent(self.choice)} % of the validation images (statistics re-estimated, "
            f"{len(self.choice.finished)} seeds)"
        )
        others = [s.spec.name for s in self.alike if s is not self.best]
        level = f" As deep and not told apart from it: {listed(others)}." if others else ""
        if self.choice is self.best:
            rest = "every shallower one is worse beyond noise" if self.shallower else "none is shallower"
            trained = sum(bool(summary.finished) for summary in self.study.summaries)
            return f"{what}, the best of {trained} networks; {rest}.{level}"
        return (
            f"{what}. It is the shallowest network within noise of the best, {self.best.spec} with "
            f"{_percent(self.best)} %, whose lead is {points(self.lead)}.{level}"
        )

    def _sureness(self) -> str:
        if self.too_few:
            return f"Nothing is sure below {FEWEST_SEEDS} seeds."
        resolution = 1 / self.circumstances.validation_images
        grain = (
            f" One of the {self.circumstances.validation_images:,} validation images is {100 * resolution:.1f} points."
            if resolution > MARGIN / 4
            else ""
        )
        if self.choice is self.best and not self.shallower:
            return f"Whether a shallower network would do is open: the study has none.{grain}"
        if self.choice is self.best:
            return (
                f"As far as the study reaches, {CONFIDENCE:.0%} intervals tell the shallower ones apart, each taken "
                f"alone.{grain}"
            )
        if self.sure:
            return f"This is sure: with {CONFIDENCE:.0%} the choice loses less than {100 * MARGIN:.0f} point.{grain}"
        return (
            f"This is not sure: the choice may lose up to {100 * self.lead.high:.1f} points, and {100 * MARGIN:.0f} "
            f"would matter.{grain}"
        )

    @property
    def next_step(self) -> str:
        """What to run next, or that there is no need."""
        if self.too_few:
            return f"train {FEWEST_SEEDS} seeds at least, better five (study.seeds in params.yaml)"
        if self.awaited:
            return f"train {listed([s.spec.name for s in self.awaited])}, of which the study has nothing yet"
        if not self.sure:
            needed = seeds_needed(self.paired.spread, MARGIN)
            if needed is None:
                return "more seeds would hardly tell; a larger validation split or other data would"
            return f"{seeds_in_words(needed, self.seeds)} would tell (study.seeds in params.yaml)"
        if self.by_heart:
            return "more images, or augmentation that keeps what an image means (horizontal_flip, crop_padding)"
        if self.at_the_edge and self.best.interval(METRIC).mean <= 1 - MARGIN:  # else there is nothing to gain
            deeper = f"add {next_deeper(self.choice.spec)} (study.variants)"
            if not self.shallower:
                return f"{deeper}: one depth tells nothing of others"
            return f"{deeper}: the study ends where accuracy still rises"
        return "nothing needs to be run; use it (`resblock predict`)"

    def _kind(self) -> list[Summary]:
        """Return the networks that differ from the choice in depth alone."""

        def kind(spec: ModelSpec) -> tuple[object, ...]:
            return spec.family, spec.modifiers, spec.width

        return [each for each in self.study.summaries if kind(each.spec) == kind(self.choice.spec)]

    def _memory(self, spec: ModelSpec) -> float:
        return self.circumstances.batch_size * activations(spec, self.circumstances.image_shape)


def advise(study: Study, costs: Costs, circumstances: Circumstances) -> Advice | None:
    """Return the advice that the scores of `study` allow; None where nothing has finished.

    A network of which a seed diverged is not advised.
    """
    finished = [summary for summary in study.summaries if summary.finished]
    steady = [s for s in finished if not any(score.status == "diverged" for score in s.scores)] or finished
    if not steady:
        return None
    best = max(steady, key=lambda s: (s.interval(METRIC).mean, -s.spec.depth))
    for summary in sorted(steady, key=lambda s: (s.spec.depth, -s.interval(METRIC).mean)):
        paired = lead(best, summary, METRIC)
        if summary is best or (paired.interval.n >= FEWEST_SEEDS and paired.interval.low <= 0):
            return Advice(study, costs, circumstances, best, summary, paired)
    return None  # the best is among the steady


def next_deeper(spec: ModelSpec) -> ModelSpec:
    """Return the network of the same kind that is about half as deep again, and two blocks a stage at least."""
    wanted = max(spec.depth + 12, math.ceil(1.5 * spec.depth)) if FAMILIES[spec.family].staged else spec.depth + 1
    for depth in range(wanted, 10 * wanted + 10):
        try:
            return ModelSpec.parse("-".join((spec.family, str(depth), *spec.name.split("-")[2:])))
        except ValueError:
            continue
    return spec


def activations(spec: ModelSpec, image_shape: tuple[int, int, int]) -> float:
    """Return roughly how many bytes of activations a training step keeps of one image, for the backward pass."""
    architecture = design(spec, image_shape)
    height, width, _ = image_shape
    total = 0.0
    entries = [architecture.stem.entry] if architecture.stem else []
    for entry in entries:
        height, width = -(-height // entry.stride), -(-width // entry.stride)
        total += height * width * (architecture.stem.filters if architecture.stem else 0)
        if entry.pooled:
            height, width = -(-height // 2), -(-width // 2)
    for place in architecture.places:
        if place.entry:
            height, width = -(-height // place.entry.stride), -(-width // place.entry.stride)
        if place.stride > 1 or place.pooled_before:
            height, width = -(-height // 2), -(-width // 2)
        convolutions = {"bottleneck": 3}.get(architecture.block, 2 if architecture.stem else 1)
        total += convolutions * height * width * place.filters
        if place.pooled_after:
            height, width = -(-height // 2), -(-width // 2)
    return TENSORS * BYTES * total


def _bought(gap: Gap) -> str:
    return f"{points(gap.interval)} at depth {gap.label}"


def _percent(summary: Summary, metric: str = METRIC) -> str:
    return f"{100 * summary.interval(metric).mean:.1f}"


def _cost(here: Price, there: Price, batch_size: int) -> str:
    about = "takes" if there.measured else "would take about"
    ratio = there.seconds / here.seconds if here.seconds else math.nan
    return (
        f"More depth costs: a training of {there.spec} {about} {_time(there.seconds)} instead of {_time(here.seconds)} "
        f"({ratio:.1f} times), and keeps about {there.memory / 1e6:,.0f} MB of activations instead of "
        f"{here.memory / 1e6:,.0f} MB in batches of {batch_size}."
    )


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
