"""The networks are written in Keras alone: JAX computes what TensorFlow does."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent

# Between them, every block and every layer of our own.
VARIANTS = (
    "cnn-4-w2",
    "residual-8-maxpool",
    "preact-8-nobn-allprojection-sd",
    "bottleneck-11-projection",
)

PROGRAM = """
import importlib, sys
from pathlib import Path
import numpy as np
from resblock.params import read_params
from resblock.seeds import generator
from resblock.spec import ModelSpec
from resblock.training.backend import prepare_backend
prepare_backend(threads=1)
import keras
from resblock.model.network import build_model
from resblock.training.inference import predict
assert keras.backend.backend() == sys.argv[1]
compiled = importlib.import_module("jax").jit if sys.argv[1] == "jax" else lambda function: function
choices = {"horizontal_flip": True, "crop_padding": 1}
recipe = read_params(Path("params.yaml")).recipe("digits").model_copy(update=choices)
images = generator(0, "images").integers(0, 256, (16, 8, 8, 1)).astype(np.uint8)
found = {}
for name in sys.argv[3:]:
    model = build_model(ModelSpec.parse(name), (8, 8, 1), 10, recipe, seed=0)
    for variable in model.weights:  # each backend draws its own initial weights
        values = generator(0, variable.path).normal(0, 0.1, variable.shape)
        variable.assign(np.abs(values) if "variance" in variable.path else values)
    found[name] = predict(model, images)
    training = compiled(lambda variables, images: model.stateless_call(*variables, images, training=True)[0])
    groups = (model.trainable_variables, model.non_trainable_variables)
    logits = training([[variable.value for variable in group] for group in groups], images)
    assert np.isfinite(keras.ops.convert_to_numpy(logits)).all()
np.savez(sys.argv[2], **found)
"""


def logits(backend: str, target: Path, variables: dict[str, str]) -> dict[str, np.ndarray]:
    """Return each network's logits for the same weights and images, computed by `backend`."""
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "2", **variables}
    command = [sys.executable, "-c", PROGRAM, backend, str(target), *VARIANTS]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    with np.load(target) as arrays:
        return dict(arrays)


def test_every_kind_of_network_computes_on_jax_what_it_does_on_tensorflow(
    tmp_path: Path, jax_compiles_once: dict[str, str]
) -> None:
    with ThreadPoolExecutor() as side_by_side:
        targets = {backend: tmp_path / f"{backend}.npz" for backend in ("tensorflow", "jax")}
        ours, theirs = side_by_side.map(logits, targets, targets.values(), repeat(jax_compiles_once))
    assert set(ours) == set(VARIANTS)
    for name in VARIANTS:
        assert np.allclose(ours[name], theirs[name], rtol=1e-4, atol=1e-5), name
        assert np.ptp(ours[name], axis=0).max() > 1e-3, f"{name} says the same of every image"
