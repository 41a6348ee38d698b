"""Times lie where a repeat changes nothing that git sees, and are told apart by the training that took them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from resblock import costs, paths
from resblock.cli import main
from resblock.core.files import read_json, write_json
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.training.run import MANIFEST, Cost, write_cost

KEY = RunKey("digits", ModelSpec.parse("plain-8"), 0)
FIRST = Cost("2026-01-02T03:04:05+00:00", (2.0, 1.0), 300.0, 1000, 5000, "theirs", 1, {"keras": "3"})
AGAIN = replace(FIRST, epoch_seconds=(8.0, 4.0), images_per_second=75.0, machine="ours")
OTHER = replace(FIRST, epoch_seconds=(9.0,))


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def leave(training: str, *verified: str) -> dict[str, object]:
    """Leave the manifest of a training, and return it."""
    manifest: dict[str, object] = {"key": training, "verified": [{"key": key} for key in verified]}
    paths.run(KEY).mkdir(parents=True, exist_ok=True)
    write_json(paths.run(KEY) / MANIFEST, manifest)
    return manifest


def test_a_repeat_leaves_published_times_as_they_are() -> None:
    costs.record(KEY, "k", FIRST)
    before = paths.cost(KEY).read_bytes()
    costs.record(KEY, "k", AGAIN)
    assert paths.cost(KEY).read_bytes() == before
    manifest = leave("k")
    for taken, cost, whose in (
        (costs.published_first(KEY, manifest), FIRST, "published"),
        (costs.own_first(KEY, manifest), AGAIN, "here"),
        (costs.own_first(KEY), AGAIN, "here"),
    ):
        assert taken is not None
        assert (taken.cost, taken.whose) == (cost, whose)


def test_git_does_not_see_the_times_of_a_repeat(root: Path) -> None:
    assert f"/{paths.own_cost(KEY).parts[0]}/" in (root / ".gitignore").read_text().splitlines()
    assert paths.cost(KEY).parts[0] == "results"


def test_times_of_another_training_are_not_taken_for_this_ones() -> None:
    costs.record(KEY, "k", FIRST)
    costs.record(KEY, "edited", OTHER)  # after an edit of the recipe
    edited = costs.published_first(KEY, leave("edited"))
    assert edited is not None
    assert (edited.cost, edited.whose) == (OTHER, "here")
    undone = costs.own_first(KEY, leave("k"))
    assert undone is not None
    assert (undone.cost, undone.whose) == (FIRST, "published")
    assert costs.own_first(KEY, leave("a third")) is None


def test_a_training_whose_new_code_was_accepted_keeps_its_times() -> None:
    costs.record(KEY, "k", FIRST)
    assert costs.published_first(KEY, leave("new", "k")) is not None


def test_times_that_name_no_training_are_taken_as_earlier_versions_meant_them() -> None:
    write_cost(paths.cost(KEY), FIRST)
    taken = costs.published_first(KEY, leave("k"))
    assert taken is not None
    assert taken.cost == FIRST


def test_both_times_are_shown_and_ones_own_can_be_published() -> None:
    leave("k")
    costs.record(KEY, "k", FIRST)
    costs.record(KEY, "k", AGAIN)
    shown = CliRunner().invoke(main, ["times", "digits"], catch_exceptions=False).output
    assert "3 s, 300 images/s" in shown
    assert "12 s, 75 images/s" in shown
    assert "published: theirs\nthis folder: ours" in shown
    said = CliRunner().invoke(main, ["times", "digits", "--publish"], catch_exceptions=False).output
    assert "times of 1 trainings published" in said
    assert read_json(paths.cost(KEY))["machine"] == "ours"
    assert json.loads(paths.cost(KEY).read_text())["training"] == "k"


def test_a_data_set_without_times_says_how_to_get_some() -> None:
    ended = CliRunner().invoke(main, ["times", "digits"])
    assert ended.exit_code == 1
    assert "resblock run digits" in ended.output + ended.stderr


def test_published_times_belong_to_the_published_trainings(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    for dataset in paths.datasets():
        for key in paths.timed(dataset):
            if paths.cost(key).is_file() and (paths.run(key) / MANIFEST).is_file():
                taken = costs.published_first(key, read_json(paths.run(key) / MANIFEST))
                assert taken is not None, key
                assert taken.whose == "published", f"{key}: `resblock times {dataset} --publish` puts its own there"
