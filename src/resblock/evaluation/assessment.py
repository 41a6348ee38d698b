"""What is found out of one training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from resblock.evaluation.blocks import Lesion, Response
from resblock.evaluation.corruption import Robustness
from resblock.evaluation.score import Score

Logits = Mapping[str, np.ndarray]  # "<split>" and "<split>_reestimated" to float32 (n, class)


@dataclass(frozen=True)
class Assessment:
    """One training, looked at; without logits unless it finished."""

    score: Score
    logits: Logits
    robustness: Sequence[Robustness] = ()
    responses: Sequence[Response] = ()
    lesions: Sequence[Lesion] = ()

    @property
    def name(self) -> tuple[str, int]:
        """The network's name and the seed."""
        return self.score.variant, self.score.seed
