"""Batch normalisation, the one place where the model knows its backend.

Keras 3 on TensorFlow computes moments and normalises in separate passes over memory; TensorFlow's fused op does both
in one kernel. `batch_normalization` gives the fused layer where TensorFlow runs, Keras' own elsewhere; both compute
the same.
"""

from __future__ import annotations

from typing import Any

import keras


def batch_normalization(*, momentum: float, epsilon: float, name: str, dtype: Any) -> keras.layers.BatchNormalization:
    """Return a batch-normalisation layer over the last axis for inputs (batch, height, width, channel)."""
    if keras.backend.backend() == "tensorflow":
        # float32 statistics and scales whatever the inputs' precision: the fused op wants them so.
        return _fused_layer()(momentum=momentum, epsilon=epsilon, name=name, dtype="float32", autocast=False)
    return keras.layers.BatchNormalization(momentum=momentum, epsilon=epsilon, name=name, dtype=dtype)


def _fused_layer() -> type[keras.layers.BatchNormalization]:
    """Return the fused layer's class; importing this module needs no TensorFlow."""
    from resblock.model.fused import FusedBatchNormalization

    return FusedBatchNormalization
