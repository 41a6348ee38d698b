"""A training that is not the one that was asked for is named, refused and shown as such; nothing foreign is scored."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from benchmarks.sync import DATA, write_evaluation, write_training
from click.testing import CliRunner

from resblock import paths
from resblock.cli import main
from resblock.core.files import digest_tree, read_json, write_json
from resblock.core.recipe import Recipe
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.splits import Split, SplitName
from resblock.core.training.run import MANIFEST
from resblock.evaluation.identity import Wanted, foreign
from resblock.study.found import Found, find, left_out
from tests.conftest import write_digits

KEY = RunKey("digits", ModelSpec.parse("residual-8"), 0)


@pytest.fixture
def wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_recipe: Callable[..., Recipe]) -> Wanted:
    """A training that lies in the working directory as it is asked for, with what was found of it."""
    monkeypatch.chdir(tmp_path)
    write_training(KEY, make_recipe(), epochs=1)
    write_evaluation(KEY, make_recipe())
    return Wanted(KEY, make_recipe(), DATA)


def manifest() -> dict[str, Any]:
    return read_json(paths.run(KEY) / MANIFEST)


def look_for(wanted: Wanted) -> Found:
    return find(wanted, paths.run(wanted.key), paths.scores(wanted.key))


def reseal(folder: Path, **changes: Any) -> None:
    """Change what a manifest says, and its key with it, as other circumstances would have."""
    content = {**read_json(folder / MANIFEST), **changes}
    status = {name: content.pop(name) for name in ("key", "status") if name in content}
    write_json(folder / MANIFEST, {**content, **status, "key": digest_tree(content)})


def test_a_training_that_is_asked_for_has_its_figures(wanted: Wanted) -> None:
    found = look_for(wanted)
    assert (found.score.status, found.reason) == ("finished", "")
    assert found.training == manifest()
    assert found.evaluation == read_json(paths.scores(KEY) / MANIFEST)
    assert foreign(manifest(), replace(wanted, data=None)) == ""  # in a clone nothing is known of the images


def test_another_machine_makes_no_training_foreign(wanted: Wanted) -> None:
    device = {"kind": "a card", "float32": "tf32"}
    reseal(paths.run(KEY), backend="jax", device=device, versions={"jax": "1"}, threads=8)
    assert foreign(manifest(), wanted) == ""


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "data": ({"data": 64 * "0"}, f"trained on other images (data 00000000; here are {DATA[:8]})"),
    "code": ({"code": 64 * "1"}, "trained by other code (core 11111111; here is "),
    "seed": ({"seed": 7}, "it is the training digits-base-residual-8-7"),
    "recipe": ({"recipe": {}}, "trained by another recipe (the recipe says nothing of epochs"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_not_as_asked_for_is_named_and_has_no_figures(name: str, wanted: Wanted) -> None:
    change, words = CHANGES[name]
    reseal(paths.run(KEY), **change)
    found = look_for(wanted)
    assert words in found.reason
    assert (found.score.status, found.score.metrics, found.training) == ("foreign", {}, None)


def test_each_key_of_the_recipe_that_differs_is_named(wanted: Wanted) -> None:
    asked = replace(wanted, recipe=replace(wanted.recipe, epochs=3, learning_rate=0.5))
    assert (
        look_for(asked).reason
        == "trained by another recipe (epochs 2 instead of 3, learning_rate 0.001 instead of 0.5)"
    )


def test_a_manifest_that_was_edited_by_hand_is_noticed(wanted: Wanted) -> None:
    write_json(paths.run(KEY) / MANIFEST, {**manifest(), "threads": 2})
    assert look_for(wanted).reason == "its run.json was edited: its key is not that of its content"
    (paths.run(KEY) / MANIFEST).write_text("{")
    assert "damaged" in look_for(wanted).reason
    (paths.run(KEY) / MANIFEST).write_text("[]")
    assert "damaged" in look_for(wanted).reason


def test_a_run_copied_from_another_seed_is_noticed(wanted: Wanted) -> None:
    other = RunKey("digits", KEY.spec, 1)
    shutil.copytree(paths.run(KEY), paths.run(other))
    assert look_for(replace(wanted, key=other)).reason == "it is the training digits-base-residual-8-0"


def test_scores_of_another_training_are_not_taken(wanted: Wanted, make_recipe: Callable[..., Recipe]) -> None:
    reseal(paths.run(KEY), threads=2)
    found = look_for(wanted)
    assert (found.score.status, found.reason) == ("foreign", "its scores are those of another training")
    write_evaluation(KEY, make_recipe())
    assert look_for(wanted).score.status == "finished"
    (paths.scores(KEY) / "score.csv").write_text("variant\nresidual-8\n")
    assert "damaged" in look_for(wanted).reason


def test_what_was_not_evaluated_yet_is_told_from_what_is_not_there(wanted: Wanted) -> None:
    shutil.rmtree(paths.scores(KEY))
    found = look_for(wanted)
    assert (found.score.status, found.reason) == ("missing", "trained, but not evaluated yet")
    shutil.rmtree(paths.run(KEY))
    found = look_for(wanted)
    assert (found.score.status, found.reason) == ("missing", "")


def test_a_diverged_training_is_diverged_whether_or_not_it_was_looked_at(wanted: Wanted) -> None:
    write_json(paths.run(KEY) / MANIFEST, {**manifest(), "status": "diverged"})
    shutil.rmtree(paths.scores(KEY))
    found = look_for(wanted)
    assert (found.score.status, found.reason, found.training) == ("diverged", "", manifest())


def test_reasons_are_given_once_with_the_trainings_they_hold_for(wanted: Wanted) -> None:
    good, bad = look_for(wanted), replace(look_for(wanted), reason="of other code")
    found = [("a", bad), ("b", bad), ("c", good), ("d", bad), ("e", bad), ("f", replace(bad, reason="edited"))]
    assert left_out(found) == ["a, b, d and 1 more: of other code", "f: edited"]


@pytest.fixture
def project(small_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the small study, and no MLflow within reach."""
    root = tmp_path / "project"
    shutil.copytree(small_study, root, ignore=shutil.ignore_patterns("mlflow.db*", "mlartifacts"))
    monkeypatch.chdir(root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return root


EVALUATE = ("evaluate", "digits", "residual-8", "0")


def test_networks_are_never_scored_on_images_they_may_have_been_trained_on(
    project: Path, digits: dict[SplitName, Split]
) -> None:
    """As after an edit of split_seed and a new cut: other images are test images now."""
    write_digits(project, {**digits, "train": digits["test"], "test": digits["train"]})
    before = (paths.scores(KEY) / "score.csv").read_bytes()
    ended = CliRunner().invoke(main, EVALUATE)
    assert ended.exit_code == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"resblock: {paths.run(KEY)}: not what params.yaml asks for, so it is not used: ")
    assert "trained on other images" in line
    assert line.endswith("`dvc repro train@digits-residual-8-0` trains it anew")
    assert (paths.scores(KEY) / "score.csv").read_bytes() == before
    assert CliRunner().invoke(main, ["report", "digits"]).exit_code == 0
    summary = (paths.report("digits") / "summary.md").read_text()
    assert "train@digits-cnn-4-0, train@digits-cnn-4-1, train@digits-residual-8-0: trained on other images" in summary
    assert "residual-8: 1 foreign, 1 missing" in summary
    metrics = json.loads((paths.report("digits") / "metrics.json").read_text())
    assert metrics["test_accuracy"]["cnn-4"] is None
    assert "trained on other images" in CliRunner().invoke(main, ["check"]).stderr


@pytest.mark.parametrize(
    ("file", "words"), [("run.json", "damaged"), ("weights.npz", "is not here; `dvc repro train@digits-")]
)
def test_a_training_that_is_not_whole_is_refused(project: Path, file: str, words: str) -> None:
    path = paths.run(KEY) / file
    path.unlink() if file == "weights.npz" else path.write_text("{")
    ended = CliRunner().invoke(main, EVALUATE)
    assert ended.exit_code == 1
    assert words in ended.stderr


def test_a_training_by_another_recipe_is_refused(project: Path) -> None:
    text = (project / paths.PARAMS).read_text()
    (project / paths.PARAMS).write_text(text.replace("batch_size: 64 ", "batch_size: 32 "))
    ended = CliRunner().invoke(main, EVALUATE)
    assert ended.exit_code == 1
    assert "trained by another recipe (batch_size 64 instead of 32)" in ended.stderr


def test_stages_name_the_file_in_which_a_merge_left_its_conflict(project: Path) -> None:
    manifest, score = paths.run(KEY) / MANIFEST, paths.scores(KEY) / "score.csv"
    score.write_text(f"<<<<<<< HEAD\n{score.read_text()}=======\n>>>>>>> other\n")
    ended = CliRunner().invoke(main, ["report", "digits"])
    assert ended.exit_code == 1  # without this score the champion may be another
    assert f"{score}, line 1: git left the conflict" in " ".join(ended.stderr.split())
    manifest.write_text("<<<<<<< HEAD\n{}\n=======\n{}\n>>>>>>> other\n")
    for command in (("report", "digits"), EVALUATE):
        ended = CliRunner().invoke(main, command)
        assert ended.exit_code == 1
        (line,) = [line for line in ended.stderr.splitlines() if line.startswith("resblock: ")]
        assert line.startswith(f"resblock: {manifest}, line 1: git left the conflict")
