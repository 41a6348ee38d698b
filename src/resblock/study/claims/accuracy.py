"""What accuracy says of ResNets, of their block, and of depth."""

from __future__ import annotations

from collections.abc import Mapping

from resblock.core.spec import ModelSpec
from resblock.study.claims.basis import HALF_A_POINT, depths_of
from resblock.study.summary import Summary
from resblock.study.verdicts import Claim, Contrast, Evidence, over_networks, paired

PAPERS_DATA = "cifar10"
VERY_DEEP = 56  # where He et al. 2015, Figure 6, show plain networks degrade beyond doubt


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
    return Contrast(over_networks(measure), f"residual − plain, {depths_of(measure)}", margin=HALF_A_POINT)


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
        "depth",
        "They make very deep networks trainable.",
        "abstract; introduction",
        "Training accuracy that depth costs plain networks, beyond what it costs residual ones.",
        "depth",
        depth_trains,
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
