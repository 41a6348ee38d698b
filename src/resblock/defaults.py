"""What holds for a person's own images where params.yaml says nothing: a new data set needs its format and no more.

`resblock data add` writes all of this into params.yaml, with the comments, so that DVC sees what results rest on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

STEPS = 6_000  # optimiser steps that a training should take
FEWEST_EPOCHS, MOST_EPOCHS = 10, 60
SMALL = 10_000  # training images; below that, batches of 64

Section = dict[str, Any]


def preparation() -> Section:
    """Return how pictures are read and split."""
    return {"test_fraction": "auto", "validation_fraction": "auto", "split_seed": 0}


def recipe(images: int | None = None) -> Section:
    """Return how networks are trained on so many training `images`, by size where it is known."""
    batch_size = 128 if images is None or images >= SMALL else min(64, max(8, images // 8))
    epochs = 20 if images is None else math.ceil(STEPS * batch_size / images)
    return {
        "epochs": max(FEWEST_EPOCHS, min(MOST_EPOCHS, epochs)),
        "batch_size": batch_size,
        "optimizer": "adam",
        "momentum": 0.9,
        "nesterov": False,
        "learning_rate": 0.001,
        "schedule": "cosine",
        "weight_decay": 0.0,
        "rescale": True,
        "center": "none",
        "horizontal_flip": False,
        "vertical_flip": False,
        "flips": "independent",
        "crop_padding": 0,
        "batch_norm_momentum": 0.9,
        "batch_norm_epsilon": 0.001,
        "reestimate_images": 2000 if images is None else min(2000, images),
        "gradient_epochs": [0, "last"],
        "gradient_images": 128 if images is None else min(128, images),
        "precision": "float32",
        "threads": 1,
    }


def probing() -> Section:
    """Return what is measured of networks before training."""
    variants = ["plain-8", "residual-8", "plain-20", "residual-20"]  # minutes; deeper ones take longer to look at
    return {"variants": variants, "seeds": [0, 1, 2], "images": 64, "lines": 4, "line_points": 17}


def examination() -> Section:
    """Return how trained networks are looked at."""
    return {"corrupted_images": 500, "response_images": 200, "lesion_images": 500, "lesion_draws": 3}


def sections(images: int | None = None) -> dict[str, Section]:
    """Return every section that a data set has in params.yaml, by the section's name."""
    return {
        "data": preparation(),
        "train": recipe(images),
        "probes": probing(),
        "evaluation": examination(),
    }


def completed(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of params.yaml with the defaults of each data set that names a format, key by key.

    What is there stays, also what is wrong: that is for who checks it.
    """
    whole = dict(tree)
    described = tree.get("data")
    if not isinstance(described, Mapping):
        return whole
    for name, entry in described.items():
        if not isinstance(entry, Mapping) or "format" not in entry:
            continue
        for section, values in sections().items():
            there = whole.get(section)
            if isinstance(there, Mapping):
                given = there.get(name, {})
                if isinstance(given, Mapping):
                    whole[section] = {**there, name: {**values, **given}}
    return whole


def left_out(tree: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return by dotted key what `tree`, the content of params.yaml, leaves to the defaults of the data set `name`."""
    held: dict[str, Any] = {}
    for section, values in sections().items():
        given = (tree.get(section) or {}).get(name) or {}
        held |= {f"{section}.{name}.{key}": value for key, value in values.items() if key not in given}
    return held
