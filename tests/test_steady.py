"""Nothing is recorded under parameters or code that it was not trained with: DVC reads both when a stage has ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from resblock import paths
from resblock.core.errors import UserError
from resblock.core.files import digest_file
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.splits import Split, SplitName
from resblock.core.training.run import EpochRow
from resblock.stages import train
from tests.conftest import write_digits
from tests.test_faults import prepare

KEY = RunKey("digits", ModelSpec("cnn", 4), 0)


@pytest.fixture
def project(tmp_path: Path, digits: dict[SplitName, Split], monkeypatch: pytest.MonkeyPatch, backend: int) -> Path:
    return prepare(tmp_path, digits, monkeypatch)


def edit_in_the_middle(patch: pytest.MonkeyPatch, before: str, after: str) -> None:
    """Edit params.yaml once the first epoch has ended."""
    original = train.Watcher.epoch

    def epoch(self: train.Watcher, row: EpochRow) -> None:
        original(self, row)
        if row.epoch == 1:
            text = paths.PARAMS.read_text()
            assert before in text
            paths.PARAMS.write_text(text.replace(before, after, 1))

    patch.setattr(train.Watcher, "epoch", epoch)


def test_a_training_whose_recipe_was_edited_meanwhile_ends_badly_and_goes_on_once_the_edit_is_undone(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train.run(KEY)
    undisturbed = {path.name: digest_file(path) for path in paths.run(KEY).iterdir()}
    with monkeypatch.context() as patch:
        edit_in_the_middle(patch, "learning_rate: 0.001 ", "learning_rate: 0.002 ")
        with pytest.raises(UserError, match=r"params\.yaml has another recipe for it than when it began"):
            train.run(KEY)
    paths.PARAMS.write_text(paths.PARAMS.read_text().replace("learning_rate: 0.002 ", "learning_rate: 0.001 ", 1))
    capsys.readouterr()
    train.run(KEY)
    assert "goes on after epoch 2" in capsys.readouterr().out
    assert {path.name: digest_file(path) for path in paths.run(KEY).iterdir()} == undisturbed
    assert not list(paths.CHECKPOINTS.glob("*.npz"))


def test_an_edit_that_does_not_concern_a_training_does_not_disturb_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit_in_the_middle(monkeypatch, "corrupted_images: 180", "corrupted_images: 20")
    train.run(KEY)


def test_a_training_whose_code_was_edited_meanwhile_ends_badly(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "digest_sources", lambda _: "another")
    with pytest.raises(UserError, match="the code in core is another than when it began"):
        train.run(KEY)


def test_a_training_whose_images_were_cut_anew_meanwhile_ends_badly(
    project: Path, digits: dict[SplitName, Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = train.Watcher.epoch

    def epoch(self: train.Watcher, row: EpochRow) -> None:
        original(self, row)
        write_digits(Path(), {**digits, "test": digits["validation"]})

    monkeypatch.setattr(train.Watcher, "epoch", epoch)
    with pytest.raises(UserError, match="the images in data/splits/digits are others than when it began"):
        train.run(KEY)
