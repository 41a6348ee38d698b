"""What accuracy says of ResNets, of their block, and of depth.

Accuracies are those with the headline's batch-norm statistics, and networks are unmodified ones.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from resblock.core.spec import ModelSpec
from resblock.evaluation.score import headline
from resblock.study.claims.basis import (
    HALF_A_POINT,
    SAME_COST,
    between,
    nearest_in_cost,
    seeds_left_out,
)
from resblock.study.summary import unmodified
from resblock.study.verdicts import Claim, Contrast, Evidence, Outcome

VERY_DEEP = 56  # where He et al. 2015, Figure 6, show plain networks degrade beyond doubt
TEST, TRAIN, VALIDATION = (headline(f"{split}_accuracy") for split in ("test", "train", "validation"))


def residual_beats_cnn(evidence: Evidence) -> Contrast | None:
    """Compare the two networks that one would choose by validation accuracy, on test images."""
    ours, theirs = _best(evidence, "residual"), _best(evidence, "cnn")
    if ours is None or theirs is None:
        return None
    return between(evidence.base.study, TEST, {f"{ours} − {theirs}": (ours, theirs)})


def residual_beats_equal_cnn(evidence: Evidence) -> Contrast | None:
    """Compare each CNN with the residual network that costs the same, on test images."""
    return _at_equal_cost(evidence, "cnn", ("residual",), turned=True)


def block_is_the_cause(evidence: Evidence) -> Contrast | None:
    """Take the mean over depths of the twins' gap in test accuracy."""
    study = evidence.base.study
    pairs = {f"depth {pair[0].depth}": pair for pair in study.twins}
    return between(study, TEST, pairs, "residual − plain, ") if pairs else None


def depth_trains(evidence: Evidence) -> Contrast | None:
    """Compare the training accuracy that plain and residual networks lose from the shallowest twins to the deepest.

    He et al. 2015 call the loss degradation; it is one of training accuracy, so overfitting cannot explain it.
    """
    study = evidence.base.study
    gaps = [gap for gap in study.gaps(TRAIN) if gap.differences]
    if len(gaps) < 2:
        return Contrast({}, "", because="needs twins of two depths")
    shallow, deep = gaps[0], gaps[-1]
    values = {s: deep.differences[s] - shallow.differences[s] for s in deep.differences if s in shallow.differences}
    used = {spec for pair in study.twins if pair[0].depth in (shallow.depth, deep.depth) for spec in pair}
    absent = {spec for pair in study.twins if pair[0].depth > deep.depth for spec in pair}
    rows = {gap.residual: gap.differences for gap in (shallow, deep)}
    cannot: tuple[Outcome, ...] = ("supported", "refuted") if deep.depth < VERY_DEEP else ()
    return Contrast(
        values,
        f"(residual − plain) at depth {deep.depth}, minus the same at {shallow.depth}",
        margin=HALF_A_POINT,
        cannot=cannot,
        because=f"depth {deep.depth} is not very deep; needs twins of depth {VERY_DEEP} or more",
        rounding=shallow.rounding + deep.rounding,
        networks=4,
        remarks=[*study.remarks(used | absent), *seeds_left_out(rows, values)],
    )


def bottlenecks_are_efficient(evidence: Evidence) -> Contrast | None:
    """Compare each bottleneck network with the residual one that costs the same, on test images."""
    return _at_equal_cost(evidence, "bottleneck", ("residual", "preact"))


def _best(evidence: Evidence, family: str) -> ModelSpec | None:
    """Return which unmodified network of `family` has the best mean validation accuracy; the first of equals."""
    study = evidence.base.study
    members = {
        spec: float(np.mean(list(seeds.values())))
        for spec, seeds in study.accuracies(VALIDATION).items()
        if spec.family == family and unmodified(spec)
    }
    return max(members, key=lambda spec: members[spec], default=None)


def _at_equal_cost(
    evidence: Evidence, family: str, rivals: tuple[str, ...], *, turned: bool = False
) -> Contrast | None:
    """Compare each network of `family` with the one of the `rivals` that costs the same: minus it, or `turned`."""
    study = evidence.base.study
    specs = [summary.spec for summary in study.summaries if unmodified(summary.spec)]
    ours = [spec for spec in specs if spec.family == family]
    if not ours:
        return None
    others = [spec for spec in specs if spec.family in rivals]
    near = {spec: nearest_in_cost(spec, others, evidence.multiply_adds) for spec in ours}
    sides = [(rival, spec) if turned else (spec, rival) for spec, rival in near.items() if rival]
    alone = [f"no network within {100 * SAME_COST:.0f} % of the multiply-adds of {s}" for s, r in near.items() if not r]
    if not sides:
        return Contrast({}, "", because="; ".join(alone))
    found = between(study, TEST, {f"{first} − {second}": (first, second) for first, second in sides})
    return replace(found, remarks=[*found.remarks, *alone])


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
        "cnn-cost",
        "A ResNet classifies better than a convolutional network of equal cost.",
        "not in the paper: ours",
        f"Test accuracy of residual networks minus that of CNNs within {100 * SAME_COST:.0f} % of their multiply-adds.",
        "cost",
        residual_beats_equal_cnn,
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
        f"Test accuracy of bottleneck networks minus that of residual ones within {100 * SAME_COST:.0f} % of their "
        "multiply-adds.",
        "cost",
        bottlenecks_are_efficient,
    ),
    Claim(
        "elsewhere",
        "Residual blocks help on other data, too.",
        "conclusion",
        "Test accuracy of residual networks minus that of their plain twins, mean over depths, on other data.",
        "gap",
        block_is_the_cause,
    ),
)
