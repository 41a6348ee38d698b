"""The shortcut without parameters, the ends of a branch and the random crop, against NumPy."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest

from resblock.core.model.layers import Center, OverlappingPool, PadAndCrop, PadShortcut, SkipInit, StochasticDepth
from resblock.core.seeds import generator

pytestmark = pytest.mark.usefixtures("backend")


def noise(*shape: int) -> np.ndarray:
    """Pixels in [1, 2): none is a padded zero; float32."""
    return generator(0, "noise").uniform(1, 2, shape).astype(np.float32)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(3, 8, 8, 16), (2, 7, 9, 4), (1, 1, 1, 3)])
def test_the_shortcut_takes_every_other_pixel_and_fills_channels_with_zeros(
    shape: tuple[int, int, int, int], stride: int
) -> None:
    inputs = noise(*shape)
    filters = 2 * shape[-1]
    outputs = keras.ops.convert_to_numpy(PadShortcut(filters, stride)(inputs))
    expected = np.zeros((shape[0], -(-shape[1] // stride), -(-shape[2] // stride), filters), np.float32)
    for image, row, column in np.ndindex(expected.shape[:3]):
        expected[image, row, column, : shape[-1]] = inputs[image, row * stride, column * stride]
    assert np.array_equal(outputs, expected)


def test_the_shortcut_fits_the_convolution_it_goes_around() -> None:
    for side in range(1, 12):
        inputs = keras.Input((side, side, 4))
        convolved = keras.layers.Conv2D(8, 3, strides=2, padding="same")(inputs)
        assert PadShortcut(8, 2)(inputs).shape == convolved.shape


@pytest.mark.parametrize("shape", [(2, 8, 8, 3), (2, 7, 9, 1), (1, 1, 2, 2)])
def test_overlapping_windows_are_centred_on_every_other_pixel(shape: tuple[int, int, int, int]) -> None:
    inputs = -noise(*shape)  # a padded zero would be the largest
    outputs = keras.ops.convert_to_numpy(OverlappingPool()(inputs))
    expected = np.empty((shape[0], -(-shape[1] // 2), -(-shape[2] // 2), shape[3]), np.float32)
    for row, column in np.ndindex(expected.shape[1:3]):
        rows, columns = (slice(max(0, 2 * place - 1), 2 * place + 2) for place in (row, column))
        expected[:, row, column] = inputs[:, rows, columns].max(axis=(1, 2))
    assert np.array_equal(outputs, expected)


def test_skipinit_starts_at_zero_and_scales_by_its_scalar() -> None:
    layer, inputs = SkipInit(), noise(2, 3, 3, 4)
    assert not np.any(layer(inputs))
    (scale,) = layer.trainable_variables
    assert scale.shape == ()
    scale.assign(-1.5)
    assert np.allclose(layer(inputs), -1.5 * inputs)


@pytest.mark.parametrize("survival", [0.5, 0.9])
def test_a_batch_is_dropped_whole_and_its_mean_is_what_inference_gives(survival: float) -> None:
    layer, inputs = StochasticDepth(survival, seed=1), noise(3, 2, 2, 1)
    draws = np.stack([keras.ops.convert_to_numpy(layer(inputs, training=True)) for _ in range(1_000)])
    kept = np.array([np.array_equal(draw, inputs) for draw in draws])
    dropped = np.array([not np.any(draw) for draw in draws])
    assert np.all(kept | dropped)
    # 1,000 draws stray from their share by more than 0.07 once in 10^5 times at most.
    assert kept.mean() == pytest.approx(survival, abs=0.07)
    inference = keras.ops.convert_to_numpy(layer(inputs))
    assert np.allclose(inference, survival * inputs)
    assert np.allclose(draws.mean(axis=0), inference, atol=2 * 0.07)


def test_drops_follow_from_their_seed() -> None:
    inputs = noise(1, 1, 1, 1)
    one, again, other = (
        [bool(np.any(layer(inputs, training=True))) for _ in range(40)]
        for layer in (StochasticDepth(0.5, seed=seed) for seed in (1, 1, 2))
    )
    assert one == again != other


def windows(image: np.ndarray, padding: int) -> dict[bytes, tuple[int, int]]:
    """Return every window of `image`, (height, width, channel), padded with zeros; its place by its pixels."""
    height, width, _ = image.shape
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    places = np.ndindex(2 * padding + 1, 2 * padding + 1)
    return {padded[row : row + height, column : column + width].tobytes(): (row, column) for row, column in places}


@pytest.mark.parametrize(("shape", "padding"), [((8, 8, 1), 1), ((5, 7, 3), 2), ((4, 3, 2), 4)])
def test_every_crop_is_a_window_of_the_padded_image_and_every_window_occurs(
    shape: tuple[int, int, int], padding: int
) -> None:
    count = 40 * (2 * padding + 1) ** 2
    inputs = noise(count, *shape)
    outputs = keras.ops.convert_to_numpy(PadAndCrop(padding, seed=1)(inputs, training=True))
    assert outputs.shape == inputs.shape
    places = [windows(image, padding).get(output.tobytes()) for image, output in zip(inputs, outputs, strict=True)]
    if padding < min(shape[:2]):  # else windows of zeros alone have more than one place
        assert set(places) == set(np.ndindex(2 * padding + 1, 2 * padding + 1))
    assert None not in places


def test_crops_are_drawn_for_each_image_and_anew_for_each_batch() -> None:
    layer = PadAndCrop(2, seed=1)
    inputs = np.repeat(noise(1, 6, 6, 1), 100, axis=0)
    first, second = (keras.ops.convert_to_numpy(layer(inputs, training=True)) for _ in range(2))
    assert len({image.tobytes() for image in first}) > 10
    assert not np.array_equal(first, second)


def test_crops_follow_from_their_seed() -> None:
    inputs = noise(50, 6, 6, 1)
    first, again, other = (
        keras.ops.convert_to_numpy(PadAndCrop(2, seed=seed)(inputs, training=True)) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_nothing_is_cropped_at_inference() -> None:
    layer = PadAndCrop(2, seed=1)
    inputs = noise(50, 6, 6, 1)
    assert np.array_equal(layer(inputs, training=False), inputs)
    assert np.array_equal(layer(inputs), inputs)


@pytest.mark.parametrize(
    ("kind", "choices"),
    [
        (PadShortcut, (8, 2)),
        (PadAndCrop, (2, 7)),
        (StochasticDepth, (0.5, 7)),
        (SkipInit, ()),
        (Center, ()),
        (OverlappingPool, ()),
    ],
)
def test_layers_can_be_made_again_from_their_configuration(
    kind: Callable[..., keras.layers.Layer], choices: tuple[float, ...]
) -> None:
    layer = kind(*choices, name="layer")
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert again.get_config() == layer.get_config()
    inputs = noise(20, 6, 6, 4)
    assert np.array_equal(again(inputs, training=True), layer(inputs, training=True))
