"""A trained network as a folder that MLflow can load and serve: its files, the code to rebuild it, the exact packages.

The model has no pickle and no saved Keras graph in it. MLflow imports the loader from the code that travels with the
model, and the loader rebuilds the network from the run's own files.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from resblock.core.files import read_json, write_bytes, write_text

CODE, DATA = "code.zip", "run"  # where a model keeps its modules, and below data/ its files
SERVED_EXAMPLE = "serving_input_example.json"


@dataclass(frozen=True)
class ModelPackage:
    """All that a stage hands over for one trained network."""

    name: str  # for instance digits-residual-20-0
    key: str  # of the result
    files: Sequence[Path]  # what the loader reads
    loader: str  # module with MLflow's `_load_pyfunc`, inside of `code`
    code: bytes  # archive of modules
    requirements: Sequence[str]  # pip requirements with exact versions
    constraints: Sequence[str]  # exact versions of what those pull in
    image_shape: tuple[int, int, int]  # height, width, channel
    example: np.ndarray  # a few real images, uint8 (n, height, width, channel)
    description: str
    metadata: Mapping[str, Any]  # classes and whatever else tells what the model is


@dataclass(frozen=True)
class Registration:
    """Which result the registry is to name as the one to use for a data set, and why."""

    dataset: str
    name: str  # of the training, for instance digits-residual-20-0
    key: str
    description: str
    tags: Mapping[str, str]


def write_package(package: ModelPackage, folder: Path, *, model_id: str, run_id: str) -> None:
    """Write `package` into `folder` in MLflow's format, as the logged model `model_id`.

    MLflow's own `save_model` would find out by loading the model, or by reading every installed package, what is known
    here; it would take as long as several epochs on the smallest data set.
    """
    from mlflow.models import Model
    from mlflow.pyfunc import add_to_model

    for file in package.files:
        write_bytes(folder / "data" / DATA / file.name, file.read_bytes())
    write_bytes(folder / CODE, package.code)
    model = Model(
        run_id=run_id,
        model_id=model_id,
        model_uuid=model_id,
        metadata=dict(package.metadata),
        signature=_signature(package.image_shape),
        saved_input_example_info=_write_example(folder, package.example),
    )
    # The code joins sys.path, which takes archives.
    add_to_model(model, package.loader, data=f"data/{DATA}", code=CODE, **_write_environment(folder, package))
    model.model_size_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    model.save(str(folder / "MLmodel"))


def _write_environment(folder: Path, package: ModelPackage) -> dict[str, str]:
    """Write the packages as pip, MLflow and conda read them; return the latter two files' names."""
    requirements = list(package.requirements)
    if package.constraints:
        write_text(folder / "constraints.txt", "\n".join(package.constraints) + "\n")
        requirements.append("-c constraints.txt")
    write_text(folder / "requirements.txt", "\n".join(requirements) + "\n")
    python = platform.python_version()
    pip = [f"pip=={version('pip')}"] if find_spec("pip") else ["pip"]
    environment = {"python": python, "build_dependencies": pip, "dependencies": ["-r requirements.txt"]}
    conda = {"channels": ["conda-forge"], "dependencies": [f"python={python}", "pip", {"pip": requirements}]}
    files = {"python_env": "python_env.yaml", "conda_env": "conda.yaml"}
    for name, tree in ((files["python_env"], environment), (files["conda_env"], {"name": "mlflow-env", **conda})):
        with (folder / name).open("w", encoding="utf-8") as file:
            YAML(typ="safe").dump(tree, file)
    return files


def _write_example(folder: Path, images: np.ndarray) -> dict[str, str]:
    """Write the input example, for Python and as a server takes it; return what MLmodel says of it."""
    files = {"artifact_path": "input_example.json", "serving_input_path": SERVED_EXAMPLE}
    write_text(folder / files["artifact_path"], json.dumps(images.tolist()))
    write_text(folder / SERVED_EXAMPLE, json.dumps({"inputs": images.tolist()}))
    return {**files, "type": "ndarray"}


def read_example(folder: Path) -> np.ndarray:
    """Return the images that `write_package` put into `folder` as the input example."""
    return np.array(read_json(folder / SERVED_EXAMPLE)["inputs"], np.uint8)


def _signature(image_shape: tuple[int, int, int]) -> Any:
    """Raw images in; for each a row with its class, the probability of that, and the probabilities of all classes."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec
    from mlflow.types.schema import Map

    images = TensorSpec(np.dtype(np.uint8), (-1, *image_shape))
    columns = {"class": DataType.string, "probability": DataType.double, "probabilities": Map(DataType.double)}
    return ModelSignature(Schema([images]), Schema([ColSpec(kind, name) for name, kind in columns.items()]))
