"""Trainings that are compared were made alike, or the reader is told in what they were not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from resblock import paths
from resblock.cli import main
from resblock.core.files import digest_tree, write_json
from resblock.core.recipe import Recipe
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.training.manifest import make_manifest
from resblock.core.training.run import MANIFEST
from resblock.study.provenance import examined_unlike, mixtures

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
    "environment": ({"XLA_FLAGS": "--fast"}, "; XLA_FLAGS --fast (1)"),
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


def test_evaluations_that_were_not_made_alike_are_told_apart() -> None:
    looks = [{"threads": 1, "examination": {"lesion_draws": draws}} for draws in (3, 3, 2)]
    assert examined_unlike(looks[:2]) == []
    assert examined_unlike(looks) == ["Evaluated by several ways of looking: lesion_draws 3 (2); lesion_draws 2 (1)"]


def test_check_says_what_a_study_mixes_and_what_is_not_the_studys(
    made: list[dict[str, Any]], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (root / paths.PARAMS).read_text().replace("epochs: 20                 #", "epochs: 2  #")
    text = text.replace("schedule: cosine           #", "schedule: constant  #")
    (tmp_path / paths.PARAMS).write_text(text.replace("reestimate_images: 500     #", "reestimate_images: 128  #"))
    monkeypatch.chdir(tmp_path)
    made[1].update(backend="jax", threads=2)
    made[2]["recipe"] = {**made[2]["recipe"], "epochs": 5}
    for key, manifest in zip(KEYS, made, strict=True):
        content = {name: value for name, value in manifest.items() if name != "key"}
        write_json(paths.run(key) / MANIFEST, {**content, "key": digest_tree(content), "status": "finished"})
    checked = CliRunner().invoke(main, ["check"])
    assert checked.exit_code == 0
    foreign = "trained by another recipe (epochs 5 instead of 2)"
    assert checked.stderr.splitlines() == [
        f"warning: here, but not what params.yaml asks for, so without figures: train@digits-cnn-4-2: {foreign}",
        *(
            f"warning: the trainings on digits that are here were made by {words}"
            for words in ("several backends: tensorflow (1); jax (1)", "several numbers of threads: 1 (1); 2 (1)")
        ),
    ]
