"""One number for each network and seed: what studies compare."""

from __future__ import annotations

from collections.abc import Mapping

from resblock.core.spec import ModelSpec

Measure = Mapping[ModelSpec, Mapping[int, float]]  # only of networks and seeds that have it
