"""The processor at hand."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


def available_cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """Return the processor's name, as far as the system tells it."""
    with suppress(OSError):
        for line in CPUINFO.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def features(cpuinfo: Path = CPUINFO) -> frozenset[str]:
    """Return the names of the processor's instruction sets; none where the system does not list them."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    # x86 has a line of flags per core, ARM one of Features.
    return frozenset(word for line in lines if line.startswith(("flags", "Features")) for word in line.split()[1:])


def processor_kind(*, bfloat16: bool, cpuinfo: Path = CPUINFO) -> str:
    """Return the architecture with its widest vectors, and with the units for bfloat16 where these are asked for."""
    known = features(cpuinfo)
    vectors = next((name for name in ("avx512f", "avx2", "avx", "sve", "asimd") if name in known), "")
    units = "+".join(sorted(known & BFLOAT16)) or "emulated bf16"
    return " ".join(filter(None, (platform.machine(), vectors, units if bfloat16 else "")))


def emulates_bfloat16(cpuinfo: Path = CPUINFO) -> bool:
    """Return whether bfloat16 is known to be slow on this processor: its features do not name it.

    oneDNN, which computes convolutions, converts to float32 and back there. False where no features are listed.
    """
    known = features(cpuinfo)
    return bool(known) and not known & BFLOAT16
