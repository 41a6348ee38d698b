"""Layers that Keras lacks: the parameter-free shortcut, the ends of a residual branch, the per-image random crop."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("resblock")
class PadShortcut(keras.layers.Layer):
    """Option A of He et al. 2015, section 3.3: every `stride`-th pixel, missing channels filled with zeros.

    Inputs: float (batch, height, width, channel).
    Outputs: float (batch, ceil(height / stride), ceil(width / stride), filters).
    """

    def __init__(self, filters: int, stride: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters, self.stride = filters, stride

    def call(self, inputs: Any) -> Any:
        # inputs[:, ::stride, ::stride]; TensorFlow's strided slice takes ten times as long, and its gradient more.
        picked = ops.average_pool(inputs, pool_size=1, strides=self.stride, data_format="channels_last")
        return ops.pad(picked, ((0, 0), (0, 0), (0, 0), (0, self.filters - inputs.shape[-1])))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "filters": self.filters, "stride": self.stride}


@keras.saving.register_keras_serializable("resblock")
class Center(keras.layers.Layer):
    """Subtracts the mean training image, which it keeps as a weight that is not trained (He et al. 2015, section 4.2).

    Inputs and outputs: float (batch, height, width, channel).
    """

    def build(self, input_shape: Any) -> None:
        self.mean = self.add_weight(name="mean", shape=input_shape[1:], initializer="zeros", trainable=False)

    def call(self, inputs: Any) -> Any:
        return ops.subtract(inputs, self.mean)


@keras.saving.register_keras_serializable("resblock")
class OverlappingPool(keras.layers.Layer):
    """3x3 max pooling at every second pixel, each window centred on its pixel (He et al. 2015, table 1).

    Inputs: float (batch, height, width, channel).
    Outputs: float (batch, ceil(height / 2), ceil(width / 2), channel).
    """

    def call(self, inputs: Any) -> Any:
        sides = ((0, 0), (1, 1), (1, 1), (0, 0))
        padded = ops.pad(inputs, sides, constant_values=-float("inf"))
        return ops.max_pool(padded, pool_size=3, strides=2, padding="valid", data_format="channels_last")


@keras.saving.register_keras_serializable("resblock")
class SkipInit(keras.layers.Layer):
    """A learnable scalar on a residual branch, initially zero: the block starts as its shortcut (De & Smith 2020).

    Inputs and outputs: float (batch, height, width, channel).
    """

    def build(self, input_shape: Any) -> None:
        self.scale = self.add_weight(name="scale", shape=(), initializer="zeros")

    def call(self, inputs: Any) -> Any:
        return ops.multiply(inputs, self.scale)


@keras.saving.register_keras_serializable("resblock")
class StochasticDepth(keras.layers.Layer):
    """Drops a residual branch in training, for a whole batch at once, and damps it at inference (Huang et al. 2016).

    Kept with probability `survival`, which scales it at inference: the same on average. One draw for a batch, as in
    the paper; later work draws for each image.
    Inputs and outputs: float (batch, height, width, channel).
    """

    drops = True  # False: in training too, every branch is kept and damped

    def __init__(self, survival: float, seed: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.survival, self.seed = survival, seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training or not self.drops:
            return inputs * self.survival
        kept = keras.random.uniform((), seed=self.seed_generator) < self.survival
        return inputs * ops.cast(kept, inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "survival": self.survival, "seed": self.seed}


@keras.saving.register_keras_serializable("resblock")
class PadAndCrop(keras.layers.Layer):
    """Zeros on each side, then a window of the original size at a random place, drawn for each image.

    The usual CIFAR augmentation (He et al. 2015, section 4.2, with padding 4); Keras' RandomCrop draws one window
    for a whole batch.
    Inputs and outputs: float (batch, height, width, channel). Does nothing at inference.
    """

    def __init__(self, padding: int, seed: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.padding, self.seed = padding, seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training:
            return inputs
        batch, height, width, channels = ops.shape(inputs)
        side = ((self.padding, self.padding),) * 2
        padded = ops.pad(inputs, ((0, 0), *side, (0, 0)))
        offsets = keras.random.randint((2, batch, 1, 1), 0, 2 * self.padding + 1, seed=self.seed_generator)
        rows = offsets[0] + ops.reshape(ops.arange(height), (1, height, 1))  # (batch, height, 1)
        columns = offsets[1] + ops.reshape(ops.arange(width), (1, 1, width))  # (batch, 1, width)
        padded_height, padded_width = height + 2 * self.padding, width + 2 * self.padding
        image = ops.reshape(ops.arange(batch), (batch, 1, 1))
        pixels = (image * padded_height + rows) * padded_width + columns  # (batch, height, width)
        return ops.take(ops.reshape(padded, (-1, channels)), pixels, axis=0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "padding": self.padding, "seed": self.seed}
