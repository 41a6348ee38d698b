"""What comes from outside stays data: names are no paths, commands, markup or queries, and no file is code."""

from __future__ import annotations

import ast
import io
import os
import stat
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from resblock import paths
from resblock.cli import main
from resblock.core.files import json_bytes, read_arrays, write_json
from resblock.core.splits import Split, SplitName, array_path, read_split
from resblock.core.training.checkpoint import Checkpoint
from resblock.core.training.run import MANIFEST
from resblock.data.splits import write_splits
from resblock.params import ParamsError, read_params
from resblock.running.warm import Worker
from resblock.stages import sync

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "src/resblock").rglob("*.py"))

HOSTILE = (
    "../planted",
    "/tmp/planted",
    "digits; touch planted",
    "$(touch planted)",
    "x' OR 'a' = 'a",
    '"><script>alert(1)</script>',
    "a\nb",
    "",
)


class Payload:
    """Unpickled, it makes a file."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Callable[[str], Any], tuple[str]]:
        return (os.mkdir, (str(self.place),))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the real params.yaml, below one that nothing may be planted in."""
    folder = tmp_path / "outside" / "project"
    folder.mkdir(parents=True)
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return folder


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


# Names.


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize(
    "command",
    [
        ("download", "{}"),
        ("preprocess", "{}"),
        ("probe", "{}"),
        ("train", "{}", "cnn-4", "0"),
        ("train", "digits", "{}", "0"),
        ("train", "digits", "cnn-4", "0", "--recipe", "{}"),
        ("jobs", "{}", "cnn-4"),
        ("run", "{}"),
        ("sync", "{}"),
    ],
    ids=" ".join,
)
def test_a_name_from_the_command_line_is_no_path_and_no_command(
    command: tuple[str, ...], name: str, project: Path
) -> None:
    before = everything(project.parent)
    ended = CliRunner().invoke(main, [word.format(name) for word in command])
    assert ended.exit_code in (1, 2), ended.output
    assert ended.exception is None or isinstance(ended.exception, SystemExit)
    assert everything(project.parent) == before
    assert not Path("/tmp/planted").exists()


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize(
    ("former", "hostile"),
    [
        ("variants: [cnn-4, plain-8, residual-8,", "variants: [{}, plain-8, residual-8,"),
        ("recipes: [low-lr]", "recipes: [{}]"),
        ("  low-lr: {learning_rate: 0.0001}", "  {}: {learning_rate: 0.0001}"),
        ("datasets: [digits, cifar10]", "datasets: [{}, digits, cifar10]"),
    ],
    ids=["a variant", "a recipe", "a recipe's key", "a data set"],
)
def test_a_name_in_params_yaml_is_no_path_and_no_command(former: str, hostile: str, name: str, project: Path) -> None:
    """DVC puts these names into commands and folders, so `resblock` refuses them before it calls DVC."""
    file = project / "params.yaml"
    quoted = '"' + name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    text = file.read_text()
    assert former in text
    file.write_text(text.replace(former, hostile.replace("{}", quoted)))
    with pytest.raises(ParamsError):
        read_params(paths.PARAMS)
    before = everything(project.parent)
    assert CliRunner().invoke(main, ["run"]).exit_code == 1
    assert everything(project.parent) == before


@pytest.mark.usefixtures("project")
def test_a_result_with_a_hostile_name_or_key_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """A folder of results may have come by `git pull`."""
    for name in ("x' OR 'a' = 'a", "<script>"):
        write_json(Path("results") / name / "data/download" / MANIFEST, {"stage": "download@x", "key": "' OR 1=1"})
    sync.run(["<script>"])
    said = capsys.readouterr()
    assert "left out" in said.err
    assert "Traceback" not in said.err


# Files that are no code.


def object_array(place: Path) -> np.ndarray:
    array = np.empty(1, object)
    array[0] = Payload(place)
    return array


def with_pickles(place: Path, **arrays: np.ndarray) -> bytes:
    """Return an .npz in which a pickle lies that makes `place`."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=True, evil=object_array(place), **arrays)  # pyright: ignore[reportArgumentType]
    return buffer.getvalue()


def test_the_payload_of_these_tests_works(tmp_path: Path) -> None:
    (tmp_path / "weights.npz").write_bytes(with_pickles(tmp_path / "planted"))
    with np.load(tmp_path / "weights.npz", allow_pickle=True) as archive:
        assert archive["evil"].shape == (1,)
    assert (tmp_path / "planted").exists()


def test_weights_are_never_unpickled(tmp_path: Path) -> None:
    (tmp_path / "weights.npz").write_bytes(with_pickles(tmp_path / "planted"))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        read_arrays(tmp_path / "weights.npz")
    assert not (tmp_path / "planted").exists()


def test_a_checkpoint_is_never_unpickled(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, "key")
    state = np.frombuffer(json_bytes({"key": "key"}), np.uint8)
    checkpoint.path.write_bytes(with_pickles(tmp_path / "planted", **{"state.json": state}))
    warnings: list[str] = []
    assert checkpoint.load(warnings.append) is None
    assert "not a checkpoint of this training" in warnings[0]
    assert not (tmp_path / "planted").exists()


@pytest.mark.parametrize("kind", ["images", "labels"])
def test_splits_are_never_unpickled(tmp_path: Path, few_digits: dict[SplitName, Split], kind: Any) -> None:
    write_splits(tmp_path, few_digits, name="digits", classes=tuple("0123456789"), source="package")
    np.save(array_path(tmp_path, "train", kind), object_array(tmp_path / "planted"), allow_pickle=True)
    with pytest.raises(ValueError, match=r"allow_pickle=False|Python objects"):
        read_split(tmp_path, "train")
    assert not (tmp_path / "planted").exists()


def test_weights_with_members_outside_the_archive_write_nothing(tmp_path: Path) -> None:
    file = tmp_path / "inside" / "weights.npz"
    file.parent.mkdir()
    with zipfile.ZipFile(file, "w") as archive:
        content = io.BytesIO()
        np.save(content, np.zeros(2))
        archive.writestr("../../planted.npy", content.getvalue())
    assert list(read_arrays(file)) == ["../../planted"]
    assert everything(tmp_path) == {"inside", "inside/weights.npz"}


FORBIDDEN_IMPORTS = {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve", "cloudpickle"}
FORBIDDEN_CALLS = {"eval", "exec", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "pd.read_pickle"}


def dangers_in(source: str) -> list[str]:
    """Say what in a module may run what it reads."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names if name.name.partition(".")[0] in FORBIDDEN_IMPORTS]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in FORBIDDEN_IMPORTS:
            found.append(str(node.module))
        elif isinstance(node, ast.Call):
            name, options = ast.unparse(node.func), {option.arg: ast.unparse(option.value) for option in node.keywords}
            if name in FORBIDDEN_CALLS or options.get("shell", "False") != "False":
                found.append(name)
            if name in ("np.load", "numpy.load") and options.get("allow_pickle") != "False":
                found.append(f"{name} without allow_pickle=False")
            if name.endswith("YAML") and options.get("typ") not in ("'safe'", "'rt'"):
                found.append(f"{name} that is neither safe nor round-trip")
            if options.get("allow_pickle", "False") != "False" or options.get("safe_mode") == "False":
                found.append(f"{name} that loads code")
    return found


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "YAML(typ='unsafe')",
        "YAML()",
        "subprocess.run(words, shell=True)",
        "eval(text)",
        "keras.models.load_model(path, safe_mode=False)",
    ],
)
def test_what_runs_what_it_reads_is_recognised(source: str) -> None:
    assert dangers_in(source)


def test_no_module_runs_what_it_reads() -> None:
    assert {str(path.relative_to(ROOT)): found for path in SOURCES if (found := dangers_in(path.read_text()))} == {}


# Who may speak to a worker.


def test_only_its_owner_reaches_a_workers_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    monkeypatch.setattr(subprocess, "Popen", lambda command, **_: started.append(command))
    worker = Worker.start()
    try:
        assert str(Path(started[0][-1]).parent) == worker.folder.name
        assert stat.S_IMODE(Path(worker.folder.name).stat().st_mode) == 0o700
    finally:
        worker.folder.cleanup()
