"""Which image belongs to which split: stratified, seeded, and what a data set ships stays as it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from resblock.core.splits import SPLIT_NAMES, SplitName
from resblock.data.splits import stratified
from resblock.data.words import some
from resblock.params import ParamsError, Preparation

FEWEST = 3  # images of a class: one for each split

AUTO_TEST, AUTO_VALIDATION = 0.2, 0.1  # what `auto` cuts off where the data set ships no such split

Indices = dict[SplitName, np.ndarray]


def divide(
    labels: np.ndarray, ships: np.ndarray, preparation: Preparation, name: str, classes: Sequence[str] = ()
) -> Indices:
    """Return which of the images with `labels`, int (n,), belong to which split, each sorted.

    `ships`, int (n,), holds the places in SPLIT_NAMES that the data set itself gives; such splits stay as they are.
    Cuts are stratified and seeded. Raises ParamsError where a fraction does not fit what the data set ships, or a class
    is too small; `classes`, where given, name it.
    """
    key, seed = f"data.{name}", preparation.split_seed
    there: Indices = {
        split: np.flatnonzero(ships == place) for place, split in enumerate(SPLIT_NAMES) if np.any(ships == place)
    }
    rest = there.get("train", np.array([], np.int64))
    if not len(rest):
        raise ParamsError(f"{key}: there are no training images")
    fractions = {
        "test": _fraction(preparation.test_fraction, "test" in there, f"{key}.test_fraction", name, AUTO_TEST),
        "validation": _fraction(
            preparation.validation_fraction,
            "validation" in there,
            f"{key}.validation_fraction",
            name,
            AUTO_VALIDATION,
        ),
    }
    for split, fraction in fractions.items():
        if fraction is None:
            continue
        number = len(np.unique(labels[rest]))
        if getattr(preparation, f"{split}_fraction") == "auto":
            fraction = max(fraction, number / len(rest))  # each class has one
        try:
            left, part = stratified(labels[rest], fraction, seed)
        except ValueError:
            raise ParamsError(f"{key}: {_too_small(labels[rest], split, fraction, classes)}") from None
        there["test" if split == "test" else "validation"] = rest[part]
        rest = rest[left]
    there["train"] = rest
    return {split: there[split] for split in SPLIT_NAMES}


def _fraction(wish: str | float, ships: bool, key: str, name: str, auto: float) -> float | None:
    """Return the share to cut off; None where the data set ships that split."""
    word = key.rpartition(".")[2].partition("_")[0]
    if ships:
        if wish in ("official", "auto"):
            return None
        raise ParamsError(f"{key}: got {wish}, must be official: {name} ships a {word} set")
    if wish == "official":
        raise ParamsError(f"{key}: got 'official', must be a fraction in (0, 1): {name} ships no {word} set")
    return auto if isinstance(wish, str) else wish


def _too_small(labels: np.ndarray, split: str, fraction: float, names: Sequence[str]) -> str:
    """Say why images of these classes cannot be cut so that each class has one in every split."""
    present, counts = np.unique(labels, return_counts=True)
    few = present[counts < FEWEST].tolist()
    if few:
        called = some([repr(names[number]) if names else str(number) for number in few])
        return (
            f"{len(few)} of {len(counts)} classes {'has' if len(few) == 1 else 'have'} fewer than {FEWEST} images "
            f"({called}), and each needs one for training, validation and test; add images, leave "
            f"{'it' if len(few) == 1 else 'them'} out, or bring splits of your own"
        )
    least = len(counts) / len(labels)
    return (
        f"{split}_fraction {fraction:g} of {len(labels)} images is too few for {len(counts)} classes, each of which "
        f"needs one in every split; set it between {least:.3g} and {1 - least:.3g}"
    )
