"""What a notebook is given: the report's own numbers, networks as the study has them, and one line where that fails."""

from __future__ import annotations

import ast
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import matplotlib.pyplot as plt
import mlflow
import numpy as np
import pandas as pd
import pytest

import resblock
from resblock import paths
from resblock.core import backends
from resblock.core.errors import UserError
from resblock.core.files import digest_tree, read_json, write_json
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.splits import DatasetDescription, Split, SplitName, read_split
from resblock.core.training.run import CURVE, MANIFEST, WEIGHTS, read_curve
from resblock.evaluation.assessment import read_score
from resblock.evaluation.score import METRICS, Score, empty_score
from resblock.evaluation.statistics import STATISTICS_FILE
from resblock.report.material import Material
from resblock.study.results import Results
from tests.conftest import write_digits

FRAMES = ("scores", "curves", "gaps", "verdicts")  # ablations have two of them
KEY = RunKey("digits", ModelSpec.parse("residual-8"), 0)


@pytest.fixture
def clone(small_study: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What git holds of the small study, as the working directory: no images, no weights, no predictions, no page."""
    folder = tmp_path / "clone"
    shutil.copytree(small_study / "results", folder / "results", ignore=shutil.ignore_patterns("*.npz", "report"))
    shutil.copy(small_study / paths.PARAMS, folder)
    recorded = paths.manifest("preprocess", "digits")
    (folder / recorded).parent.mkdir(parents=True)
    shutil.copy(root / recorded, folder / recorded)
    monkeypatch.chdir(folder)
    return folder


def chosen(line: str, instead: str) -> None:
    """Edit a line of the clone's params.yaml, wherever it stands."""
    text = paths.PARAMS.read_text()
    assert re.search(line, text)
    paths.PARAMS.write_text(re.sub(line, instead, text))


def csv(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False, lineterminator="\n")


def test_a_clone_shows_the_numbers_of_the_report(clone: Path, small_study: Path) -> None:
    frames = resblock.read_study("digits")
    published = small_study / paths.report("digits")
    assert csv(frames.verdicts) == (published / "data/verdicts.csv").read_text()
    here = frames.scores.query("status == 'finished'")
    assert len(here) == 3
    assert csv(here.drop(columns="recipe")) == (published / "scores.csv").read_text()
    (missing,) = frames.scores.query("status == 'missing'").to_dict("records")
    assert (missing["variant"], missing["seed"]) == ("residual-8", 1)
    assert "digits: 4 trainings, 3 finished, 1 missing" in repr(frames)


def test_nothing_is_written(clone: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in clone.rglob("*")}
    frames = resblock.read_study("digits")
    assert all(isinstance(getattr(frames, name), pd.DataFrame) for name in FRAMES)
    assert {path: path.stat().st_mtime_ns for path in clone.rglob("*")} == before
    assert Path.cwd() == clone


@pytest.mark.parametrize("name", FRAMES)
def test_every_column_is_explained(name: str, small_study: Path) -> None:
    columns = getattr(resblock.read_study("digits", root=small_study), name).columns
    assert len(columns) > 10
    words = str(vars(resblock.StudyFrames)[name].__doc__)
    assert set(re.findall(r"``(\w+)``", words)) - {"base"} == set(columns)


def test_other_recipes_stand_apart(clone: Path) -> None:
    """Whoever averages over all rows must not average over recipes."""
    low = RunKey("digits", KEY.spec, KEY.seed, "low-lr")
    shutil.copytree(paths.run(KEY), paths.run(low))
    shutil.copytree(paths.scores(KEY), paths.scores(low))
    recipe = {**read_json(paths.run(KEY) / MANIFEST)["recipe"], "learning_rate": 0.0001}
    key = resealed(paths.run(low) / MANIFEST, recipe_name="low-lr", recipe=recipe)
    resealed(paths.scores(low) / MANIFEST, recipe_name="low-lr", training=key)
    frames = resblock.read_study("digits")
    assert set(frames.scores["recipe"]) == set(frames.curves["recipe"]) == {"base"}
    assert len(frames.curves) == 3
    (ablated,) = frames.ablation_curves.to_dict("records")
    assert (ablated["recipe"], ablated["variant"], ablated["seed"]) == ("low-lr", "residual-8", 0)
    (epoch,) = read_curve(paths.run(low))
    assert ablated["validation_loss"] == epoch.validation_loss
    (finished,) = frames.ablation_scores.query("status == 'finished'").to_dict("records")
    assert (finished["recipe"], finished["seed"]) == ("low-lr", 0)
    assert frames.ablation_scores.columns.equals(frames.scores.columns)
    assert repr(frames).splitlines()[0] == "digits: 8 trainings, 4 finished, 4 missing"


def resealed(manifest: Path, **changes: Any) -> str:
    """Change a manifest as another training would have it, and return its new key."""
    tree = {**read_json(manifest), **changes}
    key = digest_tree({name: value for name, value in tree.items() if name not in ("key", "status")})
    write_json(manifest, {**tree, "key": key})
    return key


def twins(scores: Sequence[Score]) -> resblock.StudyFrames:
    described = DatasetDescription("pets", ("cat", "dog"), (8, 8, 3), {}, {}, "a box")
    return resblock.StudyFrames(Material(described, Results(scores), curves={}, costs={}, recipes=[]))


def score(variant: str, seed: int, accuracy: float) -> Score:
    spec = ModelSpec.parse(variant)
    return Score(spec.name, spec.family, spec.depth, seed, "finished", **dict.fromkeys(METRICS, accuracy))


def test_a_gap_is_a_fraction_paired_by_seed() -> None:
    """Differences of 0.2 and 0.3: their mean is 0.25, and Student's t at one degree of freedom is 12.7062."""
    scores = [
        *(score("plain-8", seed, accuracy) for seed, accuracy in enumerate((0.5, 0.6))),
        *(score("residual-8", seed, accuracy) for seed, accuracy in enumerate((0.7, 0.9))),
        empty_score(ModelSpec.parse("residual-8"), 2, "missing"),
    ]
    gaps = twins(scores).gaps
    assert list(gaps["metric"]) == [
        "train_accuracy_reestimated",
        "test_accuracy_reestimated",
        "train_accuracy",
        "test_accuracy",
    ]
    gap = gaps.iloc[1]
    assert (gap["twins"], gap["seeds"], gap["decision"]) == ("8", 2, "undecided")
    assert gap["mean"] == pytest.approx(0.25)
    assert gap["t_low"] == pytest.approx(0.25 - 12.7062 * 0.05, abs=1e-5)
    assert gap["remarks"] == "residual-8 left out, missing: seed 2"


def test_a_study_without_twins_has_columns_and_no_rows() -> None:
    frames = twins([score("cnn-4", 0, 0.5)])
    assert frames.gaps.empty
    assert frames.curves.empty
    assert "decision" in frames.gaps
    assert "epoch" in frames.curves


def test_what_was_not_asked_for_has_no_figures(clone: Path) -> None:
    chosen("learning_rate: 0.001  ", "learning_rate: 0.002  ")
    frames = resblock.read_study("digits")
    assert list(frames.scores["status"]) == ["foreign"] * 3 + ["missing"]
    assert frames.scores["test_accuracy"].isna().all()
    assert frames.curves.empty
    assert "learning_rate 0.001 instead of 0.002" in repr(frames)
    with pytest.raises(UserError, match=r"not what params\.yaml asks for, so it is not used"):
        resblock.trained("residual-8", dataset="digits")


@pytest.mark.parametrize("inside", [".", "results/digits"])
def test_the_project_is_found_from_inside_it(clone: Path, inside: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clone / inside)
    assert len(resblock.read_study("digits").scores) == 4


@pytest.mark.parametrize("dataset", ["digits", "cifar10"])
def test_a_network_by_name_has_its_published_size(dataset: str, root: Path, backend: int) -> None:
    """He et al.'s 20 layers have 269,722 parameters on colour images, and 2 x 9 x 16 fewer on grey ones."""
    network = resblock.network("residual-20", dataset=dataset, root=root)
    assert network.parameters == {"cifar10": 269_722, "digits": 269_434}[dataset]


def test_a_seed_gives_its_initial_weights(clone: Path, backend: int) -> None:
    first, again, other = (resblock.network("cnn-4", dataset="digits", seed=seed).weights() for seed in (0, 0, 1))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not all(np.array_equal(first[name], other[name]) for name in first)


def test_a_recipe_that_centres_needs_the_images(clone: Path, digits: dict[SplitName, Split], backend: int) -> None:
    chosen("center: none ", "center: pixel-mean ")
    with pytest.raises(UserError, match="no splits there; `dvc repro preprocess@digits` makes them"):
        resblock.network("cnn-4", dataset="digits")
    write_digits(Path(), digits)
    center: Any = resblock.network("cnn-4", dataset="digits").model.get_layer("center")
    expected = digits["train"].images.mean(axis=0) / 255
    assert np.asarray(center.mean) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("here", ["with two threads more", "used by other code"])
def test_keras_may_be_at_work_already(clone: Path, here: str, backend: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell before has brought it up, by itself or for another recipe; nothing can be set any more."""
    chosen("threads: 1", "threads: 3")
    if here == "used by other code":
        monkeypatch.setattr(backends, "_started", {})
    assert resblock.network("cnn-4", dataset="digits").parameters > 0


@pytest.mark.parametrize("variant", ["cnn-4", "residual-8"])
def test_trained_weights_give_the_published_accuracy(variant: str, small_study: Path, backend: int) -> None:
    key = RunKey("digits", ModelSpec.parse(variant), 0)
    test = read_split(small_study / paths.splits("digits"), "test")
    published = read_score(small_study / paths.scores(key))

    def accuracy(**choice: Any) -> float:
        model = resblock.trained(variant, dataset="digits", root=small_study, **choice).model
        return float(np.mean(np.argmax(model(test.images, training=False), axis=-1) == test.labels))

    image = 1 / len(test.labels) + 1e-9  # passes of another size may differ in their last bits
    assert accuracy() == pytest.approx(published.test_accuracy_reestimated, abs=image)
    assert accuracy(statistics="trained") == pytest.approx(published.test_accuracy, abs=image)
    if variant == "residual-8":  # the only one of the two that has statistics
        assert abs(published.test_accuracy - published.test_accuracy_reestimated) > 2 * image


def test_missing_weights_are_said_in_one_line(clone: Path, small_study: Path) -> None:
    with pytest.raises(UserError) as caught:
        resblock.trained("residual-8", dataset="digits")
    brings = "is not here; `dvc repro {0}` brings it"
    stage = "train@digits-residual-8-0"
    assert str(caught.value) == f"{paths.run(KEY) / WEIGHTS}: {brings.format(stage)}"
    shutil.copy(small_study / paths.run(KEY) / WEIGHTS, paths.run(KEY))
    with pytest.raises(UserError) as caught:
        resblock.trained("residual-8", dataset="digits")
    stage = "evaluate@digits-residual-8-0"
    assert str(caught.value) == f"{paths.scores(KEY) / STATISTICS_FILE}: {brings.format(stage)}"


def test_a_damaged_file_is_named(clone: Path) -> None:
    curve = paths.run(KEY) / CURVE
    header, epoch = curve.read_text().splitlines()
    curve.write_text("\n".join([header, "<<<<<<< HEAD", epoch, "=======", epoch, ">>>>>>> theirs"]))
    with pytest.raises(UserError, match=r"residual-8/seed-0/curve\.csv, line 2: git left the conflict"):
        resblock.read_study("digits")


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"variant": "ResNet20"}, "did you mean residual-20?"),
        ({"variant": "residual-14"}, "residual-14 with seed 0 is not in the study, whose networks are cnn-4"),
        ({"seed": -1}, "seed: got -1, must lie in"),
        ({"dataset": "pets"}, "train.pets: missing; described are digits, cifar10"),
        ({"recipe": "lowlr"}, "recipes.lowlr: missing; described are no-flip"),
        ({"recipe": "cosine"}, "by the recipe cosine is not in the study, whose networks are cnn-4"),
        ({"statistics": "best"}, "statistics: got 'best', must be one of trained, reestimated"),
        ({"root": "results"}, "results: holds no params.yaml; name the folder of a resblock project as root="),
    ],
)
def test_a_mistake_is_said_in_one_line(clone: Path, choice: dict[str, Any], said: str) -> None:
    asked: dict[str, Any] = {"variant": "residual-8", "dataset": "digits", **choice}
    with pytest.raises(UserError) as caught:
        resblock.trained(asked.pop("variant"), **asked)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_root_may_lie_at_home(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(clone.parent))
    monkeypatch.chdir("/")
    assert len(resblock.read_study("digits", root="~/clone").scores) == 4


def test_outside_a_project_nothing_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"neither here nor above is a params\.yaml; name the folder"):
        resblock.read_study("digits")


def test_splits_that_nobody_recorded_are_asked_for(clone: Path) -> None:
    paths.manifest("preprocess", "digits").unlink()
    with pytest.raises(UserError, match=r"run\.json: is not here; `dvc repro preprocess@digits` makes it"):
        resblock.read_study("digits")


@pytest.fixture
def own_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let a notebook choose MLflow's store, for itself alone."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    yield
    cast(Any, mlflow.set_tracking_uri)(None)


@pytest.mark.usefixtures("own_store")
def test_the_notebook_runs_from_top_to_bottom(
    root: Path, small_study: Path, backend: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cell by cell, as Jupyter does, from a folder of the small study that lies where docs does."""
    cells = json.loads((root / "docs/notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    monkeypatch.chdir(small_study / "results")
    monkeypatch.setenv("MPLBACKEND", "agg")
    names: dict[str, Any] = {}
    shown = [_run("".join(cell["source"]), names) for cell in code]
    plt.close("all")
    assert repr(shown[0]).startswith("digits: 4 trainings, 3 finished, 1 missing")
    assert names["untrained"].parameters == 269_434
    assert list(shown[-1]["tags.resblock.name"]) == ["train@digits-residual-8-0"]


def _run(cell: str, names: dict[str, Any]) -> Any:
    """Run a cell and return what Jupyter would show: the value of an expression at its end."""
    *before, last = ast.parse(cell).body
    exec(compile(ast.Module(before, []), "cell", "exec"), names)
    if isinstance(last, ast.Expr):
        return eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    return exec(compile(ast.Module([last], []), "cell", "exec"), names)
