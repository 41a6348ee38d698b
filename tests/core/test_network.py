"""The networks: what the papers count, what twins share, what flows through."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from resblock.core.model.layers import PadShortcut, StochasticDepth
from resblock.core.model.network import Network, build_network
from resblock.core.recipe import Recipe
from resblock.core.seeds import generator
from resblock.core.spec import FAMILIES, ModelSpec
from resblock.core.splits import MEAN_AT_ONCE, Split
from resblock.core.training.trainer import Trainer
from resblock.params import Params

pytestmark = pytest.mark.usefixtures("backend")

MakeRecipe = Callable[..., Recipe]

SMALLEST = {
    "cnn": "cnn-4",
    "plain": "plain-8",
    "residual": "residual-8",
    "preact": "preact-8",
    "bottleneck": "bottleneck-11",
}
SHORTCUT_FAMILIES = ("residual", "preact", "bottleneck")
# Every modifier of every family, alone and with others.
VARIANTS = [
    *SMALLEST.values(),
    *(f"{name}-w2" for name in SMALLEST.values()),
    *(f"plain-8-{modifier}" for modifier in ("nobn", "maxpool", "nobn-maxpool-w2")),
    *(
        f"{SMALLEST[family]}-{modifiers}"
        for family in SHORTCUT_FAMILIES
        for modifiers in (
            *("nobn", "projection", "allprojection", "maxpool", "sd"),
            *("nobn-projection-sd", "nobn-allprojection-maxpool-w2-sd", "projection-w3"),
        )
    ),
]
CIFAR10 = (32, 32, 3)
DIGITS = (8, 8, 1)


def network(name: str, recipe: Recipe, shape: tuple[int, int, int] = DIGITS, seed: int = 0) -> Network:
    return build_network(ModelSpec.parse(name), shape, classes=10, recipe=recipe, seed=seed)


def build(name: str, recipe: Recipe, shape: tuple[int, int, int] = DIGITS, seed: int = 0) -> keras.Model:
    return network(name, recipe, shape, seed).model


def noise(count: int, shape: tuple[int, int, int] = DIGITS) -> np.ndarray:
    """Raw images, uint8 (count, height, width, channel)."""
    return generator(0, "noise").integers(0, 256, (count, *shape)).astype(np.uint8)


def counts(name: str, recipe: Recipe) -> tuple[int, int]:
    """Count parameters and multiply-adds of a network for CIFAR-10."""
    built = network(name, recipe, CIFAR10)
    return built.parameters, built.multiply_adds


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


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("residual-20-projection", 272_474),  # He et al. 2015's option B, as commonly implemented
        ("residual-110-projection", 1_730_714),
        ("preact-110", PUBLISHED[110]),  # moving the normalisations keeps their sizes
    ],
)
def test_parameters_of_variants_are_the_published_ones(name: str, parameters: int, make_recipe: MakeRecipe) -> None:
    assert counts(name, make_recipe())[0] == parameters


@pytest.mark.parametrize(("name", "millions"), [("bottleneck-164", 1.7), ("bottleneck-164-projection", 1.7)])
def test_bottlenecks_count_as_he_et_al_2016_and_by_hand(name: str, millions: float, make_recipe: MakeRecipe) -> None:
    parameters, multiply_adds = counts(name, make_recipe())
    assert round(parameters / 1e6, 1) == millions  # He et al. 2016, table 4
    n, widths, inputs, pixels = 18, (16, 32, 64), (16, 64, 128), (32 * 32, 16 * 16, 8 * 8)
    # A block on 4f channels: 4f*f + 9f*f + f*4f = 17f*f. A stage's first block sees fewer, in its 1x1 convolution.
    convolutions = [17 * f * f * n - (4 * f - before) * f for f, before in zip(widths, inputs, strict=True)]
    normalizations = [2 * (n * 6 * f - (4 * f - before)) for f, before in zip(widths, inputs, strict=True)]
    projections = [before * 4 * f for f, before in zip(widths, inputs, strict=True)]
    if not name.endswith("-projection"):
        projections = [0, 0, 0]
    stem, dense, last = 9 * 3 * 16, 256 * 10, 2 * 256
    assert parameters == stem + sum(convolutions) + sum(normalizations) + sum(projections) + last + dense + 10
    by_stage = zip(pixels, convolutions, projections, strict=True)
    assert multiply_adds == 1024 * stem + sum(p * (c + s) for p, c, s in by_stage) + dense


@pytest.mark.parametrize(
    ("name", "n", "k", "millions"),
    [  # Zagoruyko & Komodakis 2016, tables 3 and 4; their depth 6n+4 counts three shortcuts and no dense layer
        ("preact-38-projection", 6, 1, 0.6),
        ("preact-38-projection-w2", 6, 2, 2.2),
        ("preact-38-projection-w4", 6, 4, 8.9),
        ("preact-14-projection-w8", 2, 8, 11.0),
        ("preact-14-projection-w10", 2, 10, 17.1),
        ("preact-26-projection-w10", 4, 10, 36.5),
    ],
)
def test_wide_residual_networks_count_as_published_and_by_hand(
    name: str, n: int, k: int, millions: float, make_recipe: MakeRecipe
) -> None:
    parameters, multiply_adds = counts(name, make_recipe())
    assert round(parameters / 1e6, 1) == millions
    total, work = 9 * 3 * 16 + 2 * 64 * k + 640 * k + 10, 1024 * 9 * 3 * 16 + 640 * k
    for before, width, pixels in ((16, 16 * k, 1024), (16 * k, 32 * k, 256), (32 * k, 64 * k, 64)):
        kernels = 9 * width * (before + (2 * n - 1) * width) + (before * width if before != width else 0)
        total += kernels + 2 * (before + (2 * n - 1) * width)
        work += pixels * kernels
    assert (parameters, multiply_adds) == (total, work)


def test_what_modifiers_add_is_what_they_add_by_hand(make_recipe: MakeRecipe) -> None:
    n, recipe = 3, make_recipe()
    parameters, multiply_adds = counts("residual-20", recipe)
    # Option C: where the shape stays, f*f weights and a normalisation's 2f; where it changes, as option B.
    option_b = (16 * 32 + 32 * 64) + 2 * (32 + 64)
    option_c = option_b + n * (16**2 + 2 * 16) + (n - 1) * (32**2 + 2 * 32 + 64**2 + 2 * 64)
    work = 256 * 16 * 32 + 64 * 32 * 64
    assert counts("residual-20-projection", recipe) == (parameters + option_b, multiply_adds + work)
    work += n * 1024 * 16**2 + (n - 1) * (256 * 32**2 + 64 * 64**2)
    assert counts("residual-20-allprojection", recipe) == (parameters + option_c, multiply_adds + work)
    # A normalisation's scale and offset make room for a bias; each of the 3n residual branches gets a scalar.
    normalized = 16 + 2 * n * (16 + 32 + 64)
    assert counts("plain-20-nobn", recipe) == (parameters - normalized, multiply_adds)
    assert counts("residual-20-nobn", recipe) == (parameters - normalized + 3 * n, multiply_adds)
    for free in ("residual-20-maxpool", "residual-20-sd", "plain-20-maxpool", "preact-20"):
        assert counts(free, recipe) == (parameters, multiply_adds)


def test_the_baselines_parameters_and_multiply_adds_are_those_by_hand(
    make_recipe: MakeRecipe,
) -> None:
    convolutions = (9 * 3 * 32 + 32) + (9 * 32 * 64 + 64) + (9 * 64 * 128 + 128)
    assert convolutions + (4 * 4 * 128 * 10 + 10) == 113_738
    multiply_adds = 9 * (32 * 32 * 3 * 32 + 16 * 16 * 32 * 64 + 8 * 8 * 64 * 128) + 4 * 4 * 128 * 10
    assert counts("cnn-4", make_recipe()) == (113_738, multiply_adds)
    wide = (9 * 3 * 64 + 64) + (9 * 64 * 128 + 128) + (9 * 128 * 256 + 256) + (4 * 4 * 256 * 10 + 10)
    assert counts("cnn-4-w2", make_recipe())[0] == wide


@pytest.mark.parametrize(
    ("name", "own_weights"),
    [("8", 0), ("20", 0), ("8-maxpool", 0), ("8-w2", 0), ("8-nobn", 3), ("14-nobn-maxpool-w3", 6)],
)
def test_twins_differ_only_in_the_shortcut(name: str, own_weights: int, make_recipe: MakeRecipe) -> None:
    plain, residual = (build(f"{family}-{name}", make_recipe()) for family in ("plain", "residual"))
    assert ModelSpec.parse(f"plain-{name}").twin == ModelSpec.parse(f"residual-{name}")
    depth = int(name.partition("-")[0])
    plain_layers, residual_layers = ({layer.name: layer for layer in model.layers} for model in (plain, residual))
    extra = set(residual_layers) - set(plain_layers)
    blocks = [f"stage{stage}_block{block}" for stage in (1, 2, 3) for block in range(1, (depth - 2) // 6 + 1)]
    changed = {"stage2_block1_shortcut", "stage3_block1_shortcut"} | (
        {"stage1_block1_shortcut"} if "w" in name else set()
    )
    scalars = {f"{block}_branch_scale" for block in blocks} if "nobn" in name else set()
    assert extra == {f"{block}_add" for block in blocks} | changed | scalars
    assert set(plain_layers) < set(residual_layers)
    own = [variable for name in extra for variable in residual_layers[name].trainable_variables]
    assert sum(math.prod(variable.shape) for variable in own) == own_weights
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
@pytest.mark.parametrize("name", ["14", "8-nobn", "8-maxpool-w2"])
def test_twins_start_from_the_same_weights(name: str, precision: str, make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(precision=precision)
    plain, residual = build(f"plain-{name}", recipe, seed=3), build(f"residual-{name}", recipe, seed=3)
    theirs = {weight.path: keras.ops.convert_to_numpy(weight) for weight in residual.weights}
    assert [path for path in theirs if not path.endswith("_branch_scale/scale")] == [w.path for w in plain.weights]
    for weight in plain.weights:
        assert keras.ops.convert_to_numpy(weight).tobytes() == theirs[weight.path].tobytes()


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
    check_logits(build(SMALLEST[family], make_recipe(precision="mixed_bfloat16"), shape), shape)


@pytest.mark.parametrize("name", VARIANTS)
def test_images_with_odd_sides_pass_through_every_variant(name: str, make_recipe: MakeRecipe) -> None:
    check_logits(build(name, make_recipe(precision="mixed_bfloat16"), (7, 9, 3)), (7, 9, 3))


def check_logits(model: keras.Model, shape: tuple[int, int, int]) -> None:
    assert model.inputs[0].dtype == "uint8"
    logits = model(noise(3, shape), training=False)
    assert logits.shape == (3, 10)
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    assert np.isfinite(keras.ops.convert_to_numpy(logits)).all()


def gradients(model: keras.Model) -> dict[str, np.ndarray]:
    """Return the loss's gradient with respect to every trainable variable, in training mode."""
    with tf.GradientTape() as tape:
        logits = model(noise(32), training=True)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(tf.range(32) % 10, logits))
    variables = model.trainable_variables
    found = tape.gradient(loss, variables)
    missing = [variable.path for variable, gradient in zip(variables, found, strict=True) if gradient is None]
    assert missing == []
    pairs = zip(variables, found, strict=True)
    return {variable.path: keras.ops.convert_to_numpy(gradient) for variable, gradient in pairs}


def open_branches(model: keras.Model) -> None:
    """Move the scalars of SkipInit away from zero, as the first step does."""
    for variable in model.trainable_variables:
        if variable.path.endswith("_branch_scale/scale"):
            variable.assign(0.5)


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        *((name, "float32") for name in VARIANTS),
        *((name, "mixed_bfloat16") for name in (*SMALLEST.values(), "preact-8-nobn-projection-sd")),
    ],
)
def test_every_variable_gets_a_gradient(name: str, precision: str, make_recipe: MakeRecipe) -> None:
    model = build(name, make_recipe(precision=precision))
    open_branches(model)
    steps = 12 if name.endswith("-sd") else 1  # a dropped branch has none; the last is dropped in half of the steps
    moved: dict[str, bool] = {}
    for _ in range(steps):
        for path, value in gradients(model).items():
            assert np.isfinite(value).all(), path
            moved[path] = moved.get(path, False) or bool(np.any(value != 0))
    assert [path for path, has_moved in moved.items() if not has_moved] == []


@pytest.mark.parametrize("family", SHORTCUT_FAMILIES)
@pytest.mark.parametrize("modifiers", ["nobn", "nobn-projection"])
def test_without_normalisation_a_branch_starts_at_zero_and_only_its_scalar_has_a_gradient(
    family: str, modifiers: str, make_recipe: MakeRecipe
) -> None:
    """De & Smith 2020: at first a block is its shortcut, so nothing in a branch can move before its scalar has."""
    model = build(f"{SMALLEST[family]}-{modifiers}", make_recipe())
    found = gradients(model)
    within = {path for path in found if "_block" in path and path.split("/")[0][:-1].endswith("_conv")}
    scalars = {path for path in found if path.endswith("_branch_scale/scale")}
    assert len(scalars) == 3
    assert {path for path, value in found.items() if not np.any(value)} == within
    assert all(float(found[path]) != 0 for path in scalars)


def test_a_plain_net_without_normalisation_has_biases_and_nothing_else(make_recipe: MakeRecipe) -> None:
    plain, plain_nobn = build("plain-8", make_recipe()), build("plain-8-nobn", make_recipe())
    kinds = {type(layer).__name__ for layer in plain_nobn.layers}
    assert not any("Normalization" in kind for kind in kinds)
    assert {type(layer).__name__ for layer in plain.layers} > kinds
    kernels = {weight.path for weight in plain.weights if weight.path.endswith(("kernel", "logits/bias"))}
    biases = {path.replace("kernel", "bias") for path in kernels}
    assert {weight.path for weight in plain_nobn.weights} == kernels | biases


@pytest.mark.parametrize("family", ["plain", *SHORTCUT_FAMILIES])
def test_max_pooling_takes_the_place_of_every_stride(family: str, make_recipe: MakeRecipe) -> None:
    strided, pooled = build(SMALLEST[family], make_recipe()), build(f"{SMALLEST[family]}-maxpool", make_recipe())
    layers = {layer.name: layer for layer in pooled.layers}
    pools = [name for name, layer in layers.items() if isinstance(layer, keras.layers.MaxPooling2D)]
    assert pools == ["stage2_block1_pool", "stage3_block1_pool"]
    assert {layer.strides for layer in pooled.layers if isinstance(layer, keras.layers.Conv2D)} == {(1, 1)}
    assert {layer.stride for layer in pooled.layers if isinstance(layer, PadShortcut)} <= {1}
    for layer in strided.layers:
        if "stage" in layer.name and not layer.name.endswith(("_norm1", "_relu1", "_pad")):  # stand before the stride
            assert layers[layer.name].output.shape == layer.output.shape, layer.name


@pytest.mark.parametrize(("name", "blocks"), [("residual-20-sd", 9), ("bottleneck-11-sd", 3), ("preact-14-sd", 6)])
def test_survival_falls_linearly_to_a_half(name: str, blocks: int, make_recipe: MakeRecipe) -> None:
    model = build(name, make_recipe())
    survivals = [layer.survival for layer in model.layers if isinstance(layer, StochasticDepth)]
    # Huang et al. 2016, equation 4: 1 - l / L * (1 - 0.5) for l = 1 … L.
    assert survivals == pytest.approx([1 - block / blocks / 2 for block in range(1, blocks + 1)])
    generators = [layer.seed for layer in model.layers if isinstance(layer, StochasticDepth)]
    assert len(set(generators)) == blocks


def test_stochastic_depth_draws_from_the_models_variables(make_recipe: MakeRecipe) -> None:
    """So that a checkpoint, which holds the model's variables, goes on as if training had not stopped."""
    model, images = build("residual-14-sd", make_recipe(), seed=3), noise(4)

    def outputs(times: int) -> list[bytes]:
        return [keras.ops.convert_to_numpy(model(images, training=True)).tobytes() for _ in range(times)]

    outputs(2)
    state = [keras.ops.convert_to_numpy(variable) for variable in model.variables]
    expected = outputs(6)
    for variable, value in zip(model.variables, state, strict=True):
        variable.assign(value)
    assert outputs(6) == expected
    assert len(set(expected)) > 1
    again = build("residual-14-sd", make_recipe(), seed=3)
    for _ in range(2):
        again(images, training=True)
    assert keras.ops.convert_to_numpy(again(images, training=True)).tobytes() == expected[0]


def test_a_preactivation_block_adds_what_he_et_al_2016_draw(make_recipe: MakeRecipe) -> None:
    """The first block's shortcut starts behind its activation, a later one's before it; nothing follows the sum."""
    model = build("preact-14", make_recipe())
    names = [f"stage1_block{number}_{part}" for number in (1, 2) for part in ("relu1", "conv2", "add")]
    probe = keras.Model(model.input, [model.get_layer(name).output for name in ("stem_conv", *names)])
    values = map(keras.ops.convert_to_numpy, probe(noise(4), training=False))
    stem, active1, inner1, block1, _, inner2, block2 = values
    # A new network's moving statistics are 0 and 1, which its batch normalisation divides by sqrt(1 + epsilon).
    assert np.allclose(active1, np.maximum(stem, 0) / np.sqrt(1 + make_recipe().batch_norm_epsilon), atol=1e-6)
    assert np.array_equal(block1, inner1 + active1)
    assert np.array_equal(block2, inner2 + block1)
    assert (block2 < 0).any()


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


def test_he_et_als_network_subtracts_the_mean_of_all_training_images_and_its_weights_carry_it(params: Params) -> None:
    """He et al. 2015, section 4.2: the per-pixel mean."""
    images = noise(MEAN_AT_ONCE + 100, CIFAR10)
    train, spec = Split(images, np.zeros(len(images), np.int32)), ModelSpec.parse("residual-8")
    recipe = params.recipe("cifar10", "he2015")
    trained = Trainer(spec, train, classes=10, recipe=recipe, seed=0).network
    few, mean = images[:8], images.mean(axis=0, dtype=np.float64)
    seen = keras.Model(trained.model.input, trained.parts.pixels)(few, training=False)
    assert np.allclose(keras.ops.convert_to_numpy(seen), (few - mean) / 255, atol=1e-6)

    fresh = build_network(spec, CIFAR10, 10, recipe, seed=1)
    before = fresh.model(few, training=False)
    fresh.load(trained.weights())
    expected = trained.model(few, training=False)
    assert np.array_equal(fresh.model(few, training=False), expected)
    assert not np.allclose(before, expected)


@pytest.mark.parametrize("side", [8, 9])
@pytest.mark.parametrize("name", ["plain-8", "residual-8-projection", "preact-8"])
def test_a_strided_convolution_is_centred_on_the_pixel_that_its_shortcut_takes(
    name: str, side: int, make_recipe: MakeRecipe
) -> None:
    """He et al. 2015 pad one pixel on each side: output pixel i sees rows and columns 2i-1 to 2i+1."""
    built = network(name, make_recipe(), (side, side, 1))
    convolution: Any = built.model.get_layer("stage2_block1_conv1")
    before, *_ = (part for part in built.parts.all if part.name == "stage1_block1")
    convolve = keras.Model(before.output, convolution.output)
    convolution.kernel.assign(np.ones(convolution.kernel.shape))
    for layer in convolve.layers:  # what stands before the convolution lets every sign pass
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.beta.assign(np.zeros(layer.beta.shape))
    half = -(-side // 2)
    for row, column in np.ndindex(side, side):
        image = np.zeros((1, side, side, before.output.shape[-1]), np.float32)
        image[0, row, column] = 1
        seen = keras.ops.convert_to_numpy(convolve(image, training=False))[0, ..., 0] > 0
        expected = [[abs(row - 2 * i) <= 1 and abs(column - 2 * j) <= 1 for j in range(half)] for i in range(half)]
        assert np.array_equal(seen, expected), (row, column)
