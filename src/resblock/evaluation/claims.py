"""The paper's claims, and one of our own, each with the number that decides it.

The paper is X. Jin, "Analysis of Residual Block in the ResNet for Image Classification", DAML 2023. Accuracies stand
with batch-norm statistics as trained where the claim is about what a user of the network gets, and with statistics
re-estimated where it is about the weights that training found: lagging averages would pass for bad optimisation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from resblock.core.spec import ModelSpec
from resblock.evaluation.measure import Measure
from resblock.evaluation.rebound import rebound_measure
from resblock.evaluation.study import Summary
from resblock.evaluation.verdicts import Claim, Contrast, Evidence, Trained, over_networks, paired

HALF_A_POINT = 0.005  # of accuracy: two to three standard deviations of one good training's luck with its seed
REBOUND_MARGIN = 0.05  # rises of validation loss as a share of its falls; less is no rebound worth a name
SLOPE_MARGIN = 0.01  # log10 of gradient norm per layer: a factor of 1.6 over twenty layers
PAPERS_DATA = "cifar10"
VERY_DEEP = 56  # where He et al. 2015, Figure 6, show plain networks degrade beyond doubt
AROUND = (15, 25)  # epochs that pass for "around 20"
GRADIENT_SLOPE = "gradient_slope"  # probe: slope of log10 gradient norm over the layers from input to output

IRRELEVANT = (
    "threads",
    "reestimate_images",
    "gradient_epochs",
    "gradient_images",
)  # of a recipe: they change no result but its last bits


def residual_beats_cnn(evidence: Evidence) -> Contrast | None:
    """Compare the two networks that one would choose by validation accuracy, on test images."""
    ours, theirs = _best(evidence, "residual"), _best(evidence, "cnn")
    if ours is None or theirs is None:
        return None
    values = evidence.base.study.measure("test_accuracy_reestimated")
    first, second = values[ours.spec], values[theirs.spec]
    differences = {seed: first[seed] - second[seed] for seed in first if seed in second}
    return Contrast(differences, f"{ours.spec} − {theirs.spec}", margin=HALF_A_POINT)


def block_is_the_cause(evidence: Evidence) -> Contrast | None:
    """Take the mean over depths of the twins' gap in test accuracy, statistics re-estimated."""
    return _twins(evidence, "test_accuracy_reestimated")


def gradients_vanish_without(evidence: Evidence) -> Contrast | None:
    """Compare by how much gradients shrink towards the input in plain networks and in their residual twins."""
    slopes = evidence.probes.get(GRADIENT_SLOPE, {})
    plain = {residual: slopes.get(twin, {}) for residual, twin in evidence.base.study.twins}
    values = paired(plain, {spec: slopes.get(spec, {}) for spec in plain})
    return Contrast(values, f"plain − residual, {_depths(plain)}", unit="log10 per layer", margin=SLOPE_MARGIN)


def depth_trains(evidence: Evidence) -> Contrast | None:
    """Compare the training accuracy that plain and residual networks lose from the shallowest twins to the deepest.

    He et al. 2015 call the loss degradation; it is one of training accuracy, so overfitting cannot explain it.
    """
    gaps = [gap for gap in evidence.base.study.gaps("train_accuracy_reestimated") if gap.differences]
    gaps = [gap for gap in gaps if gap.residual.family == "residual" and gap.label == str(gap.depth)]
    if len(gaps) < 2:
        return None
    shallow, deep = gaps[0], gaps[-1]
    shared = [seed for seed in deep.differences if seed in shallow.differences]
    values = {seed: deep.differences[seed] - shallow.differences[seed] for seed in shared}
    words = f"(residual − plain) at depth {deep.depth}, minus the same at {shallow.depth}"
    if deep.depth >= VERY_DEEP:
        return Contrast(values, words, margin=HALF_A_POINT)
    because = f"no gap at depth {deep.depth}; needs twins of depth {VERY_DEEP} or more"
    return Contrast(values, words, margin=HALF_A_POINT, cannot="refuted", because=because)


def loss_rebounds(evidence: Evidence) -> Contrast | None:
    """Take rises of validation loss as trained as a share of its falls, beyond the margin."""
    values = over_networks(_rebound(evidence.base, "relative"))
    beyond = {seed: value - REBOUND_MARGIN for seed, value in values.items()}
    return Contrast(beyond, f"rises / falls of validation loss, above {100 * REBOUND_MARGIN:.0f} %")


def depth_causes_rebound(evidence: Evidence) -> Contrast | None:
    """Compare the rebound of the deepest and the shallowest residual network."""
    measure = {s: v for s, v in _rebound(evidence.base, "relative").items() if s.family == "residual"}
    if len({spec.depth for spec in measure}) < 2:
        return None
    shallow, deep = min(measure, key=lambda s: (s.depth, s.name)), max(measure, key=lambda s: (s.depth, s.name))
    values = {seed: value - measure[shallow][seed] for seed, value in measure[deep].items() if seed in measure[shallow]}
    return Contrast(values, f"{deep} − {shallow}, rises / falls", margin=REBOUND_MARGIN)


def learning_rate_causes_rebound(evidence: Evidence) -> Contrast | None:
    """Compare the rebound with that of the same recipe at a lower learning rate."""
    base = evidence.base.recipe
    return _less_rebound(evidence, lambda recipe: recipe["learning_rate"] < base["learning_rate"], "learning_rate")


def overfitting_causes_rebound(evidence: Evidence) -> Contrast | None:
    """Ask whether overfitting is more than half of the rebound."""
    return _majority(evidence, "overfitting")


def statistics_cause_rebound(evidence: Evidence) -> Contrast | None:
    """Ask whether lagging batch-norm statistics are more than half of the rebound."""
    return _majority(evidence, "lagging_statistics")


def schedule_mends_rebound(evidence: Evidence) -> Contrast | None:
    """Compare the rebound with that of the same recipe under a schedule that lowers a constant rate."""
    if evidence.base.recipe.get("schedule") != "constant":
        return None
    return _less_rebound(evidence, lambda recipe: recipe["schedule"] != "constant", "schedule", "learning_rate")


def regularisation_mends_rebound(evidence: Evidence) -> Contrast | None:
    """Compare the rebound with that of the same recipe with more weight decay."""
    base = evidence.base.recipe
    return _less_rebound(evidence, lambda recipe: recipe["weight_decay"] > base["weight_decay"], "weight_decay")


def settles_around_20(evidence: Evidence) -> Contrast | None:
    """Ask from which epoch validation accuracy stays within 1 % of its final value.

    Above zero lies a mean epoch within AROUND. Trainings that end before the window does cannot tell settling there
    from ending there: they may refute the claim, by settling earlier, and not support it. Those that end before it
    begins say nothing.
    """
    epochs = {rebound.epochs for rebound in evidence.base.rebounds}
    values = over_networks(_rebound(evidence.base, "settled_reestimated"))
    if not values or max(epochs) < AROUND[0]:
        return None
    mean = float(np.mean(list(values.values())))
    early = mean < sum(AROUND) / 2
    distance = {seed: value - AROUND[0] if early else AROUND[1] - value for seed, value in values.items()}
    words = f"mean epoch {mean:.1f} of {max(epochs)}, from the nearer end of {AROUND[0]} to {AROUND[1]}"
    because = f"settled late; needs trainings of more than {AROUND[1]} epochs"
    cannot = "supported" if max(epochs) <= AROUND[1] else None
    return Contrast(distance, words, unit="epochs", cannot=cannot, because=because)


def both_flips_help(evidence: Evidence) -> Contrast | None:
    """Compare both flips with none on test images."""
    return _flips(evidence, horizontal=True, vertical=True)


def horizontal_flips_help(evidence: Evidence) -> Contrast | None:
    """Compare horizontal flips with none on test images."""
    return _flips(evidence, horizontal=True, vertical=False)


def vertical_flips_help(evidence: Evidence) -> Contrast | None:
    """Compare vertical flips with none on test images."""
    return _flips(evidence, horizontal=False, vertical=True)


def bottlenecks_are_efficient(evidence: Evidence) -> Contrast | None:
    """Compare each bottleneck network with the cheapest residual one that takes no fewer multiply-adds."""
    values, cost = evidence.base.study.measure("test_accuracy_reestimated"), evidence.multiply_adds
    known = [spec for spec in values if spec.name in cost]
    others = [spec for spec in known if spec.family in ("residual", "preact")]
    first: dict[ModelSpec, Mapping[int, float]] = {}
    second: dict[ModelSpec, Mapping[int, float]] = {}
    for spec in known:
        rivals = [other for other in others if cost[other.name] >= cost[spec.name]]
        if spec.name.startswith("bottleneck-") and rivals:
            rival = min(rivals, key=lambda other: (cost[other.name], other.name))
            first[spec], second[spec] = values[spec], values[rival]
    words = "bottleneck − residual of no fewer multiply-adds"
    return Contrast(paired(first, second), words, margin=HALF_A_POINT) if first else None


def carries_over(evidence: Evidence) -> Contrast | None:
    """Take the twins' gap in test accuracy, where the data are not the paper's."""
    if evidence.base.study.dataset == PAPERS_DATA:
        return None
    return _twins(evidence, "test_accuracy_reestimated")


def _best(evidence: Evidence, family: str) -> Summary | None:
    members = [
        summary for summary in evidence.base.study.summaries if summary.finished and summary.spec.family == family
    ]
    return max(members, key=lambda summary: summary.interval("validation_accuracy_reestimated").mean, default=None)


def _twins(evidence: Evidence, metric: str) -> Contrast | None:
    gaps = [gap for gap in evidence.base.study.gaps(metric) if gap.differences]
    if not gaps:
        return None
    measure = {gap.residual: gap.differences for gap in gaps}
    return Contrast(over_networks(measure), f"residual − plain, {_depths(measure)}", margin=HALF_A_POINT)


def _rebound(trained: Trained, name: str) -> Measure:
    return rebound_measure(trained.rebounds, name)


def _majority(evidence: Evidence, cause: str) -> Contrast | None:
    values = over_networks(_rebound(evidence.base, cause))
    return Contrast({seed: value - 0.5 for seed, value in values.items()}, "share of the rebound, above one half")


def _less_rebound(evidence: Evidence, wanted: Callable[[Mapping[str, Any]], bool], *keys: str) -> Contrast | None:
    """Compare the base's rebound with that of recipes which differ from it in `keys` alone and are `wanted`."""
    base = _rebound(evidence.base, "relative")
    found = {
        name: paired({s: v for s, v in base.items() if s in other}, other)
        for name, trained in evidence.ablations.items()
        if _differences(evidence.base.recipe, trained.recipe) <= set(keys) and wanted(trained.recipe)
        for other in [_rebound(trained, "relative")]
    }
    name = next((name for name, values in found.items() if values), None)  # the first in the study's order
    return Contrast(found[name], f"base − {name}, rises / falls", margin=REBOUND_MARGIN) if name else None


def _flips(evidence: Evidence, *, horizontal: bool, vertical: bool) -> Contrast | None:
    with_flips, without = (
        next(_with_flips(evidence, *flips), None) for flips in ((horizontal, vertical), (False, False))
    )
    if with_flips is None or without is None:
        return None
    measures = [trained.study.measure("test_accuracy_reestimated") for trained in (with_flips, without)]
    shared = [spec for spec in measures[0] if spec in measures[1]]
    words = ", ".join(spec.name for spec in shared)
    return Contrast(paired(measures[0], measures[1]), f"with − without, {words}", margin=HALF_A_POINT)


def _with_flips(evidence: Evidence, horizontal: bool, vertical: bool) -> Iterator[Trained]:
    for trained in (evidence.base, *evidence.ablations.values()):
        recipe = trained.recipe
        changed = _differences(evidence.base.recipe, recipe) - {"horizontal_flip", "vertical_flip"}
        flips = (recipe.get("horizontal_flip"), recipe.get("vertical_flip"))
        if not changed and flips == (horizontal, vertical):
            yield trained


def _differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> set[str]:
    return {key for key in {*first, *second} if first.get(key) != second.get(key)} - set(IRRELEVANT)


def _depths(specs: Mapping[ModelSpec, Any]) -> str:
    depths = sorted({spec.depth for spec in specs})
    return f"depth{'s' if len(depths) > 1 else ''} {', '.join(map(str, depths))}"


CLAIMS = (
    Claim(
        "cnn",
        "A ResNet classifies better than a plain convolutional network.",
        "abstract; results",
        "Test accuracy of the residual network minus that of the CNN, each chosen by validation accuracy.",
        "depth",
        residual_beats_cnn,
    ),
    Claim(
        "twin",
        "It is the residual block that does it.",
        "abstract; introduction",
        "Test accuracy of residual networks minus that of their plain twins, mean over depths.",
        "gap",
        block_is_the_cause,
    ),
    Claim(
        "gradients",
        "Residual blocks overcome vanishing gradients.",
        "abstract; introduction",
        "By how much more gradients shrink from output to input in plain networks, per layer.",
        "gradients",
        gradients_vanish_without,
    ),
    Claim(
        "depth",
        "They make very deep networks trainable.",
        "abstract; introduction",
        "Training accuracy that depth costs plain networks, beyond what it costs residual ones.",
        "depth",
        depth_trains,
    ),
    Claim(
        "rebound",
        "Loss and accuracy rebound within 20 epochs.",
        "results",
        "Rises of validation loss from epoch to epoch, as a share of its falls.",
        "rebound",
        loss_rebounds,
    ),
    Claim(
        "rebound-depth",
        "Depth is a cause of the rebound.",
        "results",
        "Rebound of the deepest residual network minus that of the shallowest.",
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
        "Share of the rises that re-estimated statistics keep while training loss falls.",
        "rebound",
        overfitting_causes_rebound,
    ),
    Claim(
        "rebound-statistics",
        "Late batch-norm statistics are the main cause of the rebound.",
        "not in the paper: ours",
        "Share of the rises that is gone with statistics re-estimated, the weights untouched.",
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
        "Epoch from which validation accuracy, re-estimated, stays within 1 % of its final value.",
        "accuracy",
        settles_around_20,
    ),
    Claim(
        "flips",
        "Horizontal and vertical flips together raise generalisation.",
        "method",
        "Test accuracy with both flips minus that without any.",
        "depth",
        both_flips_help,
    ),
    Claim(
        "flips-horizontal",
        "Horizontal flips raise generalisation.",
        "method",
        "Test accuracy with horizontal flips minus that without any.",
        "depth",
        horizontal_flips_help,
    ),
    Claim(
        "flips-vertical",
        "Vertical flips raise generalisation.",
        "method",
        "Test accuracy with vertical flips minus that without any.",
        "depth",
        vertical_flips_help,
    ),
    Claim(
        "bottleneck",
        "Bottleneck blocks are more efficient.",
        "introduction; method",
        "Test accuracy of bottleneck networks minus that of residual ones that cost no less.",
        "cost",
        bottlenecks_are_efficient,
    ),
    Claim(
        "elsewhere",
        "What residual blocks give carries over to other data.",
        "conclusion",
        "The twins' gap in test accuracy, on data that are not the paper's.",
        "gap",
        carries_over,
    ),
)
