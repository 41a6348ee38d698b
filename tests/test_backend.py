"""What the machine is: threads, and whether it computes bfloat16 itself."""

from __future__ import annotations

from pathlib import Path

import keras
import pytest

from resblock.data.splits import Split, SplitName
from resblock.paths import PARAMS
from resblock.spec import ModelSpec, RunKey
from resblock.stages import train
from resblock.training.backend import emulates_bfloat16
from tests.conftest import ROOT, write_digits

# Lines as Linux writes them: an Intel server of 2019 and one of 2023, an AMD of 2022, two ARM servers, and none.
PROCESSORS = {
    "Cascade Lake": ("flags\t\t: fpu sse2 avx2 avx512f avx512bw avx512_vnni", True),
    "Sapphire Rapids": ("flags\t\t: fpu avx512f avx512_bf16 amx_bf16 amx_tile", False),
    "Zen 4": ("flags\t\t: fpu avx512f avx512_bf16", False),
    "Graviton 2": ("Features\t: fp asimd evtstrm aes crc32 atomics fphp", True),
    "Graviton 3": ("Features\t: fp asimd svebf16 i8mm bf16 dgh", False),
    "unknown": ("isa\t\t: rv64imafdc", False),
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_a_processor_that_emulates_bfloat16_is_known_by_its_features(
    name: str, tmp_path: Path, backend: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, emulates = PROCESSORS[name]
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nmodel name\t: some bf16 processor\n{features}\n\n" * 2)
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: ["cpu:0"])
    assert emulates_bfloat16(cpuinfo) is emulates


def test_nothing_is_said_where_the_system_does_not_tell(tmp_path: Path, backend: int) -> None:
    assert not emulates_bfloat16(tmp_path / "missing")


def test_a_graphics_card_does_not_depend_on_the_processor(
    tmp_path: Path, backend: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(PROCESSORS["Cascade Lake"][0])
    monkeypatch.setattr("resblock.training.backend.accelerator", lambda: "a card")
    assert not emulates_bfloat16(cpuinfo)


def test_an_emulated_precision_is_said_once_and_the_training_goes_on(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    backend: int,
    digits: dict[SplitName, Split],
) -> None:
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
    train.run(RunKey("digits", ModelSpec.parse("cnn-4"), 0))
    said = capsys.readouterr().err
    assert said.count("emulates bfloat16") == 1
    assert "train.digits.precision" in said
    assert (tmp_path / "runs/digits/cnn-4/seed-0/run.json").is_file()
