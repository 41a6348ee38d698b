"""What gradients say of the block."""

from __future__ import annotations

from resblock.study.claims.basis import depths_of
from resblock.study.verdicts import Claim, Contrast, Evidence, paired

SLOPE_MARGIN = 0.01  # log10 of gradient norm per layer: a factor of 1.6 over twenty layers
GRADIENT_SLOPE = "gradient_slope"  # probe: slope of log10 gradient norm over the layers from input to output


def gradients_vanish_without(evidence: Evidence) -> Contrast | None:
    """Compare by how much gradients shrink towards the input in plain networks and in their residual twins."""
    slopes = evidence.probes.get(GRADIENT_SLOPE, {})
    plain = {residual: slopes.get(twin, {}) for residual, twin in evidence.base.study.twins}
    values = paired(plain, {spec: slopes.get(spec, {}) for spec in plain})
    return Contrast(values, f"plain − residual, {depths_of(plain)}", unit="log10 per layer", margin=SLOPE_MARGIN)


CLAIMS = (
    Claim(
        "gradients",
        "Residual blocks overcome vanishing gradients.",
        "abstract; introduction",
        "By how much more gradients shrink from output to input in plain networks, per layer.",
        "gradients",
        gradients_vanish_without,
    ),
)
