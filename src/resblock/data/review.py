"""What was found out about a data set while it was read and cut: what an owner must know before believing a number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from resblock.core.files import read_json, write_json
from resblock.data.words import some, told

UNEQUAL = 10  # times that the largest class may be the smallest before it is called so


@dataclass(frozen=True)
class Review:
    """Counts of one data set as it was cut."""

    classes: tuple[str, ...]
    counts: Mapping[str, Sequence[int]]  # images by split and class
    image_shape: tuple[int, int, int]
    smallest: tuple[int, int] = (0, 0)  # width and height of the pictures before they were resized
    largest: tuple[int, int] = (0, 0)
    enlarged: int = 0  # pictures smaller than what is stored
    skipped: Mapping[str, str] = field(default_factory=dict[str, str])  # unreadable pictures and why
    repeated: Mapping[str, int] = field(default_factory=dict[str, int])  # images equal to one in training, by split
    repeated_within: int = 0  # images equal to another of their split
    shared: int = 0  # test images equal to one of validation and to none in training
    contradictory: int = 0  # images equal to one of another class
    notes: tuple[str, ...] = ()

    @property
    def imbalance(self) -> float:
        """How many times the largest class is the smallest, among training images."""
        return max(self.counts["train"]) / max(1, min(self.counts["train"]))

    @property
    def majority(self) -> float:
        """Accuracy on test images of whoever always names the largest class of the training images."""
        largest = int(np.argmax(self.counts["train"]))
        return self.counts["test"][largest] / max(1, sum(self.counts["test"]))

    def warnings(self) -> Iterator[str]:
        """Yield what an owner must know, in sentences."""
        for split, number in self.repeated.items():
            if number:
                share = 100 * number / max(1, sum(self.counts[split]))
                equal = "equals" if number == 1 else "equal"
                yield (
                    f"{number:,} of the {split} images ({share:.1f} %) {equal} a training image to the pixel; "
                    "accuracy on them shows memory"
                )
        if self.shared:
            equal = told(self.shared, "test image", "equals", "equal")
            yield f"{equal} a validation image to the pixel; networks are chosen by those"
        if self.repeated_within:
            said = told(self.repeated_within, "image", "equals another", "equal others")
            yield f"{said} of the same split to the pixel; copies count as often as they are there"
        if self.contradictory:
            said = told(self.contradictory, "image", "equals one", "equal one")
            yield f"{said} of another class; nobody can be right about both"
        if self.imbalance > UNEQUAL:
            yield (
                f"the largest class has {self.imbalance:,.0f} times the training images of the smallest; whoever "
                f"always names the largest is right on {100 * self.majority:.1f} % of the test images"
            )
        for split in ("validation", "test"):
            missing = [name for name, count in zip(self.classes, self.counts[split], strict=True) if not count]
            if missing:
                number = f"{len(missing)} class{' has' if len(missing) == 1 else 'es have'}"
                yield f"{number} no {split} image: {some([repr(name) for name in missing])}"
        if self.skipped:
            how = "could not be read and"
            said = told(len(self.skipped), "picture", f"{how} was skipped", f"{how} were skipped")
            yield f"{said}: {some(list(self.skipped))}"
        if self.enlarged:
            height, width, _ = self.image_shape
            small = f"smaller than {width}x{height} and"
            yield told(self.enlarged, "picture", f"is {small} was enlarged", f"are {small} were enlarged")
        yield from self.notes


def write_review(path: Path, review: Review) -> None:
    """Write `review` as JSON, without `notes` where there are none: `dvc plots show` fails at an empty list."""
    write_json(path, {name: value for name, value in asdict(review).items() if name != "notes" or value})


def read_review(path: Path) -> Review:
    """Read what `write_review` wrote."""
    tree = read_json(path)
    pairs = {name: tuple(tree.pop(name)) for name in ("classes", "image_shape", "smallest", "largest")}
    return Review(**pairs, notes=tuple(tree.pop("notes", ())), **tree)
