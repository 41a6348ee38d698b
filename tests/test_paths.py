"""Where files live: one roof, and one place for each training."""

from __future__ import annotations

from pathlib import Path

import pytest

from resblock import paths
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.training.run import MANIFEST

SPEC = ModelSpec("residual", 20)


def test_a_run_has_one_name_for_its_stage_and_its_files() -> None:
    key = RunKey("cifar10", SPEC, 0)
    assert paths.stage(key) == "train@cifar10-residual-20-0"
    assert paths.evaluation(key) == "evaluate@cifar10-residual-20-0"
    assert paths.run(key).as_posix() == "results/cifar10/trainings/base/residual-20/seed-0"
    assert paths.cost(key).as_posix() == "results/cifar10/costs/base/residual-20/seed-0.json"
    assert paths.scores(key).as_posix() == "results/cifar10/scores/base/residual-20/seed-0"


def test_a_run_by_another_recipe_has_a_stage_and_files_of_its_own() -> None:
    key = RunKey("cifar10", SPEC, 0, "no-flip")
    assert paths.stage(key) == "ablate@no-flip-residual-20-0"
    assert paths.evaluation(key) == "evaluate_ablation@no-flip-residual-20-0"
    assert paths.run(key).as_posix() == "results/cifar10/trainings/no-flip/residual-20/seed-0"
    assert paths.cost(key).as_posix() == "results/cifar10/costs/no-flip/residual-20/seed-0.json"
    assert paths.scores(key).as_posix() == "results/cifar10/scores/no-flip/residual-20/seed-0"


def leave(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    return path


def test_what_is_here_is_found_by_its_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert paths.datasets() == []
    assert paths.manifests("digits") == []
    keys = [RunKey("digits", ModelSpec.parse(name), seed) for name, seed in (("plain-8-nobn", 0), ("residual-8", 11))]
    ablated = RunKey("digits", SPEC, 3, "no-flip")
    stages = [leave(paths.manifest(stage, "digits")) for stage in paths.DATASET_STAGES]
    trainings = [leave(paths.run(key) / MANIFEST) for key in (*keys, ablated)]
    evaluations = [leave(paths.scores(key) / MANIFEST) for key in (keys[0], ablated)]
    leave(paths.run(RunKey("digits", SPEC, 7)) / "weights.npz")  # of a training whose manifest is not there yet
    leave(paths.cost(RunKey("digits", SPEC, 8)))
    leave(paths.own_cost(RunKey("digits", SPEC, 9)))
    assert paths.datasets() == ["digits"]
    found = paths.manifests("digits")
    assert len(found) == len(set(found))
    assert set(found) == {*stages, *trainings, *evaluations}
