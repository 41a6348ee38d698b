"""The networks: what the papers count, what twins share, what flows through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from resblock.model.cost import count_multiply_adds, count_parameters
from resblock.model.network import build_model
from resblock.params import Recipe
from resblock.seeds import generator
from resblock.spec import FAMILIES, ModelSpec

pytestmark = pytest.mark.usefixtures("backend")

MakeRecipe = Callable[..., Recipe]

SMALLEST = {"cnn": "cnn-4", "plain": "plain-8", "residual": "residual-8"}
CIFAR10 = (32, 32, 3)
DIGITS = (8, 8, 1)


def build(name: str, recipe: Recipe, shape: tuple[int, int, int] = DIGITS, seed: int = 0) -> keras.Model:
    return build_model(ModelSpec.parse(name), shape, classes=10, recipe=recipe, seed=seed)


def noise(count: int, shape: tuple[int, int, int] = DIGITS) -> np.ndarray:
    """Raw images, uint8 (count, height, width, channel)."""
    return generator(0, "noise").integers(0, 256, (count, *shape)).astype(np.uint8)


def counts(name: str, recipe: Recipe) -> tuple[int, int]:
    """Count parameters and multiply-adds of a network for CIFAR-10."""
    model = build(name, recipe, CIFAR10)
    return count_parameters(model), count_multiply_adds(model)


PUBLISHED = {20: 269_722, 32: 464_154, 44: 658_586, 56: 853_018, 110: 1_727_962}
MULTIPLY_ADDS = {20: 40.6, 32: 68.9, 44: 97.2, 56: 125.5, 110: 252.9}  # millions


@pytest.mark.parametrize("family", ["plain", "residual"])
@pytest.mark.parametrize("depth", PUBLISHED)
def test_parameters_and_multiply_adds_are_the_published_ones(family: str, depth: int, make_recipe: MakeRecipe) -> None:
    parameters, multiply_adds = counts(f"{family}-{depth}", make_recipe())
    n = (depth - 2) // 6
    assert parameters == PUBLISHED[depth] == 97_216 * n - 21_926
    assert multiply_adds / 1e6 == pytest.approx(MULTIPLY_ADDS[depth], abs=0.05)
    # By hand: every 3x3 convolution costs 9 * 32 * 32 * 16 * 16, but the stem and the first of stages 2 and 3.
    assert multiply_adds == 9 * 32 * 32 * 3 * 16 + (6 * n - 2) * 2_359_296 + 2 * 2_359_296 // 2 + 64 * 10


def test_the_baselines_parameters_and_multiply_adds_are_those_by_hand(
    make_recipe: MakeRecipe,
) -> None:
    convolutions = (9 * 3 * 32 + 32) + (9 * 32 * 64 + 64) + (9 * 64 * 128 + 128)
    assert convolutions + (4 * 4 * 128 * 10 + 10) == 113_738
    multiply_adds = 9 * (32 * 32 * 3 * 32 + 16 * 16 * 32 * 64 + 8 * 8 * 64 * 128) + 4 * 4 * 128 * 10
    assert counts("cnn-4", make_recipe()) == (113_738, multiply_adds)


@pytest.mark.parametrize("depth", [8, 20])
def test_twins_differ_only_in_the_shortcut(depth: int, make_recipe: MakeRecipe) -> None:
    plain, residual = (build(f"{family}-{depth}", make_recipe()) for family in ("plain", "residual"))
    plain_layers, residual_layers = ({layer.name: layer for layer in model.layers} for model in (plain, residual))
    extra = set(residual_layers) - set(plain_layers)
    blocks = [f"stage{stage}_block{block}" for stage in (1, 2, 3) for block in range(1, (depth - 2) // 6 + 1)]
    assert extra == {f"{block}_add" for block in blocks} | {"stage2_block1_shortcut", "stage3_block1_shortcut"}
    assert set(plain_layers) < set(residual_layers)
    assert not any(residual_layers[name].weights for name in extra)
    for name, layer in plain_layers.items():
        assert layer.output.shape == residual_layers[name].output.shape


def test_a_residual_net_without_its_additions_computes_what_its_plain_twin_does(make_recipe: MakeRecipe) -> None:
    plain, residual = (build(f"{family}-14", make_recipe()) for family in ("plain", "residual"))

    def skip_addition(layer: Any, inputs: Any, **options: Any) -> Any:
        return inputs[0] if isinstance(layer, keras.layers.Add) else layer(inputs, **options)

    without = keras.models.clone_model(residual, clone_function=lambda layer: layer, call_function=skip_addition)
    images = noise(16)
    for training in (False, True):
        expected, found, whole = (
            keras.ops.convert_to_numpy(model(images, training=training)) for model in (plain, without, residual)
        )
        assert np.array_equal(expected, found)
        assert not np.allclose(expected, whole)


def test_a_block_adds_its_input(make_recipe: MakeRecipe) -> None:
    residual = build("residual-8", make_recipe())
    names = ("stem_relu", "stage1_block1_norm2", "stage1_block1_relu2", "stage2_block1_norm2", "stage2_block1_relu2")
    probe = keras.Model(residual.input, [residual.get_layer(name).output for name in names])
    stem, inner1, block1, inner2, block2 = map(keras.ops.convert_to_numpy, probe(noise(4), training=False))
    assert np.array_equal(block1, np.maximum(inner1 + stem, 0))
    shortcut = np.pad(block1[:, ::2, ::2, :], ((0, 0), (0, 0), (0, 0), (0, 16)))
    assert np.array_equal(block2, np.maximum(inner2 + shortcut, 0))


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_twins_start_from_the_same_weights(precision: str, make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(precision=precision)
    plain, residual = build("plain-14", recipe, seed=3), build("residual-14", recipe, seed=3)
    assert [weight.path for weight in plain.weights] == [weight.path for weight in residual.weights]
    for ours, theirs in zip(plain.get_weights(), residual.get_weights(), strict=True):
        assert ours.tobytes() == theirs.tobytes()


@pytest.mark.parametrize("family", FAMILIES)
def test_initial_weights_follow_from_the_seed(family: str, make_recipe: MakeRecipe) -> None:
    first, again, other = (build(SMALLEST[family], make_recipe(), seed=seed) for seed in (0, 0, 1))
    kernels = [weight.path for weight in first.weights if "kernel" in weight.path]
    for path, *values in zip(
        [weight.path for weight in first.weights],
        *(model.get_weights() for model in (first, again, other)),
        strict=True,
    ):
        assert np.array_equal(values[0], values[1])
        assert np.array_equal(values[0], values[2]) == (path not in kernels)


def test_no_two_layers_start_alike_and_convolutions_start_as_he_et_al_draw_them(make_recipe: MakeRecipe) -> None:
    model = build("residual-14", make_recipe())
    kernels = [layer.kernel for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    values = [keras.ops.convert_to_numpy(kernel) for kernel in kernels]
    assert len({value.flat[0] for value in values}) == len(values)
    for value in values:
        if value.size > 2_000:
            height, width, fan_in, _ = value.shape
            assert value.std() == pytest.approx(np.sqrt(2 / (height * width * fan_in)), rel=0.05)


@pytest.mark.parametrize("shape", [DIGITS, (7, 9, 3), CIFAR10])
@pytest.mark.parametrize("family", FAMILIES)
def test_raw_images_of_any_size_become_finite_float32_logits(
    family: str, shape: tuple[int, int, int], make_recipe: MakeRecipe
) -> None:
    model = build(SMALLEST[family], make_recipe(precision="mixed_bfloat16"), shape)
    assert model.inputs[0].dtype == "uint8"
    logits = model(noise(3, shape), training=False)
    assert logits.shape == (3, 10)
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    assert np.isfinite(keras.ops.convert_to_numpy(logits)).all()


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_variable_gets_a_gradient(family: str, precision: str, make_recipe: MakeRecipe) -> None:
    model = build(SMALLEST[family], make_recipe(precision=precision))
    with tf.GradientTape() as tape:
        logits = model(noise(32), training=True)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(tf.range(32) % 10, logits))
    variables = model.trainable_variables
    gradients = tape.gradient(loss, variables)
    for variable, gradient in zip(variables, gradients, strict=True):
        assert gradient is not None, variable.path
        value = keras.ops.convert_to_numpy(gradient)
        assert np.isfinite(value).all(), variable.path
        assert np.any(value != 0), variable.path


@pytest.mark.parametrize("family", FAMILIES)
def test_mixed_precision_computes_in_bfloat16_and_keeps_float32_variables(family: str, make_recipe: MakeRecipe) -> None:
    model = build(SMALLEST[family], make_recipe(precision="mixed_bfloat16"))
    assert {variable.dtype for variable in model.weights} == {"float32"}
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert {layer.compute_dtype for layer in convolutions} == {"bfloat16"}
    inner = [layer.output for layer in model.layers if layer.name.startswith("stage")]
    assert {output.dtype for output in keras.Model(model.input, inner)(noise(2))} == {tf.bfloat16}


@pytest.mark.parametrize(("rescale", "factor"), [(True, 1 / 255), (False, 1.0)])
def test_pixels_are_rescaled_or_not(rescale: bool, factor: float, make_recipe: MakeRecipe) -> None:
    model = build("residual-8", make_recipe(rescale=rescale))
    images = noise(4)
    pixels = keras.Model(model.input, model.get_layer("rescale").output)(images)
    assert np.allclose(keras.ops.convert_to_numpy(pixels), images * factor, rtol=1e-6)


AUGMENTATIONS: dict[str, dict[str, Any]] = {
    "horizontal": {"horizontal_flip": True},
    "vertical": {"vertical_flip": True},
    "both": {"horizontal_flip": True, "vertical_flip": True},
    "joint": {"horizontal_flip": True, "vertical_flip": True, "flips": "joint"},
    "crop": {"crop_padding": 2},
    "all": {"horizontal_flip": True, "vertical_flip": True, "crop_padding": 2},
}


def augmented(model: keras.Model, images: np.ndarray, *, training: bool) -> np.ndarray:
    """Return what the stem sees, float32 (n, height, width, channel)."""
    stem = model.get_layer("stem_conv" if "stem_conv" in {layer.name for layer in model.layers} else "stage1_conv1")
    return keras.ops.convert_to_numpy(keras.Model(model.input, stem.input)(images, training=training))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("choice", AUGMENTATIONS)
def test_augmentation_changes_images_in_training_and_never_at_inference(
    choice: str, family: str, make_recipe: MakeRecipe
) -> None:
    model = build(SMALLEST[family], make_recipe(rescale=False, **AUGMENTATIONS[choice]))
    images = noise(64)
    assert np.array_equal(augmented(model, images, training=False), images)
    first, second = (augmented(model, images, training=True) for _ in range(2))
    assert not np.array_equal(first, images)
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    ("choice", "orientations"),
    [
        ("horizontal", {"", "h"}),
        ("vertical", {"", "v"}),
        ("both", {"", "h", "v", "hv"}),
        ("joint", {"", "hv"}),  # Keras 3's RandomFlip("horizontal_and_vertical")
    ],
)
def test_flips_give_each_orientation_its_share(choice: str, orientations: set[str], make_recipe: MakeRecipe) -> None:
    images = noise(1_000)
    turned = {"": images, "h": images[:, :, ::-1], "v": images[:, ::-1], "hv": images[:, ::-1, ::-1]}
    seen = augmented(build("cnn-4", make_recipe(rescale=False, **AUGMENTATIONS[choice])), images, training=True)
    shares = {name: np.mean(np.all(seen == turned[name], axis=(1, 2, 3))) for name in turned}
    for name, share in shares.items():
        # 1,000 fair draws stray from their share by more than 0.07 once in 10^5 times.
        assert share == pytest.approx(1 / len(orientations) if name in orientations else 0, abs=0.07), name
    assert sum(shares.values()) == pytest.approx(1)


@pytest.mark.parametrize("flip", ["horizontal_flip", "vertical_flip"])
def test_one_flip_alone_is_the_same_joint_or_independent(flip: str, make_recipe: MakeRecipe) -> None:
    choices = [make_recipe(**{flip: True}, flips=flips) for flips in ("joint", "independent")]
    joint, independent = (augmented(build("cnn-4", recipe), noise(50), training=True) for recipe in choices)
    assert np.array_equal(joint, independent)


def test_twins_see_the_same_augmented_images(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(**AUGMENTATIONS["all"])
    plain, residual, other = (
        build(name, recipe, seed=s) for name, s in (("plain-8", 5), ("residual-8", 5), ("plain-8", 6))
    )
    for _ in range(3):
        seen, twins, others = (augmented(model, noise(32), training=True) for model in (plain, residual, other))
        assert np.array_equal(seen, twins)
        assert not np.array_equal(seen, others)
