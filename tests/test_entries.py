"""A data set's entry in params.yaml: written by a command, completed by defaults, and nothing else touched."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from ruamel.yaml import YAML

from resblock import defaults, paths
from resblock.cli import main
from resblock.core.errors import UserError
from resblock.core.splits import read_description
from resblock.data.entries import defaults_in_use, require_written
from resblock.data.review import read_review
from resblock.params import ParamsError, read_params
from resblock.stages import datasets
from tests.conftest import ROOT
from tests.own import encoded, fill, put

SECTIONS = ("data", "train", "probes", "evaluation")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of params.yaml, with a person's pictures outside of it."""
    (tmp_path / "project").mkdir()
    shutil.copy(ROOT / "params.yaml", tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # no store is wanted
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    fill(tmp_path / "flowers", "rose", "tulip", each=40)
    return tmp_path / "project"


def call(*arguments: str) -> None:
    assert not main(list(arguments), standalone_mode=False)


def tree() -> dict[str, Any]:
    return YAML(typ="safe").load(paths.PARAMS.read_text())


def test_one_command_adds_a_folder_and_touches_nothing_else(project: Path, tmp_path: Path) -> None:
    before = (ROOT / "params.yaml").read_text().splitlines()
    call("data", "add", "flowers", str(tmp_path / "flowers"))
    after = paths.PARAMS.read_text().splitlines()
    changed = [line for line in before if line not in after]
    assert changed == ["  datasets: [digits, cifar10]  # digits | cifar10 | cifar100 | your own"]
    assert "  datasets: [digits, cifar10, flowers]  # digits | cifar10 | cifar100 | your own" in after
    assert (project / "sources/flowers").resolve() == tmp_path / "flowers"
    whole = tree()
    assert whole["data"]["flowers"]["format"] == "folder"
    assert (whole["data"]["flowers"]["size"], whole["data"]["flowers"]["channels"]) == (8, 3)
    for section in SECTIONS:
        assert set(defaults.sections()[section]) <= set(whole[section]["flowers"])
        assert whole[section]["digits"] == YAML(typ="safe").load("\n".join(before))[section]["digits"]
    assert defaults_in_use(paths.PARAMS, "flowers") == {}
    assert read_params(paths.PARAMS).recipe("flowers").horizontal_flip is False


def test_a_second_call_changes_nothing(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call("data", "add", "flowers", str(tmp_path / "flowers"))
    text = paths.PARAMS.read_text()
    call("data", "add", "flowers", str(tmp_path / "flowers"))
    assert paths.PARAMS.read_text() == text
    assert "flowers is there already" in capsys.readouterr().out


def test_a_list_of_one_name_a_line_is_added_to(project: Path, tmp_path: Path) -> None:
    text = paths.PARAMS.read_text()
    text = re.sub(r"  datasets: .*", "  datasets:\n    - digits\n    - cifar10", text)
    paths.PARAMS.write_text(text)
    call("data", "add", "flowers", str(tmp_path / "flowers"))
    assert tree()["study"]["datasets"] == ["digits", "cifar10", "flowers"]


def test_a_published_set_is_added_by_its_name(project: Path) -> None:
    with pytest.raises(UserError, match="cifar100 is published as it is"):
        datasets.add("cifar100", None, datasets.Choices(size=64))
    call("data", "add", "cifar100")
    assert tree()["study"]["datasets"][-1] == "cifar100"
    assert read_params(paths.PARAMS).preparation("cifar100").test_fraction == "auto"


def test_a_published_set_that_is_described_only_joins_the_study(project: Path) -> None:
    paths.PARAMS.write_text(re.sub("datasets: .*", "datasets: [digits]", paths.PARAMS.read_text()))
    text = paths.PARAMS.read_text()
    call("data", "add", "cifar10")
    assert paths.PARAMS.read_text() == text.replace("datasets: [digits]", "datasets: [digits, cifar10]")


def test_an_entry_of_its_format_alone_is_enough(project: Path, tmp_path: Path) -> None:
    text = paths.PARAMS.read_text().replace("\ntrain:  #", "  flowers:\n    format: folder\n\ntrain:  #", 1)
    paths.PARAMS.write_text(text.replace("[digits, cifar10]", "[digits, cifar10, flowers]"))
    params = read_params(paths.PARAMS)
    assert params.preparation("flowers").split_seed == 0
    assert params.recipe("flowers").epochs == defaults.recipe()["epochs"]
    assert params.probing("flowers").lines == defaults.probing()["lines"]
    assert "train.flowers.epochs" in defaults_in_use(paths.PARAMS, "flowers")
    with pytest.raises(ParamsError, match=r"leaves 3\d keys of flowers to the defaults .* `resblock data add flowers`"):
        require_written(paths.PARAMS, "flowers")
    require_written(paths.PARAMS, "digits")
    (project / "sources").mkdir()
    (project / "sources/flowers").symlink_to(tmp_path / "flowers")
    call("data", "add", "flowers")
    require_written(paths.PARAMS, "flowers")


def test_a_default_is_overridden_key_by_key(project: Path) -> None:
    text = paths.PARAMS.read_text().replace("\ntrain:  #", "  flowers:\n    format: folder\n\ntrain:  #", 1)
    text = text.replace("\nprobes:  #", "  flowers:\n    epochs: 3\n\nprobes:  #", 1)
    paths.PARAMS.write_text(text)
    recipe = read_params(paths.PARAMS).recipe("flowers")
    assert (recipe.epochs, recipe.batch_size) == (3, defaults.recipe()["batch_size"])
    assert "train.flowers.epochs" not in defaults_in_use(paths.PARAMS, "flowers")


def test_check_shows_the_defaults_in_use(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = paths.PARAMS.read_text().replace("\ntrain:  #", "  flowers:\n    format: folder\n\ntrain:  #", 1)
    paths.PARAMS.write_text(text.replace("[digits, cifar10]", "[digits, cifar10, flowers]"))
    fill(Path("sources/flowers"), "a", "b")
    call("check")
    said = capsys.readouterr()
    assert "  default    train.flowers.epochs: 20\n" in said.out
    assert "`resblock data add flowers` writes them down" in said.err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("format: tfrecord", "data.flowers.format: got 'tfrecord', must be one of folder, arrays, parquet"),
        ("format: cifar100\n    label: corse", "data.flowers.label: got 'corse', must be fine or coarse"),
    ],
)
def test_check_refuses_words_that_no_reader_knows(
    project: Path, line: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = paths.PARAMS.read_text().replace("\ntrain:  #", f"  flowers:\n    {line}\n\ntrain:  #", 1)
    paths.PARAMS.write_text(text.replace("[digits, cifar10]", "[digits, cifar10, flowers]"))
    fill(Path("sources/flowers"), "a", "b")
    assert main(["check"], standalone_mode=False) == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("name", ["Flowers", "my flowers", "a.b", "../x", "-x", ""])
def test_a_name_that_dvc_cannot_take_is_refused(project: Path, tmp_path: Path, name: str) -> None:
    text = paths.PARAMS.read_text()
    with pytest.raises(UserError, match="is made of lower-case letters"):
        datasets.add(name, tmp_path / "flowers", datasets.Choices())
    assert paths.PARAMS.read_text() == text
    assert not (project / "sources").exists()


def test_what_cannot_be_added_leaves_nothing(project: Path, tmp_path: Path) -> None:
    text = paths.PARAMS.read_text()
    (tmp_path / "empty").mkdir()
    for place, words in (
        (tmp_path / "nowhere", "nowhere: is not there"),
        (tmp_path / "empty", "no pictures in folders that name their classes"),
        (tmp_path / "flowers/rose", "no pictures in folders"),
    ):
        with pytest.raises(UserError, match=words):
            datasets.add("mine", place, datasets.Choices())
    with pytest.raises(UserError, match="digits: is the name of a published data set"):
        datasets.add("digits", tmp_path / "flowers", datasets.Choices())
    assert paths.PARAMS.read_text() == text
    assert not (project / "sources").exists()


def test_a_file_that_cannot_be_added_to_is_left_as_it_is(project: Path, tmp_path: Path) -> None:
    text = paths.PARAMS.read_text().replace("study:  #", "study: # what\n #", 1).replace("data:  #", '"data":  #', 1)
    paths.PARAMS.write_text(text)
    with pytest.raises(UserError, match="by hand"):
        datasets.add("flowers", tmp_path / "flowers", datasets.Choices())
    assert paths.PARAMS.read_text() == text
    assert not (project / "sources").exists()


@pytest.mark.parametrize(
    ("images", "epochs", "batch"),
    [(None, 20, 128), (100, 60, 12), (1_000, 60, 64), (45_000, 18, 128), (10**6, 10, 128)],
)
def test_epochs_and_batches_follow_from_the_number_of_images(images: int | None, epochs: int, batch: int) -> None:
    recipe = defaults.recipe(images)
    assert (recipe["epochs"], recipe["batch_size"]) == (epochs, batch)


def test_a_folder_goes_through_its_stages_and_is_told_of(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "flowers/rose/bad.jpg", b"bad")
    call("data", "add", "flowers", str(tmp_path / "flowers"), "--size", "16", "--skip-unreadable")
    call("download", "flowers")
    call("preprocess", "flowers")
    assert read_description(paths.splits("flowers")).image_shape == (16, 16, 3)
    assert list(read_review(paths.review("flowers")).skipped) == ["rose/bad.jpg"]
    capsys.readouterr()
    call("data", "list")
    call("data", "info", "flowers")
    said = capsys.readouterr().out
    assert "flowers   your own   yes           80      2        16x16x3" in said
    assert "cifar100  published  no            –" in said
    assert "1 picture could not be read and was skipped: rose/bad.jpg" in said
    assert "80 pictures are smaller than 16x16 and were enlarged" in said


def test_a_contact_sheet_shows_images_as_they_are_and_augmented(project: Path, tmp_path: Path, backend: int) -> None:
    for number in range(40):
        image = np.zeros((8, 8, 1), np.uint8)
        image[:4] = 255 if number % 2 else 60
        image[0, 0] = number
        put(tmp_path / f"halves/{'ab'[number % 2]}/{number:02d}.png", encoded(image))
    call("data", "add", "halves", str(tmp_path / "halves"))
    text = paths.PARAMS.read_text()
    start = text.index("  halves:\n    epochs:")
    paths.PARAMS.write_text(text[:start] + text[start:].replace("vertical_flip: false", "vertical_flip: true", 1))
    call("download", "halves")
    call("preprocess", "halves")
    put(Path("contact-sheets/halves/002-gone.png"), b"of a class that is no more")
    call("data", "show", "halves")
    assert sorted(path.name for path in Path("contact-sheets/halves").iterdir()) == ["000-a.png", "001-b.png"]
    put(Path("sheets/2019-holiday.png"), b"a person's own")
    call("data", "show", "halves", "--out", "sheets")
    assert sorted(path.name for path in Path("sheets").iterdir()) == ["000-a.png", "001-b.png", "2019-holiday.png"]
    sheet = np.asarray(Image.open("sheets/001-b.png"))
    size, right = 64, 6 * 68 + 16
    rows = [(sheet[32 + 68 * row, 32 + 68 * column : 33 + 68 * column]) for row in range(4) for column in range(6)]
    assert len(rows) == 24
    left = [sheet[10, 30 + 68 * column] for column in range(6)]
    below = [sheet[50, right + 30 + 68 * column] for column in range(6)]
    assert left == [255] * 6  # as they are, the upper half is white
    assert 255 in below  # some of the augmented stand on their head
    assert size * 6 < right < sheet.shape[1]


@pytest.mark.parametrize("name", ["true", "123", "null", "1e3"])
def test_a_name_that_yaml_takes_for_something_else_is_refused(project: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="YAML takes this for something else than a name"):
        datasets.add(name, tmp_path / "flowers", datasets.Choices())
    assert not (project / "sources").exists()


@pytest.mark.usefixtures("project")
def test_options_for_what_is_there_are_refused_and_its_own_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    datasets.add("flowers", tmp_path / "flowers", datasets.Choices(size=16, channels=1))
    with pytest.raises(UserError, match=r"options change nothing there; edit data\.flowers"):
        datasets.add("flowers", tmp_path / "flowers", datasets.Choices(size=64))
    capsys.readouterr()
    datasets.add("flowers", tmp_path / "flowers", datasets.Choices())
    assert "flowers: 80 images of 2 classes (40 each: rose, tulip), read as 16x16x1" in capsys.readouterr().out


@pytest.mark.usefixtures("project")
def test_what_dvc_cannot_watch_is_refused_before_it_tries(tmp_path: Path) -> None:
    (tmp_path / "flowers/rose/gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(UserError, match=r"DVC cannot watch 'rose/gone.png', which is a link to nothing; remove it"):
        datasets.add("flowers", tmp_path / "flowers", datasets.Choices())
    (tmp_path / "flowers/rose/gone.png").unlink()
    os.mkfifo(tmp_path / "flowers/rose/pipe.png")  # DVC would wait for it without end
    with pytest.raises(UserError, match="which is no file; remove it"):
        datasets.add("flowers", tmp_path / "flowers", datasets.Choices())
    assert "flowers" not in paths.PARAMS.read_text()


@pytest.mark.usefixtures("project")
def test_arrays_without_training_images_or_of_a_size_that_is_not_possible_are_told_of(tmp_path: Path) -> None:
    images, labels = np.zeros((4, 2000, 8, 3), np.uint8), np.array([0, 1, 0, 1])
    np.savez(tmp_path / "large.npz", x_train=images, y_train=labels)
    with pytest.raises(UserError, match="the images are 8x2000; say with --size"):
        datasets.add("large", tmp_path / "large.npz", datasets.Choices())
    (tmp_path / "hub").mkdir()
    table = pa.table({"image": [encoded(image[:8]) for image in images], "label": labels})
    pq.write_table(table, tmp_path / "hub/test-0.parquet")
    with pytest.raises(UserError, match="there are no training images"):
        datasets.add("hub", tmp_path / "hub", datasets.Choices())
