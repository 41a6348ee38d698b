"""The networks of the study.

A plain net is its residual twin without the addition: the layers, their names and so their initial weights are the
same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras

from resblock.model.layers import PadAndCrop, PadShortcut
from resblock.model.normalization import batch_normalization
from resblock.seeds import derive
from resblock.spec import STAGES, ModelSpec

if TYPE_CHECKING:
    from resblock.params import Recipe

WIDTHS = (16, 32, 64)  # He et al. 2015, section 4.2
CNN_WIDTHS = (32, 64, 128)


@dataclass(frozen=True)
class Layers:
    """Makes the layers of one network, all seeded by their names, at one precision."""

    recipe: Recipe
    seed: int

    def convolve(self, x: Any, filters: int, *, stride: int = 1, bias: bool = False, name: str) -> Any:
        """Apply a 3x3 convolution; He et al. 2015 initialise from N(0, 2 / fan-in)."""
        return keras.layers.Conv2D(
            filters,
            kernel_size=3,
            strides=stride,
            padding="same",
            use_bias=bias,
            kernel_initializer=keras.initializers.HeNormal(seed=derive(self.seed, "weights", name)),
            kernel_regularizer=self._penalty(),
            dtype=self.recipe.precision,
            name=name,
        )(x)

    def normalize(self, x: Any, *, name: str) -> Any:
        """Apply batch normalisation over channels."""
        return batch_normalization(
            momentum=self.recipe.batch_norm_momentum,
            epsilon=self.recipe.batch_norm_epsilon,
            dtype=self.recipe.precision,
            name=name,
        )(x)

    def relu(self, x: Any, *, name: str) -> Any:
        """Apply max(x, 0)."""
        return keras.layers.ReLU(dtype=self.recipe.precision, name=name)(x)

    def pool(self, x: Any, *, name: str) -> Any:
        """Apply 2x2 max pooling; an odd row or column at the edge counts as well."""
        return keras.layers.MaxPooling2D(2, padding="same", dtype=self.recipe.precision, name=name)(x)

    def add(self, x: Any, shortcut: Any, *, name: str) -> Any:
        """Add two tensors of one shape."""
        return keras.layers.Add(dtype=self.recipe.precision, name=name)([x, shortcut])

    def shortcut(self, x: Any, filters: int, *, stride: int, name: str) -> Any:
        """Return `x` itself, or its parameter-free likeness where a stage changes its shape."""
        if stride == 1 and x.shape[-1] == filters:
            return x
        return PadShortcut(filters, stride, dtype=self.recipe.precision, name=name)(x)

    def classify(self, x: Any, classes: int) -> Any:
        """Map features (batch, feature) to float32 logits (batch, class)."""
        return keras.layers.Dense(
            classes,
            kernel_initializer=keras.initializers.GlorotUniform(seed=derive(self.seed, "weights", "logits")),
            kernel_regularizer=self._penalty(),
            dtype=keras.DTypePolicy("float32"),
            name="logits",
        )(x)

    def augment(self, x: Any) -> Any:
        """Rescale raw pixels and, in training, flip and crop at random: layers of the model, as in the paper."""
        recipe = self.recipe
        x = keras.layers.Rescaling(1 / 255 if recipe.rescale else 1.0, dtype="float32", name="rescale")(x)
        for axis in self._flips():
            seed = derive(self.seed, "augmentation", axis)
            x = keras.layers.RandomFlip(axis, seed=seed, dtype="float32", name=f"{axis}_flip")(x)
        if recipe.crop_padding:
            seed = derive(self.seed, "augmentation", "crop")
            x = PadAndCrop(recipe.crop_padding, seed, dtype="float32", name="crop")(x)
        return x

    def _flips(self) -> list[str]:
        """Return the modes of the flip layers, one coin each.

        Keras 3's own mode for both axes draws one coin for the two: it rotates by 180 degrees and never mirrors. That
        is the choice ``joint``; ``independent`` shows all four orientations.
        """
        chosen = {"horizontal": self.recipe.horizontal_flip, "vertical": self.recipe.vertical_flip}
        axes = [axis for axis, wanted in chosen.items() if wanted]
        return ["horizontal_and_vertical"] if len(axes) == 2 and self.recipe.flips == "joint" else axes

    def _penalty(self) -> keras.regularizers.Regularizer | None:
        """Weight decay as He et al. mean it: a gradient of ``weight_decay * weight``."""
        decay = self.recipe.weight_decay
        return keras.regularizers.L2(decay / 2) if decay else None


def build_model(
    spec: ModelSpec, image_shape: tuple[int, int, int], classes: int, recipe: Recipe, seed: int
) -> keras.Model:
    """Return the network of `spec` with the initial weights of `seed`.

    It takes raw images, uint8 (batch, height, width, channel), and gives float32 logits (batch, class).
    """
    layers = Layers(recipe, seed)
    images = keras.Input(image_shape, dtype="uint8", name="images")
    x = layers.augment(images)
    body = _convolutional_body if spec.family == "cnn" else _residual_body
    return keras.Model(images, layers.classify(body(x, spec, layers), classes), name=spec.name.replace("-", "_"))


def _convolutional_body(x: Any, spec: ModelSpec, layers: Layers) -> Any:
    """Apply the paper's baseline: stages of 3x3 convolutions, each closed by 2x2 max pooling."""
    for stage in range(STAGES):
        for block in range(spec.blocks):
            name = f"stage{stage + 1}_conv{block + 1}"
            x = layers.relu(layers.convolve(x, CNN_WIDTHS[stage], bias=True, name=name), name=f"{name}_relu")
        x = layers.pool(x, name=f"stage{stage + 1}_pool")
    return keras.layers.Flatten(dtype=layers.recipe.precision, name="flatten")(x)


def _residual_body(x: Any, spec: ModelSpec, layers: Layers) -> Any:
    """Apply He et al. 2015, section 4.2: a stem, three stages of blocks, global average pooling."""
    x = layers.convolve(x, WIDTHS[0], name="stem_conv")
    x = layers.relu(layers.normalize(x, name="stem_norm"), name="stem_relu")
    for stage in range(STAGES):
        for block in range(spec.blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            x = _block(x, WIDTHS[stage], stride, spec, layers, name=f"stage{stage + 1}_block{block + 1}")
    return keras.layers.GlobalAveragePooling2D(dtype=layers.recipe.precision, name="average")(x)


def _block(x: Any, filters: int, stride: int, spec: ModelSpec, layers: Layers, name: str) -> Any:
    """Apply two convolutions, with the shortcut around them or without: the thing under study."""
    y = layers.convolve(x, filters, stride=stride, name=f"{name}_conv1")
    y = layers.relu(layers.normalize(y, name=f"{name}_norm1"), name=f"{name}_relu1")
    y = layers.normalize(layers.convolve(y, filters, name=f"{name}_conv2"), name=f"{name}_norm2")
    if spec.family == "residual":
        y = layers.add(y, layers.shortcut(x, filters, stride=stride, name=f"{name}_shortcut"), name=f"{name}_add")
    return layers.relu(y, name=f"{name}_relu2")
