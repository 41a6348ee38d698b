"""Applies a network's layers, each seeded by its name, and keeps where they stand: what the blocks are written in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import keras

from resblock.core.backends import backend
from resblock.core.model.architecture import Architecture, Entry, Place, Stem
from resblock.core.model.layers import Center, OverlappingPool, PadAndCrop, PadShortcut, SkipInit, StochasticDepth
from resblock.core.recipe import Recipe
from resblock.core.seeds import derive

STEM = "stem"


@dataclass
class Part:
    """The stem, a block, or a convolution of a CNN. Tensors are symbolic: ends of sub-models."""

    name: str
    is_block: bool
    position: int = 0  # convolutions on the longest path from the image to its end
    layers: list[keras.Layer] = field(default_factory=list[keras.Layer])  # with weights, on the main path, in order
    branch: Any = None  # what a block says, before its shortcut is added or its last ReLU applied
    output: Any = None

    @property
    def convolutions(self) -> list[keras.layers.Conv2D]:
        """The convolutions on the main path, in order."""
        return [layer for layer in self.layers if isinstance(layer, keras.layers.Conv2D)]


@dataclass(frozen=True)
class Parts:
    """Where in a network everything stands that is looked at."""

    pixels: Any  # what the first convolution sees, symbolic
    all: list[Part]  # from the image to the logits

    @property
    def blocks(self) -> list[Part]:
        """The blocks; a CNN has none."""
        return [part for part in self.all if part.is_block]

    @property
    def convolutions(self) -> dict[str, int]:
        """Every convolution on the longest path: its name, and its position from 1. Those on shortcuts are none."""
        names = [layer.name for part in self.all for layer in part.convolutions]
        return {name: position for position, name in enumerate(names, start=1)}


class Builder:
    """Applies the layers of one network, all seeded by their names, at one precision."""

    def __init__(self, architecture: Architecture, recipe: Recipe, seed: int, *, augmented: bool) -> None:
        self.architecture = architecture
        self.parts: list[Part] = []
        self._recipe, self._seed, self._augmented = recipe, seed, augmented
        self._place: Place | None = None
        self._current: Part | None = None

    @property
    def adds(self) -> bool:
        """Whether a block's input is added to its output."""
        return self.architecture.adds

    def stem(self, x: Any, stem: Stem) -> Any:
        """Apply the stem: a convolution, which pre-activated networks leave bare."""
        part = self._open(STEM, is_block=False)
        x = self.take_in(x, stem.filters, stem.entry, "conv")
        if not self.architecture.preactivated:
            x = self.relu(self.normalize(x, "norm"), "relu")
        return self._close(part, self.reduce(x, stem.entry))

    def block(self, x: Any, place: Place, apply: Any) -> Any:
        """Apply a block of the kind `apply` at `place`."""
        part = self._open(place.name, is_block=self.architecture.stem is not None)
        self._place = place
        if place.pooled_before:
            x = self.pool(x, f"{place.name}_pool")
        x = apply(x, place, self)
        self._place = None
        self._close(part, x)
        return self.pool(x, f"{place.name.partition('_')[0]}_pool") if place.pooled_after else x

    def take_in(self, x: Any, filters: int, entry: Entry, name: str = "") -> Any:
        """Apply the first convolution, which reduces large images."""
        return self.convolve(x, filters, name, kernel_size=entry.kernel_size, stride=entry.stride)

    def reduce(self, x: Any, entry: Entry) -> Any:
        """Reduce further what very large images have left: He et al. 2015's overlapping pooling for ImageNet."""
        return OverlappingPool(dtype=self._recipe.precision, name=self._name("reduce"))(x) if entry.pooled else x

    def convolve(self, x: Any, filters: int, name: str = "", *, kernel_size: int = 3, stride: int = 1) -> Any:
        """Apply a square convolution on the main path, as many pixels padded on one side as on the other.

        Keras' own padding is lopsided at a stride of two: a window would see the rows behind the one that the shortcut
        takes, and none before it.
        """
        if stride > 1 and kernel_size > 1:
            sides = keras.layers.ZeroPadding2D(
                kernel_size // 2, dtype=self._recipe.precision, name=self._name(f"{name}_pad" if name else "pad")
            )
            x = sides(x)
        return self._keep(self._convolution(filters, kernel_size, stride, self._name(name)))(x)

    def normalize(self, x: Any, name: str) -> Any:
        """Apply batch normalisation over channels, or nothing in a network without."""
        return self._keep(self._normalization(self._name(name)))(x) if self.architecture.normalized else x

    def relu(self, x: Any, name: str) -> Any:
        """Apply max(x, 0)."""
        return backend().relu(dtype=self._recipe.precision, name=self._name(name))(x)

    def branch(self, x: Any) -> Any:
        """End a block's own path: at zero where nothing is normalised, and dropped at random by stochastic depth."""
        if self.adds and not self.architecture.normalized:
            x = self._keep(SkipInit(dtype=self._recipe.precision, name=self._name("branch_scale")))(x)
        if self.architecture.stochastic:
            name = self._name("branch")
            seed = derive(self._seed, "stochastic depth", name)
            survival = self._place.survival if self._place else 1.0
            x = StochasticDepth(survival, seed, dtype=self._recipe.precision, name=f"{name}_drop")(x)
        self.parts[-1].branch = x
        return x

    def add(self, x: Any, shortcut: Any) -> Any:
        """Add two tensors of one shape."""
        return keras.layers.Add(dtype=self._recipe.precision, name=self._name("add"))([x, shortcut])

    def shortcut(self, x: Any, filters: int) -> Any:
        """Return `x` itself, or its likeness of `filters` channels at every pixel that the block's stride keeps.

        He et al. 2015, section 3.3: without parameters (option A), by a 1x1 convolution where the shape changes
        (option B, ``-projection``) or everywhere (option C, ``-allprojection``). After a convolution stands a batch
        normalisation, but in pre-activation networks (He et al. 2016), whose sums nothing may touch.
        """
        stride = self._place.stride if self._place else 1
        name, kind = self._name("shortcut"), self.architecture.shortcut
        fits = stride == 1 and x.shape[-1] == filters
        if kind == "all-projected" or (kind == "projected" and not fits):
            x = self._convolution(filters, 1, stride, name)(x)
            normalized = self.architecture.normalized and not self.architecture.preactivated
            return self._normalization(f"{name}_norm")(x) if normalized else x
        return x if fits else PadShortcut(filters, stride, dtype=self._recipe.precision, name=name)(x)

    def pool(self, x: Any, name: str) -> Any:
        """Apply 2x2 max pooling; an odd row or column at the edge counts as well."""
        return keras.layers.MaxPooling2D(2, padding="same", dtype=self._recipe.precision, name=name)(x)

    def head(self, x: Any, classes: int) -> Any:
        """Map feature maps to float32 logits (batch, class)."""
        precision = self._recipe.precision
        if self.architecture.preactivated:
            x = self.relu(self.normalize(x, "last_norm"), "last_relu")
        if self.architecture.head == "average":
            x = keras.layers.GlobalAveragePooling2D(dtype=precision, name="average")(x)
        else:
            x = keras.layers.Flatten(dtype=precision, name="flatten")(x)
        return keras.layers.Dense(
            classes,
            kernel_initializer=keras.initializers.GlorotUniform(seed=derive(self._seed, "weights", "logits")),
            kernel_regularizer=self._penalty(),
            dtype=keras.DTypePolicy("float32"),
            name="logits",
        )(x)

    def augment(self, x: Any) -> Any:
        """Rescale and centre raw pixels and, in training, flip and crop: layers of the model, as in the paper."""
        recipe = self._recipe
        x = keras.layers.Rescaling(1 / 255 if recipe.rescale else 1.0, dtype="float32", name="rescale")(x)
        if recipe.center == "pixel-mean":
            x = Center(dtype="float32", name="center")(x)
        if not self._augmented:
            return x
        for axis in self._flips():
            seed = derive(self._seed, "augmentation", axis)
            x = backend().random_flip(axis, seed=seed, name=f"{axis}_flip")(x)
        if recipe.crop_padding:
            seed = derive(self._seed, "augmentation", "crop")
            x = PadAndCrop(recipe.crop_padding, seed, dtype="float32", name="crop")(x)
        return x

    def _flips(self) -> list[str]:
        """Return the modes of the flip layers, one coin each.

        Keras 2's RandomFlip("horizontal_and_vertical") draws a coin for each axis: all four orientations, the choice
        ``independent``. Keras 3's draws one for both: it turns by 180 degrees and never mirrors, the choice ``joint``.
        """
        chosen = {"horizontal": self._recipe.horizontal_flip, "vertical": self._recipe.vertical_flip}
        axes = [axis for axis, wanted in chosen.items() if wanted]
        return ["horizontal_and_vertical"] if len(axes) == 2 and self._recipe.flips == "joint" else axes

    def _convolution(self, filters: int, kernel_size: int, stride: int, name: str) -> keras.layers.Conv2D:
        """Return a square convolution, its weights of He et al. 2015's variance, 2 / fan-in.

        They draw from a normal distribution; Keras' HeNormal cuts that off at two standard deviations and widens it to
        the same variance.

        It has biases where no batch normalisation follows, whose offsets would do the same.
        """
        return keras.layers.Conv2D(
            filters,
            kernel_size=kernel_size,
            strides=stride,
            padding="same" if stride == 1 else "valid",
            use_bias=not self.architecture.normalized,
            kernel_initializer=keras.initializers.HeNormal(seed=derive(self._seed, "weights", name)),
            kernel_regularizer=self._penalty(),
            dtype=self._recipe.precision,
            name=name,
        )

    def _normalization(self, name: str) -> keras.layers.BatchNormalization:
        return backend().batch_normalization(
            momentum=self._recipe.batch_norm_momentum,
            epsilon=self._recipe.batch_norm_epsilon,
            dtype=self._recipe.precision,
            name=name,
        )

    def _penalty(self) -> keras.regularizers.Regularizer | None:
        """Weight decay as He et al. mean it: a gradient of ``weight_decay * weight``."""
        decay = self._recipe.weight_decay
        return keras.regularizers.L2(decay / 2) if decay else None

    def _open(self, name: str, *, is_block: bool) -> Part:
        part = Part(name, is_block)
        self.parts.append(part)
        self._current = part
        return part

    def _close(self, part: Part, x: Any) -> Any:
        part.position = sum(len(each.convolutions) for each in self.parts)
        part.output = x
        part.branch = x if part.branch is None else part.branch  # a block that does not say where its own path ends
        self._current = None
        return x

    def _keep(self, layer: keras.Layer) -> keras.Layer:
        """Note a layer of the main path as one of the part that is being built."""
        if self._current is not None:
            self._current.layers.append(layer)
        return layer

    def _name(self, name: str) -> str:
        """Name a layer after the part that is being built."""
        return "_".join(filter(None, (self._current.name if self._current else "", name)))
