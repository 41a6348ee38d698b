"""What the curves say: whether loss rebounds, why, what mends it, and when training settles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from resblock.study.claims.basis import differing_keys
from resblock.study.measure import Measure
from resblock.study.rebound import rebound_measure
from resblock.study.verdicts import Claim, Contrast, Evidence, Trained, over_networks, paired

REBOUND_MARGIN = 0.05  # rises of validation loss as a share of its falls; less is no rebound worth a name
AROUND = (15, 25)  # epochs that pass for "around 20"


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
        if differing_keys(evidence.base.recipe, trained.recipe) <= set(keys) and wanted(trained.recipe)
        for other in [_rebound(trained, "relative")]
    }
    name = next((name for name, values in found.items() if values), None)  # the first in the study's order
    return Contrast(found[name], f"base − {name}, rises / falls", margin=REBOUND_MARGIN) if name else None


CLAIMS = (
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
)
