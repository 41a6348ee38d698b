"""Who made a run: the key changes with all that decides its result, and with nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from benchmarks.sync import write_training

import resblock
from resblock import paths
from resblock.core import backends
from resblock.core.backends import variables_that_change_bits
from resblock.core.files import digest_tree, read_json, write_json
from resblock.core.recipe import Recipe
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.training import manifest
from resblock.core.training.manifest import make_manifest
from resblock.core.training.run import MANIFEST, Run, write_run
from resblock.data.table import find_dataset
from resblock.params import Params
from resblock.stages import manifests
from resblock.stages.openings import opening_of

KEY = RunKey("digits", ModelSpec("plain", 8), 0)
CHOICES: dict[str, Any] = {"data_digest": "d", "threads": 1}


@pytest.fixture
def base(make_recipe: Callable[..., Recipe]) -> dict[str, Any]:
    return make_manifest(KEY, make_recipe(), **CHOICES)


def test_the_key_is_the_digest_of_everything_else(base: dict[str, Any]) -> None:
    rest = {name: value for name, value in base.items() if name != "key"}
    assert base["key"] == digest_tree(rest)
    assert base["stage"] == "train"
    assert str(manifests.training_key(base)) == "digits-base-plain-8-0"
    assert opening_of(base).name == "train@digits-plain-8-0"


def test_equal_choices_give_equal_keys(base: dict[str, Any], make_recipe: Callable[..., Recipe]) -> None:
    assert make_manifest(KEY, make_recipe(), **CHOICES) == base


@pytest.mark.parametrize(
    "key",
    [
        RunKey("cifar10", KEY.spec, 0),
        RunKey("digits", ModelSpec("residual", 8), 0),
        RunKey("digits", ModelSpec("plain", 14), 0),
        RunKey("digits", KEY.spec, 1),
        RunKey("digits", KEY.spec, 0, "low-lr"),
    ],
    ids=str,
)
def test_another_run_has_another_key(key: RunKey, base: dict[str, Any], make_recipe: Callable[..., Recipe]) -> None:
    assert make_manifest(key, make_recipe(), **CHOICES)["key"] != base["key"]


@pytest.mark.parametrize("choice", [{"data_digest": "e"}, {"threads": 2}], ids=lambda choice: next(iter(choice)))
def test_other_circumstances_have_another_key(
    choice: dict[str, Any], base: dict[str, Any], make_recipe: Callable[..., Recipe]
) -> None:
    assert make_manifest(KEY, make_recipe(), **{**CHOICES, **choice})["key"] != base["key"]


@pytest.mark.parametrize(
    ("what", "other"),
    [("versions", lambda: {"keras": "3.16.0"}), ("code_digest", lambda: "c")],
    ids=["versions", "code"],
)
def test_other_software_has_another_key(
    what: str,
    other: Callable[[], object],
    base: dict[str, Any],
    make_recipe: Callable[..., Recipe],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert set(base["versions"]) == {"keras", "tensorflow", "numpy"}
    monkeypatch.setattr(manifest, what, other)
    assert make_manifest(KEY, make_recipe(), **CHOICES)["key"] != base["key"]


def test_other_arithmetic_has_another_key(
    base: dict[str, Any], make_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert base["backend"] == "tensorflow"
    assert base["device"]["float32"] == "float32"
    seen = {base["key"]}
    for device in ({**base["device"], "kind": "a card"}, {**base["device"], "float32": "tf32"}):
        monkeypatch.setattr(manifest, "device", lambda _, device=device: device)
        seen.add(make_manifest(KEY, make_recipe(), **CHOICES)["key"])
    assert len(seen) == 3


@pytest.mark.parametrize(
    "name",
    [
        "TF_ENABLE_ONEDNN_OPTS",
        "TF_ENABLE_ZENDNN_OPTS",
        "ONEDNN_MAX_CPU_ISA",
        "XLA_FLAGS",
        "NVIDIA_TF32_OVERRIDE",
        "CUBLAS_WORKSPACE_CONFIG",
    ],
)
def test_a_variable_that_changes_bits_is_in_the_key(
    name: str, base: dict[str, Any], make_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "0")
    monkeypatch.setenv("RESBLOCK_MIRROR", "somewhere")
    made = make_manifest(KEY, make_recipe(), **CHOICES)
    assert made["environment"] == {**base["environment"], name: "0"}
    assert made["key"] != base["key"]


@pytest.mark.parametrize("name", ["TF_CLI_CONFIG_FILE", "TF_VAR_REGION", "TF_CPP_MIN_LOG_LEVEL", "JAX_PLATFORMS"])
def test_a_variable_that_changes_none_is_not(
    name: str, base: dict[str, Any], make_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Terraform's begin as TensorFlow's."""
    monkeypatch.setenv(name, "0")
    assert make_manifest(KEY, make_recipe(), **CHOICES) == base


def test_tensorflow_takes_the_same_kernels_on_every_processor_unless_a_person_decides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = "TF_ENABLE_ONEDNN_OPTS"
    monkeypatch.delenv(name)
    monkeypatch.setattr(backends, "_pinned", {})
    assert variables_that_change_bits()[name] == "1"
    monkeypatch.setenv(name, "0")
    assert variables_that_change_bits()[name] == "0"
    monkeypatch.delenv(name)
    monkeypatch.setattr(backends, "_pinned", {"tensorflow": {}})  # imported before it could be pinned
    assert name not in variables_that_change_bits()


def test_every_choice_of_a_recipe_changes_the_key(base: dict[str, Any], make_recipe: Callable[..., Recipe]) -> None:
    others: dict[str, Any] = {
        "optimizer": "sgd",
        "schedule": "step",
        "flips": "joint",
        "center": "pixel-mean",
        "precision": "mixed_bfloat16",
        "momentum": 0.5,
        "batch_norm_momentum": 0.5,
        "gradient_epochs": [0],
    }
    for name, value in make_recipe().tree().items():
        if name not in others:
            others[name] = not value if isinstance(value, bool) else value + 1
        changed = make_manifest(KEY, make_recipe(**{name: others[name]}), **CHOICES)
        assert changed["key"] != base["key"], name


LATER = """
import json, sys
from dataclasses import dataclass, field
from pathlib import Path
from resblock.core import recipe

@dataclass(frozen=True)
class Recipe(recipe.Recipe):
    label_smoothing: float = field(default=0.0, metadata={"ge": 0, "lt": 1})

recipe.Recipe = Recipe  # before anybody else imports it
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.training.manifest import make_manifest, read_recipe
from resblock.core.training.run import read_run
from resblock.params import ParamsError, read_params

folder = Path(sys.argv[1])
text = (folder / "params.yaml").read_text()

def chosen(line):
    (folder / "later.yaml").write_text(text.replace("    optimizer: adam  ", line + "    optimizer: adam  ", 1))
    return read_params(folder / "later.yaml").recipe("digits")

def key(chosen):
    training = RunKey("digits", ModelSpec.parse("plain-8"), 0)
    return make_manifest(training, chosen, data_digest="d", threads=1)["key"]

absent, default, other = map(chosen, ("", "    label_smoothing: 0.0\\n", "    label_smoothing: 0.1\\n"))
stored = read_recipe(read_run(folder / "run").manifest)
try:
    chosen("    label_smoothing: 1.0\\n")
except ParamsError as error:
    complaint = str(error)
print(json.dumps({
    "smoothing": [each.label_smoothing for each in (absent, default, other, stored)],
    "keys": [key(each) for each in (absent, default, other, stored)],
    "equal": absent == default == stored,
    "complaint": complaint,
}))
"""


def test_a_later_key_with_a_default_makes_no_training_stale(params: Params, root: Path, tmp_path: Path) -> None:
    """Neither params.yaml, which does not say it, nor what was trained before it was there."""
    made = make_manifest(KEY, params.recipe("digits"), **CHOICES)
    write_run(tmp_path / "run", Run(made, "finished", [], {}))
    shutil.copy(root / "params.yaml", tmp_path)
    ended = subprocess.run([sys.executable, "-c", LATER, tmp_path], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert told["smoothing"] == [0.0, 0.0, 0.1, 0.0]
    absent, default, other, stored = told["keys"]
    assert absent == default == stored == made["key"]
    assert other != made["key"]
    assert told["equal"]
    assert "train.digits.label_smoothing: got 1.0, must be less than 1" in told["complaint"]


def test_a_training_by_another_recipe_says_so(base: dict[str, Any], make_recipe: Callable[..., Recipe]) -> None:
    other = make_manifest(RunKey(KEY.dataset, KEY.spec, KEY.seed, "low-lr"), make_recipe(), **CHOICES)
    assert (base["recipe_name"], other["recipe_name"]) == ("base", "low-lr")
    assert (base["stage"], other["stage"]) == ("train", "train")
    assert opening_of(other).name == f"ablate@low-lr-{KEY.spec}-{KEY.seed}"
    assert other["key"] != base["key"]


def test_the_code_that_decides_a_result_is_there() -> None:
    package = Path(resblock.__file__).parent
    assert package / "core" == manifest.CORE
    assert all((package / room).exists() for chosen in manifests.ROOMS.values() for room in chosen)
    assert manifests.code_digest("train") == manifest.code_digest()  # what the training room says of itself


def test_other_preparations_and_sources_have_other_keys(params: Params) -> None:
    digits, cifar10 = find_dataset("digits"), find_dataset("cifar10")
    chosen = params.preparation("digits")
    keys = [
        manifests.of_download(digits)["key"],
        manifests.of_download(cifar10)["key"],
        manifests.of_preprocess(digits, chosen)["key"],
        manifests.of_preprocess(digits, chosen.model_copy(update={"split_seed": 1}))["key"],
    ]
    assert len(set(keys)) == len(keys)
    assert manifests.of_preprocess(digits, chosen)["key"] == keys[2]


def test_scores_and_reports_have_other_keys_when_a_training_has(
    params: Params, make_recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    examination = params.examination("digits")

    def keys(rate: float) -> tuple[str, str]:
        recipe = make_recipe(learning_rate=rate)
        write_training(KEY, recipe, epochs=1)
        look = manifests.of_evaluate(read_json(paths.run(KEY) / MANIFEST), recipe, examination, threads=1)
        write_json(paths.scores(KEY) / MANIFEST, look)
        return look["key"], manifests.of_report("digits", params.study, [KEY], data_digest="d")["key"]

    empty = manifests.of_report("digits", params.study, [KEY], data_digest="d")["key"]
    seen = [keys(rate) for rate in (0.1, 0.2)]
    assert len({empty, *(key for pair in seen for key in pair)}) == 5
    assert keys(0.2) == seen[-1]


def test_an_evaluation_and_a_probe_say_what_computed(params: Params, make_recipe: Callable[..., Recipe]) -> None:
    recipe = make_recipe()
    training = make_manifest(KEY, recipe, **CHOICES)
    look = manifests.of_evaluate(training, recipe, params.examination("digits"), threads=1)
    probed = manifests.of_probe("digits", params.probing("digits"), recipe, data_digest="d", threads=1)
    for name in ("backend", "device", "threads", "environment", "versions"):
        assert look[name] == probed[name] == training[name]
    assert (look["training"], look["data"]) == (training["key"], training["data"])
    assert manifests.name_of(look) == paths.evaluation(KEY)


def test_a_changed_cost_changes_no_key(
    params: Params, make_recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_training(KEY, make_recipe(), epochs=1)
    before = manifests.of_report("digits", params.study, [KEY], data_digest="d")
    paths.cost(KEY).write_text("{}")
    assert manifests.of_report("digits", params.study, [KEY], data_digest="d") == before
