"""Trainings that are compared were made alike, or the reader is told in what they were not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from resblock import paths
from resblock.cli import main
from resblock.core.files import write_json
from resblock.core.recipe import Recipe
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.training.manifest import make_manifest
from resblock.core.training.run import MANIFEST
from resblock.study.provenance import mixtures

KEYS = [RunKey("digits", ModelSpec.parse("cnn-4"), seed) for seed in (0, 1, 2)]


@pytest.fixture
def made(make_recipe: Callable[..., Recipe], backend: int) -> list[dict[str, Any]]:
    """Manifests of three trainings that were made alike."""
    return [make_manifest(key, make_recipe(), data_digest="d", threads=1) for key in KEYS]


def test_trainings_that_differ_in_network_and_seed_were_made_alike(
    made: list[dict[str, Any]], make_recipe: Callable[..., Recipe]
) -> None:
    other = RunKey("digits", ModelSpec.parse("residual-8"), 7, "low-lr")
    ablation = make_manifest(other, make_recipe(learning_rate=0.1), data_digest="d", threads=1)
    assert mixtures([*made, ablation]) == []
    assert mixtures([]) == []


CHANGES: dict[str, tuple[Any, str]] = {
    "backend": ("jax", "several backends: tensorflow (2); jax (1)"),
    "device": ({"kind": "a card", "float32": "tf32"}, "; kind a card, float32 tf32 (1)"),
    "threads": (2, "several numbers of threads: 1 (2); 2 (1)"),
    "versions": ({"keras": "3.0.0"}, "; keras 3.0.0 (1)"),
    "data": ("0123456789" + 54 * "a", "several data: d (2); 01234567 (1)"),
    "code": (None, "; not recorded (1)"),
    "environment": ({"XLA_FLAGS": "--fast"}, "several variables that change bits: none (2); XLA_FLAGS --fast (1)"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_differs_is_named_with_its_counts(name: str, made: list[dict[str, Any]]) -> None:
    value, words = CHANGES[name]
    made[2][name] = value
    (sentence,) = mixtures(made)
    assert sentence.startswith("several ")
    assert sentence.endswith(words)


def test_recipes_of_one_name_that_differ_are_shown_in_what_differs(made: list[dict[str, Any]]) -> None:
    made[1]["recipe"] = {**made[1]["recipe"], "epochs": 3}
    assert mixtures(made) == ["several recipes called base: epochs 2 (2); epochs 3 (1)"]


def test_check_says_what_a_study_mixes(
    made: list[dict[str, Any]], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / paths.PARAMS).write_text((root / paths.PARAMS).read_text())
    monkeypatch.chdir(tmp_path)
    made[2].update(backend="jax", threads=2)
    for key, manifest in zip(KEYS, made, strict=True):
        write_json(paths.run(key) / MANIFEST, manifest)
    checked = CliRunner().invoke(main, ["check"])
    assert checked.exit_code == 0
    assert checked.stderr.splitlines() == [
        f"warning: the trainings on digits that are here were made by {words}"
        for words in ("several backends: tensorflow (2); jax (1)", "several numbers of threads: 1 (2); 2 (1)")
    ]
