"""The study through DVC: what it leaves, what an edit makes stale, and that a repeat gives the same bytes."""

from __future__ import annotations

import json
from contextlib import chdir
from pathlib import Path

import pandas as pd
import pytest
from dvc.repo import Repo
from mlflow import MlflowClient

from resblock.core.spec import ModelSpec, RunKey
from resblock.stages import evaluate, report, train
from tests.pipeline.conftest import EPOCHS, RUN_FILES, Workspace
from tests.test_clone import stale

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:pygtrie")  # DVC's own, of what it imports

NETWORKS = [f"{variant}-{seed}" for variant in ("cnn-4", "plain-8", "residual-8") for seed in (0, 1)]
TRAININGS = {f"train@digits-{network}" for network in NETWORKS}
EVALUATIONS = {f"evaluate@digits-{network}" for network in NETWORKS}
REPORT = {"report@digits"}
TRAINED = "tags.`resblock.stage` = 'train'"
ABLATIONS = {f"ablate@low-lr-residual-8-{seed}" for seed in (0, 1)}
ABLATION_EVALUATIONS = {f"evaluate_ablation@low-lr-residual-8-{seed}" for seed in (0, 1)}
PROBES = {"probe@digits"}
LOOKS = EVALUATIONS | ABLATION_EVALUATIONS
RETRAINED = TRAININGS | ABLATIONS | LOOKS | REPORT
EVERYTHING = PROBES | RETRAINED
SCORE_FILES = (
    "calibration.csv",
    "confusion.csv",
    "lesions.csv",
    "predictions.npz",
    "reliability.csv",
    "responses.csv",
    "robustness.csv",
    "run.json",
    "score.csv",
    "statistics.npz",
)


def test_the_study_leaves_every_file(finished: Workspace) -> None:
    root = finished.root
    for stage in TRAININGS:
        variant, _, seed = stage.removeprefix("train@digits-").rpartition("-")
        folder = root / "results/digits/trainings/base" / variant / f"seed-{seed}"
        assert {path.name for path in folder.iterdir()} == set(RUN_FILES)
        assert (root / "results/digits/costs/base" / variant / f"seed-{seed}.json").is_file()
        assert list(pd.read_csv(folder / "curve.csv")["epoch"]) == list(range(1, EPOCHS + 1))
        scores = root / "results/digits/scores/base" / variant / f"seed-{seed}"
        assert {path.name for path in scores.iterdir()} == set(SCORE_FILES)
    assert (root / "results/digits/report/index.html").is_file()
    assert {path.name for path in (root / "results/digits/report/figures").iterdir()} == {
        "accuracy.png",
        "calibration.png",
        "class-counts.png",
        "confusion.png",
        "depth.png",
        "efficiency.png",
        "gap.png",
        "gradients.png",
        "lesions.png",
        "loss.png",
        "mistakes.png",
        "recipes.png",
        "rebound.png",
        "responses.png",
        "robustness.png",
        "untrained.png",
    }
    assert (root / "results/digits/report/summary.md").is_file()
    assert {path.name for path in (root / "results/digits/scores").iterdir()} == {"base", "low-lr"}
    assert len(pd.read_csv(root / "results/digits/report/scores.csv")) == len(TRAININGS)
    for table in ("pairs-reestimated", "pairs-trained", "agreement", "mistakes"):
        assert len(pd.read_csv(root / "results/digits/report/data" / f"{table}.csv"))
    assert not list((root / ".checkpoints").glob("*"))


def test_an_ablation_leaves_the_files_of_a_training_and_stands_in_the_report(finished: Workspace) -> None:
    root = finished.root
    for seed in (0, 1):
        folder = root / f"results/digits/trainings/low-lr/residual-8/seed-{seed}"
        assert {path.name for path in folder.iterdir()} == set(RUN_FILES)
        assert (root / f"results/digits/costs/low-lr/residual-8/seed-{seed}.json").is_file()
        manifest = json.loads((folder / "run.json").read_text())
        assert (manifest["stage"], manifest["recipe_name"]) == ("train", "low-lr")
        own = json.loads((root / f"results/digits/trainings/base/residual-8/seed-{seed}/run.json").read_text())
        assert manifest["recipe"] == {**own["recipe"], "learning_rate": 0.0001}
    differences = pd.read_csv(root / "results/digits/report/data/recipes.csv").query("metric == 'test_accuracy'")
    for seed, difference in zip(differences["seed"], differences["difference"], strict=True):
        theirs, ours = (
            pd.read_csv(root / f"results/digits/scores/{recipe}/residual-8/seed-{seed}/score.csv")["test_accuracy"][0]
            for recipe in ("low-lr", "base")
        )
        assert difference == theirs - ours
    assert "learning_rate: 0.001 → 0.0001" in (root / "results/digits/report/index.html").read_text()


def test_a_finished_study_runs_nothing_again(finished: Workspace) -> None:
    assert finished.would_run() == set()


def test_a_clone_of_a_finished_study_has_nothing_stale_without_the_cache(workspace: Workspace, tmp_path: Path) -> None:
    who = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    workspace.run("git", "add", "-A")
    workspace.run("git", *who, "commit", "-qm", "The study")
    workspace.run("git", "clone", "--quiet", str(workspace.root), str(tmp_path / "clone"))
    assert not list((tmp_path / "clone").rglob("*.npz"))
    assert (tmp_path / "clone/results/digits/report/summary/depth.png").is_file()
    with chdir(tmp_path / "clone"), Repo() as repo:
        assert list(stale(repo)) == []
        (tmp_path / "clone/results/digits/trainings/base/cnn-4/seed-0/curve.csv").write_text("edited")
        assert next(iter(stale(repo))).startswith("train@digits-cnn-4-0: results/")


def test_metrics_and_plots_say_something(finished: Workspace, workspace: Workspace) -> None:
    metrics = json.loads(workspace.run("dvc", "metrics", "show", "--json").stdout)
    (files,) = (revision["data"] for revision in metrics.values())
    values = files["results/digits/report/metrics.json"]["data"]
    for metric in ("validation_accuracy", "test_accuracy"):
        assert set(values[metric]) == {"cnn-4", "plain-8", "residual-8"}
    assert set(values["residual_minus_plain"]) == {"8"}
    workspace.run("dvc", "plots", "show", "--out", "plots")
    assert "digits__depth_against_accuracy" in (workspace.root / "plots/index.html").read_text()


def test_an_edited_learning_rate_makes_stale_the_trainings_and_what_follows(workspace: Workspace) -> None:
    workspace.edit("params.yaml", "learning_rate: 0.001       #", "learning_rate: 0.002       #")
    assert workspace.would_run() == RETRAINED


def test_how_networks_are_looked_at_retrains_nothing(workspace: Workspace) -> None:
    workspace.edit("params.yaml", "lesion_draws: 3         #", "lesion_draws: 2         #")
    assert workspace.would_run() == LOOKS | REPORT
    workspace.edit("params.yaml", "lines: 4         #", "lines: 2         #")
    assert workspace.would_run() == LOOKS | REPORT | PROBES


def test_an_edited_recipe_makes_stale_its_own_trainings_and_what_follows(workspace: Workspace) -> None:
    workspace.edit("params.yaml", "low-lr: {learning_rate: 0.0001}", "low-lr: {learning_rate: 0.0002}")
    assert workspace.would_run() == ABLATIONS | ABLATION_EVALUATIONS | REPORT


def test_a_recipe_that_is_not_trained_makes_nothing_stale(workspace: Workspace) -> None:
    workspace.edit("params.yaml", "l2: {weight_decay: 0.0001}", "l2: {weight_decay: 0.0002}")
    assert workspace.would_run() == set()


def test_adding_a_recipe_trains_and_scores_only_by_it(workspace: Workspace) -> None:
    workspace.edit("params.yaml", "recipes: [low-lr]", "recipes: [low-lr, horizontal-only]")
    added = {f"ablate@horizontal-only-residual-8-{seed}" for seed in (0, 1)}
    looks = {f"evaluate_ablation@horizontal-only-residual-8-{seed}" for seed in (0, 1)}
    assert workspace.would_run() == added | looks | REPORT


def test_a_study_without_ablations_has_none(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.edit("params.yaml", "recipes: [low-lr]", "recipes: []")
    assert workspace.would_run() == {"report@digits"}
    monkeypatch.chdir(workspace.root)
    report.run("digits")
    assert "What the recipe does" not in (workspace.root / "results/digits/report/index.html").read_text()


def test_the_recipe_of_another_data_set_makes_nothing_stale(workspace: Workspace) -> None:
    workspace.edit("params.yaml", "batch_size: 128", "batch_size: 256")
    assert workspace.would_run() == set()


def test_adding_a_depth_trains_and_evaluates_only_the_new_networks(workspace: Workspace) -> None:
    workspace.edit("params.yaml", "plain-8, residual-8]", "plain-8, residual-8, residual-14]")
    added = {f"{stage}@digits-residual-14-{seed}" for stage in ("train", "evaluate") for seed in (0, 1)}
    assert workspace.would_run() == added | REPORT


def test_removing_a_variant_retrains_nothing(workspace: Workspace) -> None:
    workspace.edit("params.yaml", "cnn-4, plain-8, ", "cnn-4, ")
    assert workspace.would_run() == REPORT


def test_another_split_makes_stale_the_cut_and_all_that_follows(workspace: Workspace) -> None:
    workspace.edit("params.yaml", "test_fraction: 0.2", "test_fraction: 0.3")
    assert workspace.would_run() == {"preprocess@digits"} | EVERYTHING


def test_code_that_watches_retrains_nothing(workspace: Workspace) -> None:
    watching = ("tracking/stage.py", "stages/train.py", "stages/terminal.py", "cli.py", "running/study.py", "params.py")
    for name in watching:
        path = workspace.root / "src/resblock" / name
        path.write_text(path.read_text() + "\n# edited\n")
    assert workspace.would_run() == set()
    path = workspace.root / "src/resblock/report/page.html"
    path.write_text(path.read_text().replace("resblock ·", "resblock:"))
    assert workspace.would_run() == {"report@digits"}


def test_a_word_in_a_claim_runs_no_evaluation_again(workspace: Workspace) -> None:
    path = workspace.root / "src/resblock/study/claims/accuracy.py"
    path.write_text(path.read_text() + "\n# edited\n")
    assert workspace.would_run() == REPORT


def test_an_edited_block_retrains_everything(workspace: Workspace) -> None:
    path = workspace.root / "src/resblock/core/model/network.py"
    path.write_text(path.read_text() + "\n# edited\n")
    assert workspace.would_run() == EVERYTHING


def test_compiled_code_makes_nothing_stale(workspace: Workspace) -> None:
    cache = workspace.root / "src/resblock/core/model/__pycache__"
    cache.mkdir(exist_ok=True)
    (cache / "network.cpython-311.pyc").write_bytes(b"compiled")
    assert workspace.would_run() == set()


@pytest.mark.slow
def test_a_repeat_leaves_the_checkout_clean(workspace: Workspace) -> None:
    who = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    workspace.run("git", "add", "-A")
    workspace.run("git", *who, "commit", "-qm", "The study")
    before = (workspace.root / "dvc.lock").read_bytes()
    workspace.run("dvc", "repro", "--force", "--single-item", "train@digits-residual-8-0")
    workspace.run("dvc", "repro", "--force", "--single-item", "report@digits")  # it prints published times
    assert workspace.would_run() == set()
    assert workspace.run("git", "status", "--porcelain").stdout == ""
    assert (workspace.root / "dvc.lock").read_bytes() == before


def test_a_study_of_which_one_training_is_missing_and_one_diverged_is_told_as_it_is(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], backend: int
) -> None:
    workspace.edit("params.yaml", "optimizer: adam            #", "optimizer: sgd  #")
    workspace.edit("params.yaml", "learning_rate: 0.001       #", "learning_rate: 1.0e+30  #")
    monkeypatch.chdir(workspace.root)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    train.run(RunKey("digits", ModelSpec.parse("plain-8"), 0))
    assert "diverged in epoch 1" in capsys.readouterr().err
    metrics = json.loads((workspace.root / "results/digits/trainings/base/plain-8/seed-0/metrics.json").read_text())
    assert metrics["status"] == "diverged"
    assert metrics["loss"] is None
    for path in (workspace.root / "results/digits/trainings/base/plain-8/seed-1").iterdir():
        path.unlink()
    evaluate.run(RunKey("digits", ModelSpec.parse("plain-8"), 0))
    assert "diverged, so there is nothing to look at" in capsys.readouterr().out
    report.run("digits")
    scores = pd.read_csv(workspace.root / "results/digits/report/scores.csv").set_index(["variant", "seed"])
    assert list(scores["status"]) == ["diverged"]
    assert pd.isna(scores.loc[("plain-8", 0), "test_accuracy"])
    page = (workspace.root / "results/digits/report/index.html").read_text()
    assert "plain-8: 1 diverged, 1 missing" in page
    assert "residual-8: 2 foreign" in page  # trained by what params.yaml said before
    assert "trained by another recipe (optimizer adam instead of sgd" in page
    client = MlflowClient(tracking_uri=f"sqlite:///{workspace.root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("resblock-digits")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id], f"tags.`resblock.status` = 'diverged' and {TRAINED}")
    assert run.info.run_name == "train@digits-plain-8-0"


def test_no_result_names_this_machine(finished: Workspace) -> None:
    results = finished.root / "results"
    texts = [path for path in results.rglob("*") if path.suffix in (".json", ".csv", ".html")]
    assert {path.relative_to(results / "digits").parts[0] for path in texts} == {
        "costs",
        "data",
        "report",
        "scores",
        "trainings",
        "untrained",
    }
    for path in texts:
        assert str(Path.home()) not in path.read_text(), path
        assert str(finished.root) not in path.read_text(), path
