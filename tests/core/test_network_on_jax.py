"""The networks are written in Keras alone: JAX computes what TensorFlow does."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from pytest import MonkeyPatch

from resblock.core.seeds import generator
from resblock.core.spec import ModelSpec
from resblock.core.splits import Split
from resblock.params import read_params
from tests.conftest import ROOT

# Between them, every block and every layer of our own.
VARIANTS = (
    "cnn-4-w2",
    "residual-8-maxpool",
    "preact-8-nobn-allprojection-sd",
    "bottleneck-11-projection",
)
# Code that runs once need not be fast, and compiling it takes half as long.
UNOPTIMISED = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
TRAINED = "preact-8-nobn-allprojection-sd"  # in training too, where it draws: compiling is most of the time


def compute() -> dict[str, np.ndarray]:
    """Return each network's logits for the same weights and images, computed by this process's backend."""
    import keras

    from resblock.core.backends import backend
    from resblock.core.model.layers import OverlappingPool
    from resblock.core.model.network import build_network

    # JAX, left to itself, compiles each operation on its own.
    compiled: Any = importlib.import_module("jax").jit if keras.backend.backend() == "jax" else lambda call: call
    recipe = replace(read_params(ROOT / "params.yaml").recipe("digits"), horizontal_flip=True, crop_padding=1)
    images = generator(0, "images").integers(0, 256, (16, 8, 8, 1)).astype(np.uint8)
    # What networks for large images have besides: tests of the layers hold it to NumPy, on TensorFlow.
    found = {"pool": keras.ops.convert_to_numpy(OverlappingPool()(-1.0 - images[:, :7]))}
    for name in VARIANTS:
        model = build_network(ModelSpec.parse(name), (8, 8, 1), 10, recipe, seed=0).model
        for variable in model.weights:  # each backend draws its own initial weights
            values = generator(0, variable.path).normal(0, 0.1, variable.shape)
            variable.assign(np.abs(values) if "variance" in variable.path else values)
        found[name] = backend().inference(model).logits(images)
        if name != TRAINED:
            continue
        groups = (model.trainable_variables, model.non_trainable_variables)
        training = compiled(lambda values, model=model: model.stateless_call(*values, images, training=True)[0])
        logits = training([[variable.value for variable in group] for group in groups])
        assert np.isfinite(keras.ops.convert_to_numpy(logits)).all()
    return found


def step(*, resident: bool) -> list[bytes]:
    """Return a network's weights after an epoch on JAX, its images on the device or handed over with each call."""
    import keras

    from resblock.core.backends import jax
    from resblock.core.model.network import build_network
    from resblock.core.training.optimization import make_optimizer

    recipe = replace(read_params(ROOT / "params.yaml").recipe("digits"), crop_padding=1)
    draw = generator(0, "images")
    images, labels = draw.integers(0, 256, (48, 8, 8, 1)).astype(np.uint8), draw.integers(0, 10, 48).astype(np.int32)
    with TemporaryDirectory() as folder, MonkeyPatch.context() as patch:
        np.save(Path(folder) / "images.npy", images)
        if not resident:
            patch.setattr(jax, "_room", lambda: 0)
            images = np.load(Path(folder) / "images.npy", mmap_mode="r")
        keras.utils.clear_session()
        model = build_network(ModelSpec.parse("cnn-4"), (8, 8, 1), 10, recipe, seed=0).model
        optimizer = make_optimizer(recipe, 3)
        optimizer.build(model.trainable_variables)
        batches = list(draw.permutation(48).astype(np.int32).reshape(3, 16))
        jax.Steps(model, optimizer, Split(images, labels)).train(batches, lambda _: None)
        return [keras.ops.convert_to_numpy(variable).tobytes() for variable in model.weights]


def test_every_kind_of_network_computes_on_jax_what_it_does_on_tensorflow(
    tmp_path: Path, jax_compiles_once: dict[str, str], backend: int
) -> None:
    code = (
        "from resblock.core.backends import start; start(threads=1)\n"
        "import keras; assert keras.backend.backend() == 'jax'\n"
        "from tests.core.test_network_on_jax import *; np.savez(sys.argv[1], **compute())\n"
        "streamed, resident = (step(resident=chosen) for chosen in (False, True)); assert streamed == resident"
    )
    target = tmp_path / "jax.npz"
    environment = {**os.environ, "KERAS_BACKEND": "jax", "XLA_FLAGS": UNOPTIMISED, **jax_compiles_once}
    subprocess.run([sys.executable, "-c", code, target], cwd=ROOT, env=environment, check=True)
    with np.load(target) as arrays:
        theirs = dict(arrays)
    ours = compute()
    assert set(ours) == set(theirs) == {*VARIANTS, "pool"}
    for name in ours:
        assert np.allclose(ours[name], theirs[name], rtol=1e-4, atol=1e-5), name
        assert np.ptp(ours[name], axis=0).max() > 1e-3, f"{name} says the same of every image"
