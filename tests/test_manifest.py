"""Who made a run: the key changes with all that decides its result, and with nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from benchmarks.sync import write_training

import resblock
from resblock import paths
from resblock.core.files import digest_tree, write_json
from resblock.core.recipe import Recipe
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.training import manifest
from resblock.core.training.manifest import make_manifest
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


def test_every_choice_of_a_recipe_changes_the_key(base: dict[str, Any], make_recipe: Callable[..., Recipe]) -> None:
    others: dict[str, Any] = {
        "optimizer": "sgd",
        "schedule": "step",
        "flips": "joint",
        "center": "pixel-mean",
        "precision": "mixed_bfloat16",
        "batch_norm_momentum": 0.5,
        "gradient_epochs": [0],
    }
    for name, value in make_recipe().tree().items():
        if name not in others:
            others[name] = not value if isinstance(value, bool) else value + 1
        changed = make_manifest(KEY, make_recipe(**{name: others[name]}), **CHOICES)
        assert changed["key"] != base["key"], name


def test_a_training_by_another_recipe_says_so(base: dict[str, Any], make_recipe: Callable[..., Recipe]) -> None:
    other = make_manifest(RunKey(KEY.dataset, KEY.spec, KEY.seed, "low-lr"), make_recipe(), **CHOICES)
    assert (base["recipe_name"], other["recipe_name"]) == ("base", "low-lr")
    assert (base["stage"], other["stage"]) == ("train", "train")
    assert opening_of(other).name == f"ablate@low-lr-{KEY.spec}-{KEY.seed}"
    assert other["key"] != base["key"]


def test_the_code_that_decides_a_result_is_there() -> None:
    package = Path(resblock.__file__).parent
    assert manifest.CORE == package / "core"
    assert all((package / room).exists() for rooms in manifests.ROOMS.values() for room in rooms)
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
    study = params.study.model_copy(update={"variants": ["plain-8"], "seeds": [0]})

    def keys() -> tuple[str, str]:
        scores = manifests.of_evaluate("digits", study, params.examination("digits"), data_digest="d", threads=1)
        write_json(paths.manifest("evaluate", "digits"), scores)
        return scores["key"], manifests.of_report("digits", study, [], data_digest="d")["key"]

    seen = [keys()]
    for rate in (0.1, 0.2):
        write_training(KEY, make_recipe(learning_rate=rate), epochs=1)
        seen.append(keys())
    assert len({key for pair in seen for key in pair}) == 6
    assert keys() == seen[-1]


def test_a_changed_cost_changes_no_key(
    params: Params, make_recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_training(KEY, make_recipe(), epochs=1)
    before = manifests.of_report("digits", params.study, [], data_digest="d")
    paths.cost(KEY).write_text("{}")
    assert manifests.of_report("digits", params.study, [], data_digest="d") == before
