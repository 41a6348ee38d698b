"""The registered champion behind `mlflow models serve`: the same numbers over HTTP as from `resblock predict`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus
from PIL import Image

from tests.conftest import free_port
from tests.pipeline.conftest import Workspace
from tests.pipeline.test_pipeline import ABLATIONS, TRAININGS

STARTING = 180  # seconds


@pytest.fixture(scope="module")
def address(finished: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where `mlflow models serve` answers for the champion, while it runs."""
    port = free_port()
    command = [str(Path(sys.executable).parent / "mlflow"), "models", "serve", "--env-manager", "local"]
    command += ["--model-uri", "models:/resblock-digits@champion", "--port", str(port)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{finished.root / 'mlflow.db'}"
    log_path = tmp_path_factory.mktemp("serve") / "log"
    with log_path.open("w") as log:
        server = subprocess.Popen(
            command, cwd=finished.root, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + STARTING
        while not _answers(address):
            assert server.poll() is None and time.monotonic() < deadline, log_path.read_text()
            time.sleep(0.3)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)  # mlflow, and the server that it starts
        server.wait(timeout=30)
    deadline = time.monotonic() + STARTING
    while _answers(address):  # its child may end a moment later
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/ping", timeout=2):
            return True
    except OSError:
        return False


def post(address: str, body: Any) -> Any:
    request = urllib.request.Request(
        f"{address}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def test_serving_answers_with_the_numbers_of_predict(address: str, finished: Workspace, tmp_path: Path) -> None:
    images = np.load(finished.root / "data/splits/digits/test_images.npy")[:5]
    pictures = [str(tmp_path / f"{number}.png") for number in range(len(images))]
    for picture, image in zip(pictures, images, strict=True):
        Image.fromarray(image[:, :, 0]).save(picture)
    said = json.loads(finished.run("resblock", "predict", *pictures, "--json").stdout)["predictions"]
    served = post(address, {"inputs": images.tolist()})["predictions"]
    assert len(served) == len(said) == 5
    for over_http, printed in zip(served, said, strict=True):
        assert over_http["class"] == printed["class"]
        assert over_http["probability"] == pytest.approx(printed["probability"], rel=1e-4)
        assert over_http["probabilities"] == pytest.approx(printed["probabilities"], rel=1e-4, abs=1e-7)


def test_the_input_example_can_be_posted_as_it_is(address: str, finished: Workspace) -> None:
    (example, *_) = (finished.root / "mlartifacts").rglob("serving_input_example.json")
    predictions = post(address, json.loads(example.read_text()))["predictions"]
    assert [set(row) for row in predictions] == [{"class", "probability", "probabilities"}] * 3


@pytest.mark.parametrize(
    "inputs",
    [np.zeros((1, 9, 9, 1), int), np.zeros((8, 8, 1), int), np.full((1, 8, 8, 1), 256)],
    ids=["another size", "no list of images", "no bytes"],
)
def test_what_is_no_image_of_the_networks_shape_is_a_bad_request(address: str, inputs: np.ndarray) -> None:
    with pytest.raises(urllib.error.HTTPError) as refusal:
        post(address, {"inputs": inputs.tolist()})
    assert refusal.value.code == 400
    refusal.value.close()


def test_a_finished_study_has_its_models_and_its_champion_in_mlflow(finished: Workspace) -> None:
    store = f"sqlite:///{finished.root / 'mlflow.db'}"
    client = MlflowClient(store, store)  # its registry, not one that another test of this process has named
    experiment = client.get_experiment_by_name("resblock-digits")
    assert experiment is not None
    models = {model.model_id: model for model in client.search_logged_models([experiment.experiment_id])}
    trained = {name.replace("train@digits-", "digits-base-") for name in TRAININGS}
    trained |= {name.replace("ablate@", "digits-") for name in ABLATIONS}
    assert {model.name for model in models.values()} == trained
    assert {model.status for model in models.values()} == {LoggedModelStatus.READY}
    champion = client.get_model_version_by_alias("resblock-digits", "champion")
    model = models[str(champion.source).removeprefix("models:/")]
    assert model.name == f"digits-base-{champion.tags['resblock.variant']}-{champion.tags['resblock.seed']}"
