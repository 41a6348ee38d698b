"""The paper's claims, and some of our own, each with the number that decides it and the studies that it speaks of.

The paper is X. Jin, "Analysis of Residual Block in the ResNet for Image Classification", DAML 2023. All accuracies are
those with batch-norm statistics re-estimated: averages that lag behind the weights would pass for bad networks. What
the paper says of its data, or of its recipe, is not measured by studies of other data or by another recipe.
"""

from __future__ import annotations

from dataclasses import replace

from resblock.study.claims import accuracy, flips, gradients, rebound
from resblock.study.claims.basis import not_the_papers_data, not_the_papers_recipe, the_papers_data
from resblock.study.verdicts import Claim, any_study

# As a reader meets them, each with the studies that it speaks of.
_ORDER = {
    "cnn": not_the_papers_data,
    "cnn-cost": any_study,
    "twin": not_the_papers_data,
    "gradients": any_study,
    "growth": any_study,
    "shattering": any_study,
    "depth": any_study,
    "rebound": not_the_papers_recipe,
    "rebound-depth": not_the_papers_recipe,
    "rebound-rate": not_the_papers_recipe,
    "rebound-overfitting": not_the_papers_recipe,
    "rebound-statistics": any_study,
    "schedule": not_the_papers_recipe,
    "regularisation": not_the_papers_recipe,
    "convergence": not_the_papers_recipe,
    "flips": not_the_papers_recipe,
    "flips-horizontal": not_the_papers_recipe,
    "flips-vertical": not_the_papers_recipe,
    "bottleneck": any_study,
    "elsewhere": the_papers_data,
}
_ALL = {claim.name: claim for room in (accuracy, gradients, rebound, flips) for claim in room.CLAIMS}
CLAIMS: tuple[Claim, ...] = tuple(replace(_ALL[name], outside=outside) for name, outside in _ORDER.items())
