"""Makes a network's layers, each seeded by its name: what the blocks are written in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras

from resblock.model.kernels import batch_normalization, random_flip, relu
from resblock.model.layers import PadAndCrop, PadShortcut, SkipInit, StochasticDepth
from resblock.seeds import derive
from resblock.spec import ModelSpec

if TYPE_CHECKING:
    from resblock.params import Recipe


@dataclass(frozen=True)
class Layers:
    """Makes the layers of one network, all seeded by their names, at one precision."""

    spec: ModelSpec
    recipe: Recipe
    seed: int

    def convolve(self, x: Any, filters: int, *, kernel_size: int = 3, stride: int = 1, name: str) -> Any:
        """Apply a square convolution; He et al. 2015 initialise from N(0, 2 / fan-in).

        It has biases where no batch normalisation follows, whose offsets would do the same.
        """
        return keras.layers.Conv2D(
            filters,
            kernel_size=kernel_size,
            strides=stride,
            padding="same",
            use_bias=not self.spec.normalized,
            kernel_initializer=keras.initializers.HeNormal(seed=derive(self.seed, "weights", name)),
            kernel_regularizer=self._penalty(),
            dtype=self.recipe.precision,
            name=name,
        )(x)

    def normalize(self, x: Any, *, name: str) -> Any:
        """Apply batch normalisation over channels, or nothing in a network without."""
        if not self.spec.normalized:
            return x
        return batch_normalization(
            momentum=self.recipe.batch_norm_momentum,
            epsilon=self.recipe.batch_norm_epsilon,
            dtype=self.recipe.precision,
            name=name,
        )(x)

    def relu(self, x: Any, *, name: str) -> Any:
        """Apply max(x, 0)."""
        return relu(dtype=self.recipe.precision, name=name)(x)

    def pool(self, x: Any, *, name: str) -> Any:
        """Apply 2x2 max pooling; an odd row or column at the edge counts as well."""
        return keras.layers.MaxPooling2D(2, padding="same", dtype=self.recipe.precision, name=name)(x)

    def add(self, x: Any, shortcut: Any, *, name: str) -> Any:
        """Add two tensors of one shape."""
        return keras.layers.Add(dtype=self.recipe.precision, name=name)([x, shortcut])

    def shortcut(self, x: Any, filters: int, *, stride: int, name: str) -> Any:
        """Return `x` itself, or its likeness of `filters` channels at every `stride`-th pixel.

        He et al. 2015, section 3.3: without parameters (option A), by a 1x1 convolution where the shape changes
        (option B, ``-projection``) or everywhere (option C, ``-allprojection``). After a convolution stands a batch
        normalisation, but in pre-activation networks (He et al. 2016), whose sums nothing may touch.
        """
        fits = stride == 1 and x.shape[-1] == filters
        if "allprojection" in self.spec.modifiers or ("projection" in self.spec.modifiers and not fits):
            x = self.convolve(x, filters, kernel_size=1, stride=stride, name=name)
            return self.normalize(x, name=f"{name}_norm") if self.spec.family == "residual" else x
        return x if fits else PadShortcut(filters, stride, dtype=self.recipe.precision, name=name)(x)

    def branch(self, x: Any, *, survival: float, name: str) -> Any:
        """End a residual branch: at zero where nothing is normalised, and dropped at random by stochastic depth."""
        if not self.spec.normalized:
            x = SkipInit(dtype=self.recipe.precision, name=f"{name}_scale")(x)
        if "sd" in self.spec.modifiers:
            seed = derive(self.seed, "stochastic depth", name)
            x = StochasticDepth(survival, seed, dtype=self.recipe.precision, name=f"{name}_drop")(x)
        return x

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
            x = random_flip(axis, seed=seed, name=f"{axis}_flip")(x)
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
