"""Real CIFAR-10 through the stages, where its archive lies next to the project."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from resblock import paths
from resblock.core.splits import SPLIT_NAMES, Split, SplitName, read_description, read_split
from resblock.data.splits import write_splits
from tests.pipeline.conftest import ROOT, Workspace, copy_project

MIRROR = ROOT.parent / "shared/data"
SPLITS = paths.splits("cifar10")

pytestmark = pytest.mark.skipif(not MIRROR.is_dir(), reason="needs the archive of CIFAR-10 in ../shared/data")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The official archive, fetched and cut, and a study of one epoch by the paper's recipe."""
    workspace = copy_project(tmp_path_factory.mktemp("cifar10"))
    workspace.edit("params.yaml", "datasets: [digits]", "datasets: [cifar10]")
    workspace.edit("params.yaml", "dataset: digits", "dataset: cifar10")
    workspace.edit("params.yaml", "epochs: 20", "epochs: 1")
    workspace.edit("params.yaml", "gradient_epochs: [0, 1, 5,", "gradient_epochs: [0,")
    workspace.run("dvc", "repro", "preprocess@cifar10", RESBLOCK_MIRROR=str(MIRROR))
    return workspace


def test_the_official_test_set_stays_the_test_set(prepared: Workspace) -> None:
    folder = prepared.root / SPLITS
    sizes = json.loads((folder / "dataset.json").read_text())["sizes"]
    assert sizes == {"train": 45_000, "validation": 5_000, "test": 10_000}
    labels = np.fromfile(prepared.root / "data/raw/cifar10/test_batch.bin", np.uint8).reshape(-1, 3073)[:, 0]
    np.testing.assert_array_equal(np.load(folder / "test_labels.npy"), labels)
    for name, count in (("train", 4_500), ("validation", 500)):
        np.testing.assert_array_equal(np.bincount(np.load(folder / f"{name}_labels.npy")), [count] * 10)


def test_one_epoch_of_the_papers_recipe_on_some_of_the_images_learns(prepared: Workspace, tmp_path: Path) -> None:
    source, root = read_description(prepared.root / SPLITS), tmp_path
    splits: dict[SplitName, Split] = {name: read_split(prepared.root / SPLITS, name) for name in SPLIT_NAMES}
    sizes: dict[SplitName, int] = {"train": 6_000, "validation": 1_000, "test": 100}
    few: dict[SplitName, Split] = {name: splits[name].take(np.arange(size)) for name, size in sizes.items()}
    write_splits(root / SPLITS, few, name="cifar10", classes=source.classes, source=source.source)
    shutil.copy(prepared.root / "params.yaml", root)
    Workspace(root).run("resblock", "train", "cifar10", "residual-8", "0")
    metrics = json.loads((root / "results/cifar10/trainings/base/residual-8/seed-0/metrics.json").read_text())
    assert metrics["status"] == "finished"
    assert 0.2 < metrics["accuracy"] < 0.6  # chance is 0.1
    assert metrics["validation_accuracy_reestimated"] > 0.2


def test_raw_files_that_are_right_are_not_fetched_again(prepared: Workspace, tmp_path: Path) -> None:
    nowhere = str(tmp_path)  # no archive in there, and no other source is reached
    ended = prepared.run("resblock", "download", "cifar10", RESBLOCK_MIRROR=nowhere)
    assert "here already, verified" in ended.stdout
