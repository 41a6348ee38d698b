"""What stages share that one process runs one after the other: what Keras has compiled, and splits that are read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from resblock.core.splits import SPLIT_NAMES, DatasetDescription, Split, SplitName, read_verified
from resblock.core.training.job import Workshop
from resblock.evaluation.specimens import choose
from resblock.params import Examination
from resblock.startup import start_keras

if TYPE_CHECKING:
    from resblock.evaluation.evaluate import Examiner


@dataclass
class Workplace:
    """Where trainings are made and looked at; those that differ in the seed alone share what is compiled."""

    workshop: Workshop = field(default_factory=lambda: Workshop(start_keras))
    _examiners: dict[str, Examiner] = field(default_factory=dict[str, "Examiner"], init=False)

    def examiner(self, splits: Path, dataset: DatasetDescription, examination: Examination) -> Examiner:
        """Return who looks at trainings on the `splits` that are `dataset`; Keras has been started.

        Raises UserError where the splits are not what they are described to be.
        """
        from resblock.evaluation.evaluate import Examiner  # Keras, quiet by now

        shared = repr((str(splits.resolve()), dataset.digest, examination))
        if shared not in self._examiners:
            self._examiners.clear()
            images: dict[SplitName, Split] = {name: read_verified(splits, dataset, name) for name in SPLIT_NAMES}
            self._examiners[shared] = Examiner(dataset, images, choose(images["test"], examination))
        return self._examiners[shared]
