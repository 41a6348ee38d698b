"""The README says what the results say."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import filter as matching
from pathlib import Path

import pandas as pd
import pytest

from resblock import paths
from resblock.core.files import read_json
from resblock.diff.splits import Splits
from resblock.evaluation.score import STATISTICS, Statistics, headline, read_scores
from resblock.notebook import read_study
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
    theirs = [f"{r}-{v}-{s}" for r in other.recipes for v in other.variants for s in other.seeds]
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


def test_what_the_readme_says_of_several_splits_is_measured() -> None:
    frame = pd.read_csv(ROOT / paths.several_splits("digits"))
    found = Splits.of_frame(frame, read_json(ROOT / paths.manifest("preprocess", "digits"))["sizes"])
    assert {len(each.values[0]) for each in found.networks} == {3}
    shallow, *deep = found.gaps
    assert shallow.interval.low < 0 < shallow.interval.high
    assert all(gap.interval.low > 0 for gap in deep)
    assert (
        "Five splits of the images, the study's own among them, agree on the deep twins and settle nothing of the "
        "shallow ones. Three seeds of each split count."
    ) in " ".join(README.split())


def test_what_the_readme_says_of_cifar10_is_measured() -> None:
    study = read_study("cifar10", root=ROOT).material.study
    trained = {summary.spec.name: len(summary.finished) for summary in study.summaries if summary.finished}
    assert trained == dict.fromkeys(("cnn-4", "plain-8", "residual-8", "plain-20", "residual-20"), 3)
    for kind in STATISTICS:  # "corrected for all six comparisons of twins nothing is decided yet"
        compared = compare(study, kind)
        assert [each.decision for each in compared] == ["undecided"] * 6
    gap, deeper = (gap for gap in study.gaps(headline("test_accuracy")) if gap.differences)
    for metric in ("train_accuracy", "test_accuracy"):  # "above zero on training and on test images, each taken alone"
        assert study.gaps(headline(metric))[1].interval.low > 0
        alone = study.gaps(metric)[1].interval  # "as trained no gap is seen"
        assert alone.low < 0 < alone.high
    assert deeper.depth == 20
    for family in (
        "plain",
        "residual",
    ):  # "both gain with re-estimated statistics. As trained it stays open"
        change, other = (study.deepening(metric, family) for metric in (headline("test_accuracy"), "test_accuracy"))
        assert change is not None
        assert other is not None
        assert change.interval.low > 0 > other.interval.low
    assert "From 8 to 20 layers residual networks gain accuracy" in (ROOT / "docs/findings.md").read_text()
    assert -0.005 < gap.interval.low < 0 < gap.interval.high < 0.005
    said = " ".join(README.split())
    assert "On these test images the interval of their gap ends within half a point on both sides of zero" in said
    for metric in (headline("validation_accuracy"), headline("train_accuracy")):  # "do not settle it"
        other = study.gaps(metric)[0].interval
        assert other.low < -0.005
        assert other.high > 0


def _decided(study: Study, kind: Statistics) -> list[int]:
    return [each.gap.depth for each in compare(study, kind) if each.decision == "residual better"]


def test_every_make_target_of_the_readme_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|^)make ([a-z]+)\b", (ROOT / "README.md").read_text()))
    assert named <= targets
    assert {"demo", "test"} <= named


OWN = "pets"  # the data set of docs/your-images.md
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
STAGE = re.compile(r"\b((?:download|preprocess|probe|train|ablate|evaluate|evaluate_ablation|report)@[\w*-]+)")


def asked_on(page: Path, params: Params) -> Params:
    """Return what params.yaml asks for once the reader of `page` has edited it as the page says."""
    if page.name != "gpu.md":
        return params
    more = {"variants": ["residual-56"]}
    study = params.study.model_copy(update={"variants": [*params.study.variants, *more["variants"]]})
    ablation = params.ablation.model_copy(update={**more, "dataset": "cifar10", "recipes": ["he2015"]})
    return params.model_copy(update={"study": study, "ablation": ablation})


def stages(params: Params) -> Iterator[str]:
    """Yield what DVC calls each stage of the study."""
    for dataset in params.study.datasets:
        yield from (f"{stage}@{dataset}" for stage in paths.DATASET_STAGES)
        for key in params.keys(dataset):
            yield from (paths.stage(key), paths.evaluation(key))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_stage_that_is_named_exists(page: Path, params: Params) -> None:
    """Those of a data set of the reader's own are none of this project's."""
    known = set(stages(asked_on(page, params)))
    named = {name for name in STAGE.findall(page.read_text()) if f"@{OWN}" not in name}
    assert {name for name in named if not matching(known, name)} == set()


def test_the_stages_that_pages_are_held_against_are_those_of_dvc(params: Params) -> None:
    locked = set(re.findall(r"^  ([\w@-]+):$", (ROOT / "dvc.lock").read_text(), re.MULTILINE))
    assert locked
    assert locked - {f"download@{name}" for name in params.data} <= set(stages(params))


def test_scores_hold_nothing_that_no_stage_writes() -> None:
    listed = subprocess.run(["git", "ls-files", "results"], cwd=ROOT, capture_output=True, text=True, check=True)
    scores = [path for path in listed.stdout.split() if path.split("/")[2] == "scores"]
    assert [path for path in scores if not re.search(r"/seed-\d+/[a-z]+\.(csv|json)$", path)] == []


def test_counts_of_trainings_are_those_of_params(params: Params) -> None:
    count = len(params.study.keys(OWN))
    assert re.findall(r"(\d+) trainings", (ROOT / "docs" / "your-images.md").read_text()) == [str(count)]
    assert f"\n{count} of {count} came out equal\n" in (ROOT / "docs" / "verify.md").read_text()
