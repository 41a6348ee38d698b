"""A person's own folder through DVC: one command adds it, and its content is what DVC watches."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.own import encoded, fill, pixels, put
from tests.pipeline.conftest import Workspace, copy_project

UP_TO_SPLITS = {"download@mine", "preprocess@mine"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A project to which a folder outside of it was added by one command, its pictures cut."""
    workspace = copy_project(tmp_path_factory.mktemp("own") / "project")
    fill(workspace.root.parent / "pictures", "first", "second", each=20)
    workspace.run("resblock", "data", "add", "mine", "../pictures")
    workspace.run("dvc", "repro", "preprocess@mine")
    return workspace


def test_what_is_touched_makes_nothing_stale_and_what_changes_does(prepared: Workspace) -> None:
    pictures = prepared.root.parent / "pictures"
    assert (prepared.root / "sources/mine").is_symlink()
    assert prepared.would_run() & UP_TO_SPLITS == set()
    os.utime(pictures / "first/000.png", (1, 1))
    assert prepared.would_run() & UP_TO_SPLITS == set()
    before = (pictures / "first/000.png").read_bytes()
    put(pictures / "first/000.png", encoded(pixels(99)))
    assert prepared.would_run() >= UP_TO_SPLITS
    put(pictures / "first/000.png", before)
    assert prepared.would_run() & UP_TO_SPLITS == set()
    added = put(pictures / "second/added.png", encoded(pixels(98)))
    assert prepared.would_run() >= UP_TO_SPLITS
    added.unlink()
    (pictures / "first/001.png").rename(pictures / "first/renamed.png")
    assert prepared.would_run() >= UP_TO_SPLITS
    (pictures / "first/renamed.png").rename(pictures / "first/001.png")


def test_the_folder_itself_is_left_as_it_was(prepared: Workspace) -> None:
    pictures: Path = prepared.root.parent / "pictures"
    assert {path.name for path in pictures.iterdir()} == {"first", "second"}
    assert len(list(pictures.rglob("*"))) == 42
    assert [path.name for path in (prepared.root / "data/raw/mine").iterdir()] == ["files.json"]
