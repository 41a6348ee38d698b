"""Trained networks as MLflow's models: complete, loadable anywhere, registered once, and soft where the store fails."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelStatus
from mlflow.models import Model
from mlflow.tracking._tracking_service.utils import _artifact_repos_cache  # pyright: ignore[reportPrivateUsage]
from PIL import Image

from resblock import paths
from resblock.cli import main
from resblock.core.errors import UserError
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.splits import read_split
from resblock.serving.package import constraints, requirements
from resblock.stages import report, sync
from resblock.stages.models import model_package
from resblock.tracking.models import download_model, log_model, register_champion
from resblock.tracking.package import Registration

CNN = RunKey("digits", ModelSpec.parse("cnn-4"), 1)
TRAINED = [
    RunKey("digits", ModelSpec.parse(variant), seed)
    for variant, seed in (("cnn-4", 0), ("cnn-4", 1), ("residual-8", 0))
]
TRAININGS = {"digits-base-cnn-4-0", "digits-base-cnn-4-1", "digits-base-residual-8-0"}


@pytest.fixture
def project(small_study: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The small study and its store as the working directory; to be read, not written."""
    yield from _inside(small_study, monkeypatch)


@pytest.fixture
def changing(small_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the small study with its store, to be changed."""
    root = tmp_path / "project"
    shutil.copytree(small_study, root)
    yield from _inside(root, monkeypatch)


@pytest.fixture
def without_store(small_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the small study that has lost its store."""
    root = tmp_path / "project"
    shutil.copytree(small_study, root, ignore=shutil.ignore_patterns("mlflow.db*", "mlartifacts"))
    yield from _inside(root, monkeypatch)


def _inside(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(root)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    _artifact_repos_cache.clear()  # by a model's id alone, and a copy of a project has the same
    mlflow.set_tracking_uri(f"sqlite:///{root / 'mlflow.db'}")
    mlflow.set_registry_uri(f"sqlite:///{root / 'mlflow.db'}")
    yield root
    mlflow.set_tracking_uri(before[0])
    mlflow.set_registry_uri(before[1])


def client() -> MlflowClient:
    return MlflowClient()


def experiment_id() -> str:
    experiment = client().get_experiment_by_name("resblock-digits")
    assert experiment is not None
    return str(experiment.experiment_id)


def models() -> list[LoggedModel]:
    return list(client().search_logged_models([experiment_id()]))


def model_of(key: RunKey) -> LoggedModel:
    (model,) = (model for model in models() if model.name == str(key))
    return model


def manifest(key: RunKey) -> dict[str, str]:
    return json.loads(Path(f"results/digits/trainings/base/{key.spec}/seed-{key.seed}/run.json").read_text())


def test_each_finished_training_is_one_ready_model_linked_from_its_run(project: Path) -> None:
    assert {model.name for model in models()} == TRAININGS
    assert len(models()) == len(TRAININGS)
    for key in TRAINED:
        model = model_of(key)
        assert model.status == LoggedModelStatus.READY
        run = client().get_run(str(model.source_run_id))
        assert run.info.run_name == f"train@digits-{key.spec}-{key.seed}" == paths.stage(key)
        assert run.outputs is not None
        assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]
        assert model.tags["resblock.key"] == run.data.tags["resblock.key"]


def test_a_model_tells_its_signature_example_and_classes(project: Path) -> None:
    model = Model.load(f"models:/{model_of(CNN).model_id}")
    assert model.signature is not None
    (images,) = model.signature.inputs.inputs
    assert (images.type, images.shape) == (np.dtype(np.uint8), (-1, 8, 8, 1))
    assert model.signature.outputs.input_names() == ["class", "probability", "probabilities"]
    assert model.metadata is not None
    assert model.metadata["classes"] == list("0123456789")
    example: Any = model.load_input_example(f"models:/{model_of(CNN).model_id}")
    assert np.array_equal(example, read_split(project / "data/splits/digits", "validation").images[: len(example)])
    place = str(model_of(CNN).artifact_location).removeprefix("file://")
    served = json.loads(str(model.get_serving_input(place)))
    assert served == {"inputs": example.tolist()}


def test_a_model_names_its_exact_environment(project: Path) -> None:
    file = mlflow.pyfunc.get_model_dependencies(f"models:/{model_of(CNN).model_id}")
    lines = Path(file).read_text().split("\n")
    for name in ("keras", "tensorflow", "numpy", "mlflow", "pandas"):
        assert f"{name}=={version(name)}" in lines
    pinned = (Path(file).parent / "constraints.txt").read_text().split()
    for name in ("h5py", "protobuf", "sqlalchemy"):  # what those pull in
        assert f"{name}=={version(name)}" in pinned
    assert "pytest" not in "".join(pinned)


def test_versions_that_trained_count_more_than_those_installed() -> None:
    versions = {"keras": "3.0.0", "tensorflow": "2.16.1", "numpy": version("numpy")}
    assert {"keras==3.0.0", "tensorflow==2.16.1"} <= set(requirements(versions))
    assert constraints(versions) == []
    assert constraints({name: version(name) for name in versions})


# No resblock, and no package but those that the model's environment would have.
ELSEWHERE = """
import importlib.util, json, sys
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.utils import canonicalize_name

sys.path = [entry for entry in sys.path if not (Path(entry) / "resblock").is_dir()]
assert importlib.util.find_spec("resblock") is None
lines = (Path(sys.argv[1]) / "constraints.txt").read_text().split()
named = {line.partition("==")[0] for line in lines} | {"resblock"}  # which the model brings along
owners = packages_distributions()


class Environment:
    def find_spec(self, name, path=None, target=None):
        owned = {canonicalize_name(owner) for owner in owners.get(name.partition(".")[0], ())}
        if owned and not owned & named:
            raise ModuleNotFoundError(f"No module named {name!r}, nor any of {owned} in constraints.txt", name=name)


sys.meta_path.insert(0, Environment())
import mlflow.pyfunc

model = mlflow.pyfunc.load_model(sys.argv[1])
answer = model.predict(model.input_example)
import resblock

assert "code.zip" in resblock.__file__, resblock.__file__
print(json.dumps(answer.to_dict("records")))
"""


def test_a_model_loads_where_resblock_is_not_installed_and_needs_only_what_it_names(
    project: Path, tmp_path: Path
) -> None:
    folder, _ = download_model(f"models:/{model_of(CNN).model_id}", tmp_path)
    model = folder.parent.parent
    ended = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(model)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout.splitlines()[-1])
    for number, image in enumerate(read_split(project / "data/splits/digits", "validation").images[:3]):
        Image.fromarray(image[:, :, 0]).save(tmp_path / f"{number}.png")
    pictures = [str(tmp_path / f"{number}.png") for number in range(3)]
    ended = CliRunner().invoke(main, ["predict", *pictures, "--variant", "cnn-4", "--seed", "1", "--json"])
    for row, expected in zip(told, json.loads(ended.stdout)["predictions"], strict=True):
        assert row["class"] == expected["class"]
        assert row["probabilities"] == pytest.approx(expected["probabilities"], rel=1e-4)


def test_predict_answers_the_same_by_any_address_of_a_model(project: Path, tmp_path: Path) -> None:
    image = read_split(project / "data/splits/digits", "test").images[0]
    Image.fromarray(image[:, :, 0]).save(tmp_path / "picture.png")
    Image.fromarray(255 - image[:, :, 0]).save(tmp_path / "paper.png")
    best = client().get_model_version_by_alias("resblock-digits", "champion")
    source = str(best.source)
    run_id = client().get_logged_model(source.removeprefix("models:/")).source_run_id
    name = f"digits-base-{best.tags['resblock.variant']}-{best.tags['resblock.seed']}"
    expected = CliRunner().invoke(main, ["predict", str(tmp_path / "picture.png"), "--json"])
    for uri in ("models:/resblock-digits@champion", f"runs:/{run_id}/{name}", source):
        ended = CliRunner().invoke(main, ["predict", str(tmp_path / "picture.png"), "--json", "--model-uri", uri])
        assert (ended.exit_code, ended.stdout, ended.stderr) == (0, expected.stdout, "")
    ended = CliRunner().invoke(main, ["predict", str(tmp_path / "paper.png"), "--model-uri", source])
    assert "try it with --invert" in ended.stderr


def test_a_model_that_is_not_there_or_not_ours_is_refused(project: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be fetched from sqlite"):
        download_model("models:/resblock-digits@nobody", tmp_path)
    (tmp_path / "MLmodel").write_text("flavors: {}\n")
    with pytest.raises(UserError, match="no model that resblock logged"):
        download_model(str(tmp_path), tmp_path / "copy")


def test_the_champion_is_registered_with_its_reason(project: Path) -> None:
    best = client().get_model_version_by_alias("resblock-digits", "champion")
    accuracy = {
        seed: json.loads(Path(f"results/digits/trainings/base/cnn-4/seed-{seed}/metrics.json").read_text())
        for seed in (0, 1)
    }
    seed = max(accuracy, key=lambda seed: accuracy[seed]["validation_accuracy_reestimated"])
    mean = sum(metrics["validation_accuracy_reestimated"] for metrics in accuracy.values()) / 2
    key = manifest(RunKey("digits", ModelSpec.parse("cnn-4"), seed))["key"]
    assert best.tags == {"resblock.variant": "cnn-4", "resblock.seed": str(seed), "resblock.key": key}
    assert best.description is not None
    assert f"cnn-4: mean validation accuracy {mean:.4f} over 2 seeds" in best.description
    assert "Runner-up: residual-8" in best.description
    assert len(client().search_model_versions("name = 'resblock-digits'")) == 1


def test_logging_or_registering_the_same_result_twice_changes_nothing(changing: Path) -> None:
    sync.run([])
    before = models(), client().search_model_versions("name = 'resblock-digits'")
    package = model_package(CNN)
    assert package is not None
    model = model_of(CNN)
    assert log_model(client(), str(model.source_run_id), package) == model.model_id
    best = client().get_model_version_by_alias("resblock-digits", "champion")
    same = Registration("digits", "train@x", best.tags["resblock.key"], str(best.description), {})
    assert register_champion(client(), same) == ""
    assert sync.run([])
    after = models(), client().search_model_versions("name = 'resblock-digits'")
    assert [model.to_dictionary() for model in before[0]] == [model.to_dictionary() for model in after[0]]
    assert [dict(version) for version in before[1]] == [dict(version) for version in after[1]]


def test_another_champion_gets_a_version_and_the_alias(changing: Path) -> None:
    sync.run([])
    other = manifest(RunKey("digits", ModelSpec.parse("residual-8"), 0))["key"]
    champion = Registration("digits", "train@x", other, "by hand", {"resblock.variant": "residual-8"})
    assert register_champion(client(), champion, check=True) == "is not registered and is not the champion"
    assert len(client().search_model_versions("name = 'resblock-digits'")) == 1
    assert register_champion(client(), champion) == "is not registered and is not the champion"
    best = client().get_model_version_by_alias("resblock-digits", "champion")
    assert (best.tags["resblock.key"], best.description) == (other, "by hand")
    assert len(client().search_model_versions("name = 'resblock-digits'")) == 2
    sync.run([])  # the files know better
    assert client().get_model_version_by_alias("resblock-digits", "champion").tags["resblock.variant"] == "cnn-4"
    assert len(client().search_model_versions("name = 'resblock-digits'")) == 2
    assert register_champion(client(), Registration("digits", "train@x", "unknown", "", {})) is None


def test_an_experiment_of_dvcs_registers_no_champion(changing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be one epoch long and never taken, and works in a copy that has a store of its own for MLflow."""
    sync.run([])
    client().delete_registered_model_alias("resblock-digits", "champion")
    monkeypatch.setenv("DVC_ROOT", str(changing))
    monkeypatch.setenv("DVC_EXP_NAME", "quick")
    report.run("digits")
    name = "report@digits (quick)"
    (run,) = client().search_runs([experiment_id()], f"attributes.run_name = '{name}'")
    assert run.info.status == "FINISHED"
    assert not client().get_registered_model("resblock-digits").aliases
    monkeypatch.delenv("DVC_EXP_NAME")
    sync.run([])
    assert "champion" in client().get_registered_model("resblock-digits").aliases


def test_sync_gives_results_from_files_their_models(without_store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not sync.run([], check=True)
    assert not sync.run([])
    assert {model.name for model in models()} == TRAININGS
    assert client().get_model_version_by_alias("resblock-digits", "champion").tags["resblock.variant"] == "cnn-4"
    assert sync.run([], check=True)
    client().delete_logged_model(model_of(CNN).model_id)
    capsys.readouterr()
    assert not sync.run([], check=True)
    assert "train@digits-cnn-4-1: its model is not in MLflow" in capsys.readouterr().out
    assert not sync.run([])
    assert {model.name for model in models()} == TRAININGS


def test_models_whose_files_are_gone_are_noticed_and_brought_back(
    changing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sync.run([])
    before = {model.name: model.model_id for model in models()}
    shutil.rmtree(changing / "mlartifacts/resblock-digits/models")
    capsys.readouterr()
    assert not sync.run([], check=True)
    assert f"{paths.stage(CNN)}: its model's files are gone" in capsys.readouterr().out
    with pytest.raises(UserError, match="`resblock sync` brings back"):
        download_model("models:/resblock-digits@champion", changing / "fetched")
    sync.run([])
    assert {model.name: model.model_id for model in models()} == before
    assert sync.run([], check=True)
    assert download_model("models:/resblock-digits@champion", changing / "fetched")[0].is_dir()


def test_without_weights_there_is_no_model_and_sync_says_so(
    without_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for weights in without_store.glob("results/digits/trainings/*/*/*/weights.npz"):
        weights.unlink()
    assert not list(without_store.rglob("weights.npz"))
    assert not sync.run([])
    assert "3 trainings without a model in MLflow, since files of theirs are not here" in capsys.readouterr().out
    assert models() == []
    assert sync.run([], check=True)


def test_a_training_by_another_recipe_has_a_model_of_its_own(changing: Path) -> None:
    spec = ModelSpec.parse("residual-8")
    ablated = RunKey("digits", spec, 0, "low-lr")
    for place, told in ((paths.run, {"key": "0" * 64}), (paths.scores, {"key": "1" * 64, "training": "0" * 64})):
        shutil.copytree(place(RunKey("digits", spec, 0)), place(ablated))
        file = place(ablated) / "run.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "recipe_name": "low-lr", **told}))
    sync.run([])
    assert {model.name for model in models()} == TRAININGS | {"digits-low-lr-residual-8-0"}
    assert model_of(ablated).tags["resblock.key"] == "0" * 64
    assert model_of(ablated).params["recipe"] == "low-lr"
    assert client().get_run(str(model_of(ablated).source_run_id)).info.run_name == "ablate@low-lr-residual-8-0"


def test_files_that_give_no_model_give_no_package(without_store: Path) -> None:
    assert model_package(CNN) is not None
    file = Path("results/digits/trainings/base/cnn-4/seed-1/run.json")
    whole = file.read_text()
    for damage in (('"finished"', '"diverged"'), (manifest(CNN)["data"], "0" * 64), (manifest(CNN)["key"], "0" * 64)):
        file.write_text(whole.replace(*damage))
        assert model_package(CNN) is None
    file.unlink()
    assert model_package(CNN) is None


FULL = """
import json, os
from pathlib import Path
from mlflow import MlflowClient
from resblock.core.spec import ModelSpec, RunKey
from resblock.stages.models import log_network
from resblock.stages.openings import opening_of
from resblock.tracking.stage import track

def full(*_, **__):
    raise OSError(28, "No space left on device")

MlflowClient.log_model_artifacts = full
manifest = json.loads(Path("results/digits/trainings/base/cnn-4/seed-1/run.json").read_text())
with track(opening_of(manifest), about="text", warn=print) as run:
    for _ in range(2):
        log_network(run, RunKey("digits", ModelSpec.parse("cnn-4"), 1), run.run_id)
"""


def test_a_store_without_room_for_a_model_costs_one_warning_and_sync_completes_it(without_store: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", FULL], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    (warning,) = ended.stdout.splitlines()
    assert "No space left on device" in warning
    unfinished = model_of(CNN)
    assert unfinished.status == LoggedModelStatus.PENDING
    sync.run([])
    assert model_of(CNN).status == LoggedModelStatus.READY
    assert model_of(CNN).model_id == unfinished.model_id
    assert {model.name for model in models()} == TRAININGS


def test_tracking_models_needs_no_keras() -> None:
    code = (
        "import sys, resblock.tracking.models, resblock.tracking.package, resblock.serving.package\n"
        "assert not {'keras', 'tensorflow', 'jax'} & set(sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
