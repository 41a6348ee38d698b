"""What a study says in sentences, from its numbers alone."""

from __future__ import annotations

from resblock.evaluation.score import HEADLINE, Statistics

KINDS: dict[Statistics, str] = {"trained": "as trained", "reestimated": "re-estimated"}
OTHER: Statistics = next(kind for kind in KINDS if kind != HEADLINE)
