"""What the processor is: its name, and whether it computes bfloat16 itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from resblock.core.backends.machine import available_cores, emulates_bfloat16, features, processor, processor_kind

# Lines as Linux writes them: an Intel server of 2019 and one of 2023, an AMD of 2022, two ARM servers, and none.
PROCESSORS = {
    "Cascade Lake": ("flags\t\t: fpu sse2 avx2 avx512f avx512bw avx512_vnni", True),
    "Sapphire Rapids": ("flags\t\t: fpu avx512f avx512_bf16 amx_bf16 amx_tile", False),
    "Zen 2": ("flags\t\t: fpu sse2 avx avx2 fma", True),
    "Zen 4": ("flags\t\t: fpu avx512f avx512_bf16", False),
    "Graviton 2": ("Features\t: fp asimd evtstrm aes crc32 atomics fphp", True),
    "Graviton 3": ("Features\t: fp asimd svebf16 i8mm bf16 dgh", False),
    "unknown": ("isa\t\t: rv64imafdc", False),
}


def written(folder: Path, name: str) -> Path:
    """Return a file as Linux shows it for two cores, whose model name names what features alone may tell."""
    cpuinfo = folder / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nmodel name\t: some bf16 processor\n{PROCESSORS[name][0]}\n\n" * 2)
    return cpuinfo


@pytest.mark.parametrize("name", PROCESSORS)
def test_a_processor_that_emulates_bfloat16_is_known_by_its_features(name: str, tmp_path: Path) -> None:
    assert emulates_bfloat16(written(tmp_path, name)) is PROCESSORS[name][1]


def test_nothing_is_said_where_the_system_does_not_tell(tmp_path: Path) -> None:
    assert not emulates_bfloat16(tmp_path / "missing")
    assert features(tmp_path / "missing") == frozenset()


def test_features_are_those_the_system_lists(tmp_path: Path) -> None:
    assert {"fpu", "avx512f", "avx512_bf16"} <= features(written(tmp_path, "Zen 4"))
    assert not {"some", "bf16", "processor"} & features(written(tmp_path, "Zen 4"))


@pytest.mark.parametrize(
    ("name", "machine", "kind", "units"),
    [
        ("Cascade Lake", "x86_64", "x86_64 avx512f", "emulated bf16"),
        ("Sapphire Rapids", "x86_64", "x86_64 avx512f", "amx_bf16+avx512_bf16"),
        ("Zen 4", "x86_64", "x86_64 avx512f", "avx512_bf16"),
        ("Zen 2", "x86_64", "x86_64 avx2", "emulated bf16"),
        ("Graviton 3", "aarch64", "aarch64 asimd", "bf16"),
    ],
)
def test_a_kind_of_processor_is_its_widest_vectors_and_its_bfloat16_units_where_these_count(
    name: str, machine: str, kind: str, units: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    cpuinfo = written(tmp_path, name)
    assert processor_kind(bfloat16=False, cpuinfo=cpuinfo) == kind
    assert processor_kind(bfloat16=True, cpuinfo=cpuinfo) == f"{kind} {units}"


def test_a_processor_has_the_name_that_the_system_gives_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resblock.core.backends.machine.CPUINFO", written(tmp_path, "Zen 4"))
    assert processor() == "some bf16 processor"
    monkeypatch.setattr("resblock.core.backends.machine.CPUINFO", tmp_path / "missing")
    assert processor()


def test_a_process_that_may_use_some_cores_has_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {2, 5, 7})
    assert available_cores() == 3
