"""Real CIFAR-10 through the stages, where its archive lies next to the project."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.pipeline.conftest import ROOT, Workspace, copy_project

MIRROR = ROOT.parent / "shared/data"

pytestmark = pytest.mark.skipif(not MIRROR.is_dir(), reason="needs the archive of CIFAR-10 in ../shared/data")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """One epoch of residual-8 by the paper's recipe."""
    workspace = copy_project(tmp_path_factory.mktemp("cifar10"))
    workspace.edit("params.yaml", "datasets: [digits]", "datasets: [cifar10]")
    workspace.edit("params.yaml", "dataset: digits", "dataset: cifar10")
    workspace.edit("params.yaml", "epochs: 20", "epochs: 1")
    workspace.run("dvc", "repro", "train@cifar10-residual-8-0", RESBLOCK_MIRROR=str(MIRROR))
    return workspace


def test_the_official_test_set_stays_the_test_set(trained: Workspace) -> None:
    folder = trained.root / "data/splits/cifar10"
    sizes = json.loads((folder / "dataset.json").read_text())["sizes"]
    assert sizes == {"train": 45_000, "validation": 5_000, "test": 10_000}
    labels = np.fromfile(trained.root / "data/raw/cifar10/test_batch.bin", np.uint8).reshape(-1, 3073)[:, 0]
    np.testing.assert_array_equal(np.load(folder / "test_labels.npy"), labels)
    for name, count in (("train", 4_500), ("validation", 500)):
        np.testing.assert_array_equal(np.bincount(np.load(folder / f"{name}_labels.npy")), [count] * 10)


def test_one_epoch_of_the_papers_recipe_learns(trained: Workspace) -> None:
    metrics = json.loads((trained.root / "runs/cifar10/residual-8/seed-0/metrics.json").read_text())
    assert metrics["status"] == "finished"
    assert 0.3 < metrics["accuracy"] < 0.6  # chance is 0.1; an independent trainer saw 0.43 for 20 layers
    assert metrics["validation_accuracy_reestimated"] > 0.3


def test_raw_files_that_are_right_are_not_fetched_again(trained: Workspace, tmp_path: Path) -> None:
    nowhere = str(tmp_path)  # no archive in there, and no other source is reached
    ended = trained.run("resblock", "download", "cifar10", RESBLOCK_MIRROR=nowhere)
    assert "here already, verified" in ended.stdout
