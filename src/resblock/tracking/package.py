"""A trained network as a folder that MLflow can load and serve: its files, the code to rebuild it, the exact packages.

The model has no pickle and no saved Keras graph in it. MLflow imports the loader from the code that travels with the
model, and the loader rebuilds the network from the run's own files.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resblock.files import write_bytes, write_text

CODE, DATA = "code.zip", "run"  # where a model keeps its modules, and below data/ its files


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


def write_package(package: ModelPackage, folder: Path, *, model_id: str, run_id: str) -> None:
    """Write `package` into the empty or missing `folder` in MLflow's format, as the logged model `model_id`.

    What MLflow would find out by loading the model (its packages, whether it can be served) is known here: loading it
    would take as long as a short training.
    """
    import mlflow.pyfunc
    from mlflow.models import Model

    model = Model(run_id=run_id, model_id=model_id, model_uuid=model_id, metadata=dict(package.metadata))
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / DATA
        data.mkdir()
        for file in package.files:
            shutil.copyfile(file, data / file.name)
        requirements = list(package.requirements)
        if package.constraints:
            constraints = Path(scratch) / "constraints.txt"
            write_text(constraints, "\n".join(package.constraints) + "\n")
            requirements.append(f"-c {constraints}")
        mlflow.pyfunc.save_model(
            path=str(folder),
            loader_module=package.loader,
            data_path=str(data),
            mlflow_model=model,
            pip_requirements=requirements,
            signature=_signature(package.image_shape),
            input_example=package.example,
        )
    write_bytes(folder / CODE, package.code)
    model.flavors[mlflow.pyfunc.FLAVOR_NAME][mlflow.pyfunc.CODE] = CODE  # joins sys.path, which takes archives
    model.save(str(folder / "MLmodel"))


def _signature(image_shape: tuple[int, int, int]) -> Any:
    """Raw images in; for each a row with its class, the probability of that, and the probabilities of all classes."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec
    from mlflow.types.schema import Map

    images = TensorSpec(np.dtype(np.uint8), (-1, *image_shape))
    columns = {"class": DataType.string, "probability": DataType.double, "probabilities": Map(DataType.double)}
    return ModelSignature(Schema([images]), Schema([ColSpec(kind, name) for name, kind in columns.items()]))
