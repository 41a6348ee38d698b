"""What a training cannot do as asked is said, once: a precision that is imitated, images that are not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from resblock import costs, paths
from resblock.core import backends
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.splits import Split, SplitName
from resblock.core.training.run import is_there
from resblock.paths import PARAMS
from resblock.stages import train
from tests.conftest import ROOT, write_digits

KEY = RunKey("digits", ModelSpec.parse("cnn-4"), 0)


@pytest.fixture
def project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: int, digits: dict[SplitName, Split]
) -> pytest.MonkeyPatch:
    """A project that trains in bfloat16 on a processor that lacks it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("resblock.stages.train.emulates_bfloat16", lambda: True)
    text = (ROOT / PARAMS).read_text()
    for before, after in (
        ("epochs: 20                 #", "epochs: 2  #"),
        ("precision: float32         #", "precision: mixed_bfloat16  #"),
    ):
        assert before in text
        text = text.replace(before, after)
    PARAMS.write_text(text)
    write_digits(tmp_path, digits)
    return monkeypatch


def test_an_emulated_precision_is_said_once_and_the_training_goes_on(
    project: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train.run(KEY)
    said = capsys.readouterr().err
    assert said.count("emulates bfloat16") == 1
    assert "train.digits.precision" in said
    assert is_there(paths.run(KEY))


def test_a_graphics_card_does_not_depend_on_the_processor(
    project: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project.setattr(type(backends.backend()), "accelerator", lambda _: "a card")
    train.run(KEY)
    assert "emulates" not in capsys.readouterr().err
    taken = costs.own_first(KEY)
    assert taken is not None
    assert taken.cost.machine == "a card"


def test_fewer_images_than_asked_for_are_told(project: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Once cut to what is there without a word."""
    PARAMS.write_text(PARAMS.read_text().replace("reestimate_images: 500 ", "reestimate_images: 5000 ", 1))
    train.run(KEY)
    said = capsys.readouterr().err
    assert said.count("train.digits.reestimate_images: 5,000 asked for, all 1,293 training images are taken") == 1
    assert "gradient_images" not in said
