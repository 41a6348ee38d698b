"""Two sides of a study, compared: what was changed, and what that moved.

A network's figures are paired by seed, since one seed gives both sides the same initial weights and the same order of
images where these did not change. The outcome rests on the 95 % t-interval of the mean difference and on the smallest
difference that matters:

- **equal**: every seed gave the same number on both sides, to its last bit;
- **moved**: the whole interval lies beyond that difference, on one side of zero;
- **too small to matter**: the whole interval lies within it, on both sides of zero;
- **undecided**: everything else, and everything below two seeds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from resblock.core.recipe import BASE, Recipe
from resblock.core.spec import RunKey
from resblock.diff.side import Side, label
from resblock.evaluation.score import METRICS, headline
from resblock.study.claims.basis import HALF_A_POINT
from resblock.study.interval import Interval, t_interval
from resblock.study.provenance import ALIKE
from resblock.study.summary import Gap, Study
from resblock.study.verdicts import Verdict

Outcome = Literal["equal", "moved", "too small to matter", "undecided"]
HEADLINE, HEADLINE_LOSS = headline("test_accuracy"), headline("test_loss")
# The smallest difference of loss that matters, in nats: the probability given to the right class changes by 1 %, in the
# geometric mean.
LOSS_MARGIN = 0.01
OF_OTHERS = ("data", "train", "probes", "evaluation")  # sections of params.yaml with a part for each data set
DIGITS = 8  # of a digest that is shown


@dataclass(frozen=True)
class Change:
    """One thing that is not the same on both sides, in words; None where a side has none."""

    what: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Shift:
    """How far one figure moved: after minus before, paired by seed."""

    label: str  # the network, with its recipe where that is not the data set's own; or the pair of twins
    metric: str
    before: Interval  # of the seeds that finished on both sides, as is all here
    after: Interval
    differences: Mapping[int, float]  # seed to difference
    rounding: float = 0.0  # what counting whole images adds to the variance of one difference

    @property
    def margin(self) -> float:
        """The smallest difference that matters."""
        return LOSS_MARGIN if "loss" in self.metric else HALF_A_POINT

    @property
    def interval(self) -> Interval:
        """The mean difference with its paired t-interval."""
        return t_interval(list(self.differences.values()), rounding=self.rounding)

    @property
    def outcome(self) -> Outcome:
        """What the difference comes to, by the rule at the top of this file."""
        if self.differences and not any(self.differences.values()):
            return "equal"
        interval = self.interval
        if math.isnan(interval.low) or interval.low == interval.high:  # nothing is known of the spread
            return "undecided"
        if interval.low > self.margin or interval.high < -self.margin:
            return "moved"
        return "too small to matter" if -self.margin < interval.low and interval.high < self.margin else "undecided"


@dataclass(frozen=True)
class VerdictChange:
    """A claim on which the two sides do not say the same."""

    claim: str
    statement: str
    before: Verdict
    after: Verdict


@dataclass(frozen=True)
class Comparison:
    """All that differs between two sides of a data set's study."""

    dataset: str
    before: Side
    after: Side
    changes: Sequence[Change]  # parameters, recipes, data, code, machinery
    trainings: Sequence[Change]  # that only one side has, or that ended otherwise
    repeated: int  # trainings with the same curve, to the last bit, on both sides
    shifts: Sequence[Shift]  # of every figure of every network that both sides have
    gaps: Sequence[Shift]  # residual minus plain, of the headline
    verdicts: Sequence[VerdictChange]

    def of(self, metric: str) -> list[Shift]:
        """Return how far each network's `metric` moved."""
        return [shift for shift in self.shifts if shift.metric == metric]


def compare(dataset: str, before: Side, after: Side) -> Comparison:
    """Compare two sides of the study on `dataset`."""
    shared = [key for key in before.curves if key in after.curves]
    return Comparison(
        dataset=dataset,
        before=before,
        after=after,
        changes=[*_parameters(dataset, before, after), *_made_by(before, after), *_code(before, after)],
        trainings=list(_trainings(before, after)),
        repeated=sum(repr(before.curves[key]) == repr(after.curves[key]) for key in shared),
        shifts=list(_shifts(before, after)),
        gaps=list(_gaps(before.studies[BASE], after.studies[BASE])),
        verdicts=list(_verdicts(before, after)),
    )


def _parameters(dataset: str, before: Side, after: Side) -> Iterator[Change]:
    """Yield the keys of params.yaml that differ and say something of `dataset`."""
    for name in dict.fromkeys((*before.params, *after.params)):
        section, _, rest = name.partition(".")
        elsewhere = section in OF_OTHERS and rest.partition(".")[0] != dataset
        if not elsewhere and before.params.get(name) != after.params.get(name):
            yield Change(name, _text(before.params.get(name)), _text(after.params.get(name)))


def _made_by(before: Side, after: Side) -> Iterator[Change]:
    """Yield in what the trainings of the two sides were made otherwise, by their manifests."""
    for entry, words in ALIKE.items():
        values = [_values(entry, side.manifests.values()) for side in (before, after)]
        if values[0] != values[1] and all(values):
            yield Change(f"{words}, as trained", *(", ".join(texts) for texts in values))
    sides = [{key.recipe: manifest["recipe"] for key, manifest in side.manifests.items()} for side in (before, after)]
    for name in (name for name in sides[0] if name in sides[1]):
        theirs, ours = ({**Recipe.defaults(), **side[name]} for side in sides)
        for key in dict.fromkeys((*theirs, *ours)):
            if theirs.get(key) != ours.get(key):
                yield Change(f"recipe {name}, as trained: {key}", _text(theirs.get(key)), _text(ours.get(key)))


def _values(entry: str, manifests: Any) -> list[str]:
    """Return each value of an entry once, in words."""
    return sorted({_text(manifest.get(entry)) or "" for manifest in manifests})


def _code(before: Side, after: Side) -> Iterator[Change]:
    for file in sorted({*before.code, *after.code}):
        theirs, ours = before.code.get(file), after.code.get(file)
        if theirs != ours:
            yield Change(f"code, {file}", _text(theirs), _text(ours))


def _trainings(before: Side, after: Side) -> Iterator[Change]:
    for key in dict.fromkeys((*before.scores, *after.scores)):
        states = [side.scores[key].status if key in side.scores else None for side in (before, after)]
        if states[0] != states[1] and key not in before.set_aside and key not in after.set_aside:
            words = [{"missing": "trained, not scored"}.get(state or "", state) for state in states]
            yield Change(f"{label(key.spec, key.recipe)}, seed {key.seed}", *words)


def _shifts(before: Side, after: Side) -> Iterator[Shift]:
    for recipe in (name for name in before.studies if name in after.studies):
        theirs, ours = before.studies[recipe], after.studies[recipe]
        for metric in METRICS:
            old, new = theirs.measure(metric), ours.measure(metric)
            for spec in (spec for spec in old if spec in new and set(old[spec]) & set(new[spec])):
                yield _shift(label(spec, recipe), metric, old[spec], new[spec], rounding=2 * ours.rounding(metric))


def _gaps(before: Study, after: Study) -> Iterator[Shift]:
    theirs = {gap.label: gap for gap in before.gaps(HEADLINE)}
    for gap in after.gaps(HEADLINE):
        old = theirs.get(gap.label)
        if old and set(old.differences) & set(gap.differences):
            yield _shift(_pair(gap), HEADLINE, old.differences, gap.differences, rounding=2 * gap.rounding)


def _pair(gap: Gap) -> str:
    return f"{gap.residual.name} − {gap.residual.twin.name if gap.residual.twin else 'plain'}"


def _shift(
    name: str, metric: str, before: Mapping[int, float], after: Mapping[int, float], *, rounding: float
) -> Shift:
    both = [seed for seed in before if seed in after]
    return Shift(
        label=name,
        metric=metric,
        before=t_interval([before[seed] for seed in both], rounding=rounding / 2),
        after=t_interval([after[seed] for seed in both], rounding=rounding / 2),
        differences={seed: after[seed] - before[seed] for seed in both},
        rounding=rounding,
    )


def _verdicts(before: Side, after: Side) -> Iterator[VerdictChange]:
    theirs = {verdict.claim.name: verdict for verdict in before.verdicts}
    for verdict in after.verdicts:
        old = theirs.get(verdict.claim.name)
        if old and old.outcome != verdict.outcome:
            yield VerdictChange(verdict.claim.name, verdict.claim.statement, old, verdict)


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(each)}" for name, each in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(str(each) for each in value) or "none"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text[:DIGITS] if len(text) == 64 else text


def shared_keys(comparison: Comparison) -> list[RunKey]:
    """Return the trainings whose curves both sides have."""
    return [key for key in comparison.before.curves if key in comparison.after.curves]
