"""The networks are written in Keras alone: JAX computes what TensorFlow does."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from resblock.core.seeds import generator
from resblock.core.spec import ModelSpec
from resblock.params import read_params
from tests.conftest import ROOT

# Between them, every block and every layer of our own.
VARIANTS = (
    "cnn-4-w2",
    "residual-8-maxpool",
    "preact-8-nobn-allprojection-sd",
    "bottleneck-11-projection",
)


def compute() -> dict[str, np.ndarray]:
    """Return each network's logits for the same weights and images, computed by this process's backend."""
    import keras

    from resblock.core.backends import backend
    from resblock.core.model.network import build_network

    # JAX, left to itself, compiles each operation on its own.
    compiled: Any = importlib.import_module("jax").jit if keras.backend.backend() == "jax" else lambda call: call
    recipe = replace(read_params(ROOT / "params.yaml").recipe("digits"), horizontal_flip=True, crop_padding=1)
    images = generator(0, "images").integers(0, 256, (16, 8, 8, 1)).astype(np.uint8)
    found: dict[str, np.ndarray] = {}
    for name in VARIANTS:
        model = build_network(ModelSpec.parse(name), (8, 8, 1), 10, recipe, seed=0).model
        for variable in model.weights:  # each backend draws its own initial weights
            values = generator(0, variable.path).normal(0, 0.1, variable.shape)
            variable.assign(np.abs(values) if "variance" in variable.path else values)
        found[name] = backend().inference(model).logits(images)
        groups = (model.trainable_variables, model.non_trainable_variables)
        training = compiled(lambda values, model=model: model.stateless_call(*values, images, training=True)[0])
        logits = training([[variable.value for variable in group] for group in groups])
        assert np.isfinite(keras.ops.convert_to_numpy(logits)).all()
    return found


def test_every_kind_of_network_computes_on_jax_what_it_does_on_tensorflow(
    tmp_path: Path, jax_compiles_once: dict[str, str], backend: int
) -> None:
    code = (
        "from resblock.core.backends import start; start(threads=1)\n"
        "import keras; assert keras.backend.backend() == 'jax'\n"
        "from tests.core.test_network_on_jax import *; np.savez(sys.argv[1], **compute())"
    )
    target = tmp_path / "jax.npz"
    environment = {**os.environ, "KERAS_BACKEND": "jax", **jax_compiles_once}
    subprocess.run([sys.executable, "-c", code, target], cwd=ROOT, env=environment, check=True)
    with np.load(target) as arrays:
        theirs = dict(arrays)
    ours = compute()
    assert set(ours) == set(theirs) == set(VARIANTS)
    for name in VARIANTS:
        assert np.allclose(ours[name], theirs[name], rtol=1e-4, atol=1e-5), name
        assert np.ptp(ours[name], axis=0).max() > 1e-3, f"{name} says the same of every image"
