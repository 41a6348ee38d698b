"""The abstract: what was done, what the twins show, what depth does, why loss rebounds, how gradients flow."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from resblock.core.spec import ModelSpec
from resblock.evaluation.flow import Untrained
from resblock.evaluation.score import HEADLINE, headline, with_statistics
from resblock.report.material import Material
from resblock.report.sections.advice import advice_on
from resblock.report.tables import percent
from resblock.report.words import KINDS, OTHER
from resblock.study.comparison import Comparison, compare
from resblock.study.gradients import COSINE, GROWTH, deepest_twins, probes
from resblock.study.interval import CONFIDENCE, Interval, t_interval
from resblock.study.measure import Measure
from resblock.study.numbers import capitalised, counted, difference, in_parts, listed, number, points
from resblock.study.rebound import (
    REBOUND_MARGIN,
    RELATIVE,
    Rebound,
    averages_share,
    comparable,
    ratio,
    rebounding,
)
from resblock.study.summary import Deepening, Gap, Study
from resblock.study.verdicts import Outcome, Trained, Verdict

OUTCOMES: tuple[Outcome, ...] = ("supported", "refuted", "undecided", "not measured in this study")
TEST, OTHER_TEST = headline("test_accuracy"), with_statistics("test_accuracy", OTHER)
OURS = "not in the paper"  # how the source of a claim begins that is not the paper's
FIRST_ASKED = (
    *("epochs", "batch_size", "optimizer", "learning_rate", "schedule", "weight_decay"),
    *("horizontal_flip", "vertical_flip", "flips", "crop_padding"),
)
STILL = 0.05  # decades: a norm that changes by less keeps
NAMED = 2  # networks that a sentence names; of more it says what they have in common


def abstract(material: Material, verdicts: Sequence[Verdict]) -> list[str]:
    """Return the page's first sentences, from what was done to which network to use."""
    study = material.study
    if not any(summary.finished for summary in study.summaries):
        return [lead(study)]
    said = (
        _scope(material),
        lead(study),
        family(study),
        deepening(study),
        rebound(material, verdicts),
        gradients(material.untrained),
        _count(verdicts),
        _advice(material),
    )
    return [text for text in said if text]


def trouble(study: Study) -> str:
    """Name what is missing or diverged, without the last full stop; empty where nothing is."""
    told = "; ".join(f"{summary.spec.name}: {summary.trouble}" for summary in study.summaries if summary.trouble)
    unfinished = any(score.status == "missing" for score in study.scores)
    return f"{told}. What is decided may change: a study is judged when it is whole" if unfinished else told


# What was done


def _scope(material: Material) -> str:
    study, sizes = material.study, material.dataset.sizes
    seeds = len({score.seed for score in study.scores})
    diverged = _diverged(study)
    finished = _finished(study)
    start = "were trained" if finished + diverged == len(study.scores) else "are to be trained"
    said = (
        f"{counted(len(study.summaries), 'network')} {start} on {material.dataset.name} "
        f"({counted(sizes['train'], 'training image')}, {sizes['validation']:,} for validation, {sizes['test']:,} for "
        f"the test) from {counted(seeds, 'seed')} each; {finished} of {len(study.scores)} trainings "
        f"finished{f', {diverged} diverged' if diverged else ''}."
    )
    one = recipe(material.recipes[0]) if len(material.recipes) == 1 else ""
    return " ".join(filter(None, (said, one, _other_recipes(material.ablations))))


def recipe(chosen: Mapping[str, Any]) -> str:
    """Name what of a recipe a reader of accuracies asks for first; nothing where another version recorded less."""
    if any(key not in chosen for key in FIRST_ASKED):
        return ""
    axes = [axis for axis in ("horizontal", "vertical") if chosen[f"{axis}_flip"]]
    coins = f" ({chosen['flips']})" if len(axes) > 1 else ""
    padding = chosen["crop_padding"]
    augmented = [f"{' and '.join(axes)} flips{coins}"] * bool(axes) + [f"crops padded by {padding}"] * bool(padding)
    return (
        f"Recipe, the same for all: {counted(chosen['epochs'], 'epoch')} in batches of {chosen['batch_size']} images, "
        f"{chosen['optimizer']} at a learning rate of {chosen['learning_rate']:g} (schedule: {chosen['schedule']}), "
        f"weight decay {chosen['weight_decay']:g}, augmentation: {listed(augmented) or 'none'}."
    )


def _other_recipes(ablations: Mapping[str, Trained]) -> str:
    """Name the trainings by other recipes than the data set's own."""
    if not ablations:
        return ""
    studies = [trained.study for trained in ablations.values()]
    names = [
        f"{recipe} ({', '.join(summary.spec.name for summary in trained.study.summaries)})"
        for recipe, trained in ablations.items()
    ]
    finished, all_ = sum(map(_finished, studies)), sum(len(study.scores) for study in studies)
    diverged = sum(map(_diverged, studies))
    return (
        f"By other recipes {finished} of {all_} more finished{f', {diverged} diverged' if diverged else ''}: "
        f"{listed(names)}."
    )


def _finished(study: Study) -> int:
    return sum(score.status == "finished" for score in study.scores)


def _diverged(study: Study) -> int:
    return sum(score.status == "diverged" for score in study.scores)


# Twins


def lead(study: Study) -> str:
    """Say in words what the deepest pair of twins shows, from the numbers alone, with both kinds of statistics.

    Twins with modifiers are not meant; a table of their own names them.
    """
    gaps = [gap for gap in study.gaps(TEST) if gap.differences]
    if not gaps:
        return _best_so_far(study)
    deepest, interval = gaps[-1], gaps[-1].interval
    mean, low, high = in_parts(interval, 100, 1)
    pair = next(pair for pair in study.twins if pair[0] == deepest.residual)
    seeds = counted(interval.n, "seed")
    sure = f"{seeds}, {100 * CONFIDENCE:.0f} % interval {low} to {high}" if low else f"{seeds}; {_ONE_SEED}"
    return (
        f"At depth {deepest.depth}, the deepest with both twins, the residual network's test accuracy minus its plain "
        f"twin's is {mean} points, batch-norm statistics {KINDS[HEADLINE]} "
        f"({'; '.join([sure, *study.remarks(pair)])}){f': {_alone(interval)}' if low else ''}."
        f"{_as_trained(study, deepest)}"
    )


_ONE_SEED = "one seed gives no interval, so this decides nothing"


def _alone(interval: Interval) -> str:
    if interval.low == interval.high:
        return "all seeds give the same number, so nothing is known of their spread and this decides nothing"
    if interval.low > 0:
        return "taken alone, the addition helps there"
    if interval.high < 0:
        return "taken alone, the addition hurts there"
    return "the interval holds zero, so this study does not decide whether the addition helps there"


def _as_trained(study: Study, deepest: Gap) -> str:
    """Return the same gap by the other kind of statistics; nothing where it is equal, as without normalisation."""
    other = next(gap for gap in study.gaps(OTHER_TEST) if gap.residual == deepest.residual)
    if other.differences == deepest.differences:
        return ""
    return f" With statistics {KINDS[OTHER]} it is {points(other.interval)} points."


def _best_so_far(study: Study) -> str:
    finished = [summary for summary in study.summaries if summary.finished]
    best = max(finished, key=lambda summary: summary.interval(TEST).mean, default=None)
    if best is None:
        return "No training has finished yet."
    return f"Best so far: {best.spec.name} with {percent(best.interval(TEST))} % on test images."


Decided = tuple[str, str, str]  # images, depth, decision


def family(study: Study) -> str:
    """Say which comparisons of twins are decided by each kind of statistics, and which by both."""
    ours = compare(study, HEADLINE)
    if len(ours) < 2 or all(comparison.gap.interval.n < 2 for comparison in ours):
        return ""
    here, there = _decided(ours), _decided(compare(study, OTHER))
    start = f"Held together (Holm), {{}} of the {len(ours)} comparisons of twins, on train and on test images,"
    if here == there:
        told = _told(here)
        return f"{start.format(len(here) or 'none')} {_is(here)} decided, with either kind of statistics{told}."
    both = [one for one in here if one in there]
    return (
        f"{start.format(len(here) or 'none')} {_is(here)} decided with statistics {KINDS[HEADLINE]}{_told(here)}. "
        f"{KINDS[OTHER].capitalize()}, {len(there) or 'none'} {_is(there)}{_told(there)}. "
        f"{'Both kinds decide' if both else 'No comparison is decided by both kinds'}{_told(both).lstrip(':')}."
    )


def _decided(comparisons: Sequence[Comparison]) -> list[Decided]:
    return [
        (each.gap.metric.partition("_")[0], each.gap.label, each.decision)
        for each in comparisons
        if each.decision != "undecided"
    ]


def _is(found: Collection[Decided]) -> str:
    return "are" if len(found) > 1 else "is"


def _told(found: Sequence[Decided]) -> str:
    """Name comparisons, for instance ``: depth 20 and 32 on test (residual better)``; nothing where there are none."""
    groups: dict[tuple[str, str], list[str]] = {}
    for images, depth, decision in found:
        groups.setdefault((images, decision), []).append(depth)
    names = [f"depth {listed(depths)} on {images} ({decision})" for (images, decision), depths in groups.items()]
    return f": {', '.join(names)}" if names else ""


# Depth


def deepening(study: Study) -> str:
    """Say what test accuracy gains from the shallowest to the deepest network with the block, and without it."""
    changes = {family: study.deepening(TEST, family) for family in ("residual", "plain")}
    told = [
        f"that of {family} networks by {points(change.interval)} points from {change.shallow.depth} to "
        f"{change.deep.depth} layers{_beside_change(study, family, change)}"
        for family, change in changes.items()
        if change
    ]
    start = f"With statistics {KINDS[HEADLINE]}, paired by seed and taken alone, test accuracy changes with depth"
    return f"{start}: {', '.join(told)}." if told else ""


def _beside_change(study: Study, family: str, change: Deepening) -> str:
    """Return the same change by the other kind of statistics, where it is another, and which networks diverged."""
    other = study.deepening(OTHER_TEST, family)
    told = [f"{KINDS[OTHER]} {points(other.interval)}"] if other and other.interval != change.interval else []
    told += study.remarks((change.shallow, change.deep))
    return f" ({'; '.join(told)})" if told else ""


# Rebound


def rebound(material: Material, verdicts: Sequence[Verdict] = ()) -> str:
    """Say of the unmodified networks with batch normalisation how often loss rises, and what of it averages do.

    With `verdicts` it also says whether moving averages are found to be the main cause.
    """
    rebounds = comparable(material.rebounds, normalized=True)
    found = averages_share(rebounds)
    if found is None:
        return ""
    steps = sum(rebound.epochs - 1 for rebound in rebounds)
    trained = sum(rebound.rises_trained for rebound in rebounds) / steps
    reestimated = sum(rebound.rises_reestimated for rebound in rebounds) / steps
    compared = list(dict.fromkeys(rebound.variant for rebound in rebounds))
    others = ", ".join(dict.fromkeys(each.variant for each in material.rebounds if each.variant not in compared))
    named = len(compared) <= NAMED
    seeds = counted(len({rebound.seed for rebound in rebounds}), "seed")
    beside = "; ".join([f"all networks but {others}"] * bool(others and not named) + [seeds])
    rises = (
        f"Validation loss of {listed(compared) if named else 'networks with batch normalisation'} ({beside}) rises in "
        f"{100 * trained:.0f} % of the steps from one epoch to the next with statistics {KINDS['trained']} and in "
        f"{100 * reestimated:.0f} % with statistics {KINDS['reestimated']}."
    )
    if not rebounding(rebounds):
        return f"{rises} Rises are no {100 * REBOUND_MARGIN:.0f} % of the falls, too little to ask for causes."
    share = f"{100 * found.share:.0f} %"
    chance = f" Part of the {share} may be chance." if found.reverse > 0 else ""
    outcome = next((each.outcome for each in verdicts if each.claim.name == "rebound-statistics"), "")
    decided = (
        f" That moving averages, not weights, are the main cause of the rebound is {outcome}."
        if outcome in OUTCOMES[:3]
        else ""
    )
    return (
        f"{rises} Add up the heights of all rises as trained: {share} of that height is missing, at the same epoch, "
        f"from the loss re-estimated. No weight differs between the two. {capitalised(found.beside)}."
        f"{chance}{decided} "
        f"{_heights(rebounds, material.rebounds)}"
    )


def _heights(normalized: Sequence[Rebound], every: Sequence[Rebound]) -> str:
    """Say how high rises are next to the falls, and how high in networks that have no averages."""
    others = [each for each in comparable(every) if not each.spec.normalized]
    said = f"As trained, rises are {_of_the_falls(normalized)} of the falls"
    if not others:
        return f"{said}."
    names = listed(list(dict.fromkeys(each.variant for each in others)))
    return f"{said}; without batch normalisation, in {names}, {_of_the_falls(others)}."


def _of_the_falls(rebounds: Sequence[Rebound]) -> str:
    return f"{100 * ratio(rebounds, *RELATIVE):.0f} %"


# Gradients


def gradients(untrained: Untrained | None) -> str:
    """Say of the deepest twins before training how gradients grow or shrink, and how alike those of neighbours are."""
    measures = probes(untrained)
    if not measures:
        return ""
    starts = {
        (): "Before training ({seeds}) ",
        ("nobn",): "Without batch normalisation, where residual branches start at zero and take no part yet, ",
    }
    said: list[str] = []
    for modifiers, start in starts.items():
        if pair := deepest_twins(*measures.values(), modifiers=modifiers):
            seeds = counted(len(measures[GROWTH][pair[0]]), "seed")
            told = _flow(measures[GROWTH], pair, again=bool(said)), _likeness(measures[COSINE], pair, again=bool(said))
            said.append(f"{start.format(seeds=seeds)}{' '.join(told)}")
    return " ".join(said)


def _flow(growths: Measure, pair: tuple[ModelSpec, ModelSpec], *, again: bool) -> str:
    """Return by how much the gradient's norm moves in two twins; on which way is said once."""
    first, second = (_moved(t_interval(list(growths[spec].values()))) for spec in pair)
    way = "" if again else ", on its way from the last block to the stem,"
    return f"the gradient of the loss{way} {first} in {pair[0]}; in {pair[1]} it {second}."


def _moved(growth: Interval) -> str:
    if abs(growth.mean) <= STILL:
        return "keeps its norm"
    if growth.low <= 0 <= growth.high:
        return f"may grow or shrink ({difference(growth, 1, 1)} decades)"
    return f"{'grows' if growth.mean > 0 else 'shrinks'} by {_size(growth)} decades"


def _size(growth: Interval) -> str:
    """Return by how much a norm moves, without its direction."""
    turned = Interval(-growth.mean, -growth.high, -growth.low, growth.n)
    return number(turned if growth.mean < 0 else growth)


def _likeness(cosines: Measure, pair: tuple[ModelSpec, ModelSpec], *, again: bool) -> str:
    """Return the cosines of two twins and their difference, paired by seed; of what is said once."""
    plain, residual = pair
    shown = [number(t_interval(list(cosines[spec].values())), digits=2) for spec in pair]
    apart = t_interval(
        [value - cosines[plain][seed] for seed, value in cosines[residual].items() if seed in cosines[plain]]
    )
    opened = ", which may be none" if apart.low <= 0 <= apart.high else f"; {_ONE_SEED}" if apart.n == 1 else ""
    start = (
        "The cosines are" if again else "Gradients of one logit by the pixels of neighbouring inputs have a cosine of"
    )
    return f"{start} {shown[0]} and {shown[1]} there, a difference of {difference(apart, 1, 2)}{opened}."


# Verdicts


def _advice(material: Material) -> str:
    advice = advice_on(material)
    return " ".join(advice.lasting()) if advice else ""


def _count(verdicts: Sequence[Verdict]) -> str:
    counts = {outcome: sum(verdict.outcome == outcome for verdict in verdicts) for outcome in OUTCOMES}
    ours = [verdict for verdict in verdicts if OURS in verdict.claim.source]
    supported = counts["supported"]
    besides = sum(verdict.outcome == "supported" for verdict in ours)
    of_the_paper = f" ({supported - besides} of the paper's)" if besides else ""
    return (
        f"Of {len(verdicts)} claims, {len(verdicts) - len(ours)} of the paper and {len(ours)} besides, this study "
        f"supports {supported}{of_the_paper}, refutes {counts['refuted']}, leaves {counts['undecided']} undecided and "
        f"does not measure {counts['not measured in this study']}, each taken alone."
    )
