"""The paper's claims, and three of our own, each with the number that decides it.

The paper is X. Jin, "Analysis of Residual Block in the ResNet for Image Classification", DAML 2023. Accuracies stand
with batch-norm statistics as trained where the claim is about what a user of the network gets, and with statistics
re-estimated where it is about the weights that training found: lagging averages would pass for bad optimisation.
"""

from __future__ import annotations

from resblock.study.claims import accuracy, flips, gradients, rebound
from resblock.study.verdicts import Claim

_ORDER = (
    "cnn",
    "twin",
    "gradients",
    "growth",
    "shattering",
    "depth",
    "rebound",
    "rebound-depth",
    "rebound-rate",
    "rebound-overfitting",
    "rebound-statistics",
    "schedule",
    "regularisation",
    "convergence",
    "flips",
    "flips-horizontal",
    "flips-vertical",
    "bottleneck",
    "elsewhere",
)  # as a reader meets them
_ALL = {claim.name: claim for room in (accuracy, gradients, rebound, flips) for claim in room.CLAIMS}
CLAIMS: tuple[Claim, ...] = tuple(_ALL[name] for name in _ORDER)
