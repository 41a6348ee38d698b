"""What a network costs: parameters and forward multiply-adds."""

from __future__ import annotations

import math

import keras


def count_parameters(model: keras.Model) -> int:
    """Return the number of trainable parameters: kernels, biases, batch-norm scales and offsets."""
    return sum(math.prod(variable.shape) for variable in model.trainable_variables)


def count_multiply_adds(model: keras.Model) -> int:
    """Return the multiply-adds of one image's forward pass through convolutions and dense layers.

    He et al. 2015 count so (their "FLOPs"); batch normalisation, additions and pooling are left out.
    """
    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            _, height, width, _ = layer.output.shape
            total += height * width * math.prod(layer.kernel.shape)
        elif isinstance(layer, keras.layers.Dense):
            total += math.prod(layer.kernel.shape)
    return total
