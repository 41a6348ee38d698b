"""Accuracy and loss over epochs."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from resblock.core.training.run import EpochRow
from resblock.evaluation.rows import rows_frame
from resblock.report.figures import ACCURACIES, LOSSES, learning_curves
from resblock.report.material import Material, Picture, Section

CAPTION = (
    "Training figures are averages over an epoch, on images as training sees them, while the weights move. Both rows "
    "of validation have one scale: a curve that jumps in the middle row and not in the lower one does so by its "
    "moving averages, since the weights are the same."
)


def accuracy(material: Material) -> Section | None:
    """Show accuracy in training and validation, by both kinds of statistics."""
    return _section(material, "accuracy", "Accuracy over epochs", ACCURACIES)


def loss(material: Material) -> Section | None:
    """Show loss in training and validation, by both kinds of statistics."""
    return _section(material, "loss", "Loss over epochs", LOSSES)


def _section(material: Material, name: str, title: str, columns: Mapping[str, str]) -> Section | None:
    curves = {spec: {seed: c for seed, c in seeds.items() if c} for spec, seeds in material.curves.items()}
    curves = {spec: seeds for spec, seeds in curves.items() if seeds}
    if not curves:
        return None
    rows = [
        rows_frame(EpochRow, curve)[["epoch", *columns]].assign(variant=spec.name, seed=seed)
        for spec, seeds in curves.items()
        for seed, curve in seeds.items()
    ]
    data = pd.concat(rows)[["variant", "seed", "epoch", *columns]]
    return Section(name, title, "", [Picture(name, CAPTION, learning_curves(curves, columns), data)])
