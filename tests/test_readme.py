"""The README says what the results say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from resblock import paths
from resblock.core.files import read_json
from resblock.evaluation.score import STATISTICS, Statistics, headline, read_scores
from resblock.params import Params
from resblock.study.comparison import compare
from resblock.study.summary import Study

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_table_is_what_the_results_say() -> None:
    ended = subprocess.run(
        [sys.executable, "scripts/readme.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


def test_every_link_and_picture_is_there() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "CONTRIBUTING.md"):
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            assert "://" in target or (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_readme_names_stages_that_params_yaml_has(params: Params) -> None:
    """Once `ablate@slow-averages-residual-8-0`, which no recipe of the study's ablation made."""
    study, other = params.study, params.ablation
    cells = [f"{v}-{s}" for v in study.variants for s in study.seeds]
    theirs = [f"{r}-{v}-{s}" for r in other.recipes for v in other.variants for s in study.seeds]
    known = {f"{stage}@{d}-{cell}" for stage in ("train", "evaluate") for d in study.datasets for cell in cells}
    known |= {f"{stage}@{cell}" for stage in ("ablate", "evaluate_ablation") for cell in theirs}
    named = re.findall(r"\b(?:train|evaluate|ablate|evaluate_ablation)@[\w-]+", README)
    assert len(named) >= 5
    assert set(named) <= known


def test_the_readme_counts_networks_and_seeds_as_params_yaml_does(params: Params) -> None:
    (counts,) = re.findall(r"CIFAR-10 study \((\d+) networks, (\d+) seeds\)", README)
    assert [int(count) for count in counts] == [len(params.study.variants), len(params.study.seeds)]


def test_what_the_readme_says_of_digits_is_measured() -> None:
    """Residual networks lose accuracy with depth, too; 20 and 8 layers are decided by one kind of statistics each."""
    about = read_json(ROOT / paths.manifest("preprocess", "digits"))
    scores = tuple(read_scores(ROOT / paths.report("digits")))
    study = Study("digits", scores, classes=len(about["classes"]), sizes=about["sizes"])
    change = study.deepening(headline("test_accuracy"))
    assert change is not None
    mean, low, high = (-100 * value for value in (change.interval.mean, change.interval.high, change.interval.low))
    assert f"{mean:.1f} points from 8 to 32 layers (95 % interval {low:.1f} to {high:.1f})" in " ".join(README.split())
    assert {kind: _decided(study, kind) for kind in STATISTICS} == {"reestimated": [20, 32], "trained": [8, 32]}
    assert (
        "At 32 layers the gap is decided with either kind of statistics, at 20 with re-estimated ones alone, at 8 with "
        "those as trained alone."
    ) in " ".join(README.split())


def _decided(study: Study, kind: Statistics) -> list[int]:
    return [each.gap.depth for each in compare(study, kind) if each.decision == "residual better"]


def test_every_make_target_of_the_readme_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)\b", (ROOT / "README.md").read_text()))
    assert named <= targets
    assert {"demo", "test"} <= named
