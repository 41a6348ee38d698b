"""What the curves say: whether loss rebounds, why, what mends it, and when training settles.

The paper trains for 20 epochs on CIFAR-10 with Adam at a constant rate. What it says of that is measured there and
nowhere else. Every number is one ratio of heights, summed over the networks compared, so that the verdicts, the
abstract and the section on the rebound say the same. Modified networks are left out and named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from resblock.core.recipe import Recipe
from resblock.core.spec import ModelSpec
from resblock.study.claims.basis import differing_keys
from resblock.study.measure import Measure
from resblock.study.numbers import signed
from resblock.study.rebound import (
    EARLY,
    LONG,
    REACHED,
    REBOUND_MARGIN,
    RELATIVE,
    Rebound,
    averages_share,
    comparable,
    lessened,
    pooled,
    rebound_measure,
    rebounding,
)
from resblock.study.verdicts import Claim, Contrast, Evidence, Trained, over_networks

PARTS = ("moving_averages", "weights")  # of its height, in nats: what averages did, and what weights did
AROUND = (15, 25)  # epochs that pass for "around 20"


def loss_rebounds(evidence: Evidence) -> Contrast:
    """Take rises of validation loss as trained as a share of its falls, within the paper's 20 epochs."""
    rebounds = _of_the_paper(evidence)
    values = pooled(rebounds, "early_height", "early_falls")
    words = f"rises / falls within {EARLY} epochs, {_networks(evidence.base, rebounds)}"
    if not values:
        return _lacking(f"trainings of {EARLY} epochs")
    return Contrast(values, words, margin=REBOUND_MARGIN, networks=len(_specs(rebounds)))


def depth_causes_rebound(evidence: Evidence) -> Contrast:
    """Take the line through the rebounds of residual networks of all depths: its rise from the first to the last."""
    rebounds = _of_the_paper(evidence)
    values, plain = (_over_depths(rebounds, family, *RELATIVE) for family in ("residual", "plain"))
    if not values:
        return _lacking(f"residual networks of two depths, trained for {EARLY} epochs")
    words = [_depths(rebounds, "residual")]
    words += [_told_apart(*(_over_depths(rebounds, "residual", part, None) for part in PARTS))]
    words += [f"apart: {_depths(rebounds, 'plain')} with {_points(plain)}"] if plain else []
    members = [rebound for rebound in evidence.base.rebounds if rebound.spec.family in ("residual", "plain")]
    count = sum(spec.family == "residual" for spec in _specs(rebounds))
    text = "; ".join([*words, *_left_out(members, rebounds)])
    return Contrast(values, text, margin=REBOUND_MARGIN, networks=count)


def learning_rate_causes_rebound(evidence: Evidence) -> Contrast:
    """Compare the rebound with that of the same recipe at a lower learning rate."""
    return _mended(evidence, lambda base, recipe: recipe["learning_rate"] < base["learning_rate"], "learning_rate")


def overfitting_causes_rebound(evidence: Evidence) -> Contrast:
    """Ask whether overfitting that lasts is more than half of the rebound; chance would not last."""
    return _majority(evidence, _of_the_paper(evidence), "lasting")


def statistics_cause_rebound(evidence: Evidence) -> Contrast:
    """Ask whether batch norm's moving averages are more than half of the rebound of networks that have them."""
    rebounds = comparable(_long(evidence.base), normalized=True)
    found = averages_share(rebounds)
    return _majority(evidence, rebounds, "moving_averages", found.beside if found else "")


def schedule_mends_rebound(evidence: Evidence) -> Contrast:
    """Compare the rebound with that of the same recipe under a schedule that lowers a constant rate."""
    return _mended(evidence, lambda _, recipe: recipe["schedule"] != "constant", "schedule", "learning_rate")


def regularisation_mends_rebound(evidence: Evidence) -> Contrast:
    """Compare the rebound with that of the same recipe with more weight decay."""
    return _mended(evidence, lambda base, recipe: recipe["weight_decay"] > base["weight_decay"], "weight_decay")


def settles_around_20(evidence: Evidence) -> Contrast:
    """Ask at which epoch validation accuracy reaches its final value: how far inside the window the mean lies.

    A recipe that differs from the data set's own in its number of epochs alone serves as well.
    """
    base = _whole(evidence.base.recipe)
    longer = [one for one in evidence.ablations.values() if differing_keys(base, _whole(one.recipe)) <= {"epochs"}]
    found = [
        (one, rebounds)
        for one in (evidence.base, *longer)
        if (rebounds := [rebound for rebound in comparable(_long(one)) if rebound.epochs >= LONG])
    ]
    trained, rebounds = found[0] if found else (evidence.base, [])
    values = over_networks(rebound_measure(rebounds, "settled_reestimated"))
    if not values:
        return _lacking(f"trainings of {LONG} epochs")
    mean = float(np.mean(list(values.values())))
    early = mean < sum(AROUND) / 2
    inside = {seed: value - AROUND[0] if early else AROUND[1] - value for seed, value in values.items()}
    words = f"mean epoch {mean:.1f}, inside {AROUND[0]} to {AROUND[1]}; {_networks(trained, rebounds)}"
    return Contrast(inside, words, unit="epochs", networks=len(_specs(rebounds)))


def _long(trained: Trained) -> list[Rebound]:
    """Return the rebounds of trainings as long as the paper's: a shorter one may end before anything rises."""
    return [rebound for rebound in trained.rebounds if rebound.epochs >= EARLY]


def _lacking(what: str) -> Contrast:
    """Return a contrast that measures nothing, and what it would take."""
    return Contrast({}, "", because=f"needs {what}")


def _of_the_paper(evidence: Evidence) -> list[Rebound]:
    """Return the comparable rebounds of trainings by the data set's own recipe, which claims hold to be the paper's."""
    return comparable(_long(evidence.base))


def _whole(recipe: Mapping[str, Any]) -> dict[str, Any]:
    return {**Recipe.defaults(), **recipe}  # recipes leave out what is at its default


def _majority(evidence: Evidence, rebounds: Sequence[Rebound], cause: str, beside: str = "") -> Contrast:
    """Take a cause's share of the rebound, minus one half; where nothing rebounds there is nothing to share."""
    if not rebounding(rebounds):
        return _lacking(f"a rebound above {100 * REBOUND_MARGIN:.0f} % of the falls, in trainings of {EARLY} epochs")
    values = {seed: share - 0.5 for seed, share in pooled(rebounds, cause, "height_trained").items()}
    share = 100 * (0.5 + float(np.mean(list(values.values()))))
    words = [f"share {share:.0f} %, minus 50 %", beside, _networks(evidence.base, rebounds)]
    return Contrast(
        values,
        "; ".join(filter(None, words)),
        rounding=of_one_rise(rebounds, len(values)),
        networks=len(_specs(rebounds)),
        bounds=(-0.5, 0.5),
    )


def of_one_rise(rebounds: Sequence[Rebound], seeds: int) -> float:
    """Return what a share owes to being one of few rises: the variance of an error uniform over one of a seed's.

    As counting whole images does for accuracies, it keeps seeds that agree from passing for certainty.
    """
    rises = sum(rebound.rises_trained for rebound in rebounds) / seeds
    return 1 / (12 * rises**2)


def _mended(evidence: Evidence, wanted: Callable[[Mapping[str, Any], Mapping[str, Any]], bool], *keys: str) -> Contrast:
    """Compare the base's rebound with that of the first recipe that differs from it in `keys` alone and is `wanted`."""
    rebounds, base = _of_the_paper(evidence), _whole(evidence.base.recipe)
    for name, trained in evidence.ablations.items():
        recipe = _whole(trained.recipe)
        if not rebounds or not differing_keys(base, recipe) <= set(keys) or not wanted(base, recipe):
            continue
        others = _long(trained)
        values = lessened(rebounds, others, *RELATIVE)
        if values:
            parts = (lessened(rebounds, others, part, None) for part in PARTS)
            there = [rebound for rebound in others if rebound.spec in _specs(rebounds) and rebound.seed in values]
            words = [f"base − {name}, rises / falls", _told_apart(*parts), _networks(trained, there)]
            return Contrast(values, "; ".join(words), margin=REBOUND_MARGIN, networks=len(_specs(there)))
    return _lacking(f"the same networks by a recipe that differs in {' and '.join(keys)} alone")


def _over_depths(rebounds: Sequence[Rebound], family: str, part: str, whole: str | None) -> dict[int, float]:
    """Return for each seed by how much the least-squares line of `part` / `whole` over depth rises over all depths."""
    measure: Measure = {
        spec: pooled([rebound for rebound in rebounds if rebound.spec == spec], part, whole)
        for spec in _specs(rebounds)
        if spec.family == family
    }
    depths = np.array([spec.depth for spec in measure], np.float64)
    if len(depths) < 2 or not all(measure.values()):
        return {}
    centred = depths - depths.mean()
    weights = centred * np.ptp(depths) / (centred**2).sum()
    return {
        seed: float(weights @ [values[seed] for values in measure.values()]) for seed in next(iter(measure.values()))
    }


def _told_apart(statistics: Mapping[int, float], weights: Mapping[int, float]) -> str:
    averages, rest = (signed(float(np.mean(list(values.values()))), 3) for values in (statistics, weights))
    return f"height {averages} nats through moving averages, {rest} through the weights"


def _points(values: Mapping[int, float]) -> str:
    return f"{signed(100 * float(np.mean(list(values.values()))), 1)} points"


def _specs(rebounds: Sequence[Rebound]) -> list[ModelSpec]:
    return list(dict.fromkeys(rebound.spec for rebound in rebounds))


def _depths(rebounds: Sequence[Rebound], family: str) -> str:
    depths = sorted(spec.depth for spec in _specs(rebounds) if spec.family == family)
    return f"{family} {', '.join(map(str, depths))}"


def _networks(trained: Trained, compared: Sequence[Rebound]) -> str:
    """Name the networks that are compared, and what is left out of them and beside them."""
    return "; ".join([", ".join(spec.name for spec in _specs(compared)), *_left_out(trained.rebounds, compared)])


def _left_out(rebounds: Sequence[Rebound], compared: Sequence[Rebound]) -> list[str]:
    """Say which networks, or which of their seeds, are not among those compared; nothing where all are."""
    kept = {(rebound.variant, rebound.seed) for rebound in compared}
    seeds: dict[str, list[int]] = {}
    for rebound in rebounds:
        if (rebound.variant, rebound.seed) not in kept:
            seeds.setdefault(rebound.variant, []).append(rebound.seed)
    whole = {name for name, _ in kept}
    names = [
        f"{name} of seed {', '.join(map(str, missing))}" if name in whole else name for name, missing in seeds.items()
    ]
    return [f"without {', '.join(names)}"] if names else []


CLAIMS = (
    Claim(
        "rebound",
        "Validation loss rebounds within 20 epochs.",
        "results",
        "Rises of validation loss from epoch to epoch, as a share of its falls.",
        "rebound",
        loss_rebounds,
    ),
    Claim(
        "rebound-depth",
        "Depth is a cause of the rebound.",
        "results",
        "Rebound along the least-squares line over depth, from the shallowest residual network to the deepest.",
        "rebound",
        depth_causes_rebound,
    ),
    Claim(
        "rebound-rate",
        "The learning rate is a cause of the rebound.",
        "results",
        "Rebound minus that of the same recipe at a lower learning rate.",
        "rebound",
        learning_rate_causes_rebound,
    ),
    Claim(
        "rebound-overfitting",
        "Overfitting is the main cause of the rebound.",
        "results",
        "Share of the rises that re-estimated statistics keep, training images do not share, and no later epoch takes "
        "back, minus one half.",
        "rebound",
        overfitting_causes_rebound,
    ),
    Claim(
        "rebound-statistics",
        "Moving averages, not weights, are the main cause of the rebound.",
        "not in the paper: ours",
        "Share of the rises of validation loss that the loss with statistics re-estimated, the weights untouched, does "
        "not share, epoch by epoch, minus one half. Chance that moves one of the two alone counts for the averages.",
        "rebound",
        statistics_cause_rebound,
    ),
    Claim(
        "schedule",
        "A schedule of the learning rate mends the rebound.",
        "abstract; results",
        "Rebound at a constant rate minus that of the same recipe with a schedule.",
        "rebound",
        schedule_mends_rebound,
    ),
    Claim(
        "regularisation",
        "Regularisation mends the rebound.",
        "abstract; results",
        "Rebound minus that of the same recipe with more weight decay.",
        "rebound",
        regularisation_mends_rebound,
    ),
    Claim(
        "convergence",
        "Training converges around 20 epochs.",
        "results",
        f"Epoch at which validation accuracy, re-estimated and smoothed, reaches {100 * REACHED:.0f} % of its final "
        f"value, in trainings of {LONG} epochs or more: by how much it lies inside {AROUND[0]} to {AROUND[1]}.",
        "accuracy",
        settles_around_20,
    ),
)
