"""Contact sheets: training images of a class as they are and, beside them, as the recipe shows them to a network."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from PIL import Image

from resblock.core.recipe import Recipe
from resblock.core.spec import ModelSpec

ACROSS, DOWN = 6, 4  # pictures on each half
SHOWN = ACROSS * DOWN
SMALLEST = 64  # pixels of a picture on paper
GAP = 4  # pixels between pictures; four times that between the halves
PAPER = 255
SMALL_NETWORK = "plain-8"  # any would do: augmentation stands before all of them

Augment = Callable[[np.ndarray], np.ndarray]


def augmenter(image_shape: tuple[int, int, int], recipe: Recipe) -> Augment:
    """Return what augments images, uint8 (n, height, width, channel), as trainings by `recipe` do."""
    from resblock.startup import start_keras

    start_keras(recipe.threads)
    import keras

    from resblock.core.model.network import build_network

    plain = replace(recipe, rescale=False, center="none")  # pixels stay pixels
    network = build_network(ModelSpec.parse(SMALL_NETWORK), image_shape, 2, plain, seed=0)
    model = keras.Model(network.model.input, network.parts.pixels)

    def augment(images: np.ndarray) -> np.ndarray:
        seen = keras.ops.convert_to_numpy(model(images, training=True))
        return np.clip(np.rint(seen), 0, 255).astype(np.uint8)

    return augment


def sheet(images: np.ndarray, augmented: np.ndarray) -> bytes:
    """Return a PNG of `images`, uint8 (n, height, width, channel), on the left and of the `augmented` on the right."""
    left, right = _half(images), _half(augmented)
    gap = np.full((left.shape[0], 4 * GAP, left.shape[2]), PAPER, np.uint8)
    pixels = np.concatenate([left, gap, right], axis=1)
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _half(images: np.ndarray) -> np.ndarray:
    """Return up to SHOWN images in rows, small ones enlarged by whole factors."""
    factor = -(-SMALLEST // max(images.shape[1:3]))
    large = images[:SHOWN].repeat(factor, axis=1).repeat(factor, axis=2)
    _, height, width, channels = large.shape
    paper = np.full((DOWN * (height + GAP), ACROSS * (width + GAP), channels), PAPER, np.uint8)
    for number, image in enumerate(large):
        row, column = divmod(number, ACROSS)
        top, left = row * (height + GAP), column * (width + GAP)
        paper[top : top + height, left : left + width] = image
    return paper
