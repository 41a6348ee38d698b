"""The short form of the fault campaign, which `make chaos` runs at length."""

from __future__ import annotations

import subprocess
import sys

from tests.chaos.kinds import SHORT
from tests.conftest import ROOT


def test_eight_faults_leave_a_study_as_if_nothing_had_happened() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--short"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Wrong at the end: nothing." in ended.stdout
    assert all(f"| {kind} |" in ended.stdout for kind in SHORT)
