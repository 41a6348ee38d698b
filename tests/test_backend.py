"""What the machine is: threads, and whether it computes bfloat16 itself."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from resblock.training.backend import emulates_bfloat16
from tests.conftest import ROOT

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


TRAIN = """
import resblock.training.backend as backend
backend.emulates_bfloat16 = lambda: True
from resblock.cli import main
for command in ("download digits", "preprocess digits", "train digits cnn-4 0"):
    main(command.split(), standalone_mode=False)
"""


def test_an_emulated_precision_is_said_once_and_the_training_goes_on(tmp_path: Path) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    text = (tmp_path / "params.yaml").read_text()
    text = text.replace("epochs: 20                 #", "epochs: 2  #").replace(
        "precision: float32         #", "precision: mixed_bfloat16  #"
    )
    (tmp_path / "params.yaml").write_text(text)
    ended = subprocess.run([sys.executable, "-c", TRAIN], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("emulates bfloat16") == 1
    assert "train.digits.precision" in ended.stderr
    assert (tmp_path / "runs/digits/cnn-4/seed-0/run.json").is_file()
