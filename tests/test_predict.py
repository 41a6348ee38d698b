"""`resblock predict`: which network answers, what it says, and what becomes of files that are no pictures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from rich.console import Console

from resblock.cli import main
from resblock.core.backends.protocol import BatchStatistics
from resblock.core.errors import UserError
from resblock.core.files import digest_tree, write_arrays
from resblock.core.splits import SPLIT_NAMES, Split, SplitName, read_description, read_split
from resblock.core.training.run import read_run
from resblock.evaluation.evaluate import Examiner
from resblock.serving.classifier import Classifier, Prediction
from resblock.stages import predict as asking

PICTURES = 4


@pytest.fixture
def project(small_study: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small study as the working directory, and no MLflow within reach."""
    monkeypatch.chdir(small_study)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    return small_study


@pytest.fixture
def pictures(small_study: Path, tmp_path: Path) -> list[str]:
    """The first test images as files."""
    images = read_split(small_study / "data/splits/digits", "test").images[:PICTURES]
    names = [str(tmp_path / f"{number}.png") for number in range(PICTURES)]
    for name, image in zip(names, images, strict=True):
        Image.fromarray(image[:, :, 0]).save(name)
    return names


def predict(*arguments: str, given: bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["predict", *arguments], input=given)


def answers(*arguments: str) -> dict[str, Any]:
    ended = predict(*arguments, "--json")
    assert ended.exit_code == 0, ended.output
    return json.loads(ended.stdout)


def test_the_champion_answers_without_mlflow(project: Path, pictures: list[str]) -> None:
    answer = answers(*pictures)
    # residual-8 has one finished seed of two, cnn-4 has both.
    assert (answer["model"]["dataset"], answer["model"]["variant"]) == ("digits", "cnn-4")
    assert [row["file"] for row in answer["predictions"]] == pictures


@pytest.mark.parametrize(("variant", "seed"), [("cnn-4", 0), ("cnn-4", 1), ("residual-8", 0)])
def test_probabilities_are_those_behind_the_published_accuracy(
    project: Path, pictures: list[str], variant: str, seed: int
) -> None:
    answer = answers(*pictures, "--variant", variant, "--seed", str(seed))
    splits = project / "data/splits/digits"
    test = read_split(splits, "test")
    run = read_run(project / f"results/digits/trainings/base/{variant}/seed-{seed}")
    everything: dict[SplitName, Split] = {name: read_split(splits, name) for name in SPLIT_NAMES}
    logits = Examiner(read_description(splits), everything).look(run).logits
    exponentials = np.exp(logits["test_reestimated"][:PICTURES].astype(np.float64))
    expected = exponentials / exponentials.sum(axis=1, keepdims=True)
    for row, probabilities in zip(answer["predictions"], expected, strict=True):
        assert [row["probabilities"][str(digit)] for digit in range(10)] == pytest.approx(probabilities, rel=1e-4)
        assert row["class"] == str(probabilities.argmax())
        assert row["probability"] == max(row["probabilities"].values())
    assert test.images.dtype == np.uint8


def test_a_named_network_answers_with_its_best_seed_by_validation_accuracy(project: Path, pictures: list[str]) -> None:
    accuracy = {seed: _validation_accuracy(project, seed) for seed in (0, 1)}
    assert accuracy[0] != accuracy[1]
    assert answers(pictures[0], "--variant", "cnn-4")["model"]["seed"] == max(accuracy, key=lambda seed: accuracy[seed])


def _validation_accuracy(project: Path, seed: int) -> float:
    return json.loads((project / f"results/digits/trainings/base/cnn-4/seed-{seed}/metrics.json").read_text())[
        "validation_accuracy_reestimated"
    ]


def test_away_from_a_terminal_lines_have_tabs(project: Path, pictures: list[str]) -> None:
    ended = predict(*pictures[:2], "--top", "2")
    assert ended.exit_code == 0
    lines = [line.split("\t") for line in ended.stdout.splitlines()]
    assert [line[0] for line in lines] == [name for name in pictures[:2] for _ in range(2)]
    assert all(float(line[2]) <= 1 for line in lines)
    assert len(predict(pictures[0]).stdout.splitlines()) == 1


def test_top_limits_what_json_tells(project: Path, pictures: list[str]) -> None:
    (row,) = answers(pictures[0], "--top", "3")["predictions"]
    values = list(row["probabilities"].values())
    assert len(values) == 3
    assert values == sorted(values, reverse=True)


def test_bad_files_are_told_of_and_the_others_answered(project: Path, pictures: list[str], tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(Path(pictures[0]).read_bytes()[:60])
    ended = predict(str(broken), pictures[0], str(tmp_path / "missing.png"), "--json")
    assert ended.exit_code == 1
    rows = json.loads(ended.stdout)["predictions"]
    assert "is broken" in rows[0]["error"]
    assert rows[1]["class"] in "0123456789"
    assert rows[2]["error"] == "No such file or directory"
    assert f"resblock: {broken}: is broken" in ended.stderr
    assert len(predict(str(broken), pictures[0]).stdout.splitlines()) == 1
    assert predict(str(broken)).stdout == ""


def test_a_picture_can_come_from_standard_input(project: Path, pictures: list[str]) -> None:
    ended = predict("-", pictures[1], given=Path(pictures[0]).read_bytes())
    assert ended.exit_code == 0, ended.output
    first, second = ended.stdout.splitlines()
    assert first == predict(pictures[0]).stdout.rstrip("\n").replace(pictures[0], "-")
    assert second.startswith(pictures[1])
    assert "resblock: -: is no PNG or JPEG picture" in predict("-", given=b"").stderr


def test_dark_on_light_is_noticed_and_inverted_on_demand(project: Path, pictures: list[str], tmp_path: Path) -> None:
    paper = str(tmp_path / "paper.png")
    Image.fromarray(255 - np.asarray(Image.open(pictures[0]))).save(paper)
    ended = predict(paper)
    assert "paper.png: its background is unlike that of digits; try it with --invert" in ended.stderr
    assert ended.exit_code == 0
    inverted, original = answers(paper, "--invert"), answers(pictures[0])
    assert inverted["predictions"][0]["probabilities"] == original["predictions"][0]["probabilities"]
    assert predict(paper, "--invert").stderr == predict(pictures[0]).stderr == ""


def refused(*arguments: str) -> str:
    ended = predict(*arguments)
    assert ended.exit_code == 1, ended.output
    assert ended.stderr.startswith("resblock: ")
    assert not isinstance(ended.exception, UserError)
    return ended.stderr


def test_what_is_not_there_is_named_with_what_brings_it(project: Path, pictures: list[str]) -> None:
    message = refused(pictures[0], "--variant", "residual-8", "--seed", "7")
    assert "residual-8 with seed 7 is not in the study" in message
    assert "whose seeds are 0, 1 (params.yaml)" in message
    assert "cnn-4 with seed 0, 1; residual-8 with seed 0" in refused(pictures[0], "--seed", "7")
    message = refused(pictures[0], "--variant", "residual-8", "--seed", "1")
    assert "results/digits/trainings/base/residual-8/seed-1/run.json" in message
    assert "dvc repro train@digits-residual-8-1" in message
    assert "cnn-4 with seed 0, 1; residual-8 with seed 0" in refused(pictures[0], "--variant", "plain-8")
    assert "`resblock report cifar10` looks at what is trained" in refused(pictures[0], "--dataset", "cifar10")
    assert "residual-8 and residual-14" in refused(pictures[0], "--variant", "residual-9")
    assert "--model-uri names a network already" in refused(pictures[0], "--model-uri", "models:/x@y", "--seed", "0")


def test_before_any_result_the_way_to_one_is_named(
    project: Path, pictures: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "params.yaml").write_bytes((project / "params.yaml").read_bytes())
    monkeypatch.chdir(tmp_path)
    assert "resblock run digits" in refused(pictures[0])


def test_weights_that_other_code_made_are_refused(
    project: Path, pictures: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(project / "params.yaml", tmp_path)
    cnn = [f"results/digits/{kind}/base/cnn-4/seed-0" for kind in ("trainings", "scores")]
    for folder in (*cnn, "data/splits/digits"):
        (tmp_path / folder).mkdir(parents=True)
        for file in (project / folder).iterdir():
            (tmp_path / folder / file.name).write_bytes(file.read_bytes())
    weights = read_run(project / "results/digits/trainings/base/cnn-4/seed-0").weights
    renamed = {name.replace("stage1", "first"): array for name, array in weights.items()}
    write_arrays(tmp_path / "results/digits/trainings/base/cnn-4/seed-0/weights.npz", renamed)
    monkeypatch.chdir(tmp_path)
    message = refused(pictures[0], "--dataset", "digits", "--variant", "cnn-4", "--seed", "0")
    assert "train@digits-cnn-4-0: the weights lack stage1_conv1/kernel" in message


@pytest.fixture
def copy(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project that a test may change."""
    root = tmp_path / "project"
    shutil.copytree(project, root, ignore=shutil.ignore_patterns("mlflow.db*", "mlartifacts"))
    monkeypatch.chdir(root)
    return root


def reseal(file: Path, **changes: Any) -> None:
    """Change what a manifest says, and its key with it."""
    content = {**json.loads(file.read_text()), **changes}
    status = {name: content.pop(name) for name in ("key", "status") if name in content}
    file.write_text(json.dumps({**content, **status, "key": digest_tree(content)}))


def test_a_network_that_was_trained_anew_is_not_asked_before_it_is_evaluated(copy: Path, pictures: list[str]) -> None:
    assert predict(pictures[0]).stderr == ""
    for manifest in copy.glob("results/digits/trainings/base/cnn-4/*/run.json"):
        reseal(manifest, environment={"XLA_FLAGS": "--fast"})
    assert "was trained anew after it was evaluated; `dvc repro evaluate@digits-cnn-4-" in refused(pictures[0])
    for manifest in copy.glob("results/digits/scores/base/cnn-4/*/run.json"):
        training = copy / str(manifest.relative_to(copy)).replace("scores", "trainings")
        reseal(manifest, training=json.loads(training.read_text())["key"])
    assert (
        "trained anew after it was chosen; `dvc repro report@digits` may choose another" in predict(pictures[0]).stderr
    )
    assert predict(pictures[0], "--variant", "cnn-4", "--seed", "0").stderr == ""


def test_a_network_by_another_recipe_answers_with_a_warning(copy: Path, pictures: list[str]) -> None:
    text = (copy / "params.yaml").read_text()
    (copy / "params.yaml").write_text(text.replace("batch_size: 64 ", "batch_size: 32 "))
    ended = predict(pictures[0])
    assert ended.exit_code == 0
    assert "not what params.yaml asks for: trained by another recipe (batch_size 64 instead of 32)" in ended.stderr


def test_without_the_statistics_that_were_published_no_network_answers(copy: Path, pictures: list[str]) -> None:
    (copy / "results/digits/scores/base/residual-8/seed-0/statistics.npz").unlink()
    message = refused(pictures[0], "--variant", "residual-8", "--seed", "0")
    assert "is not here; `dvc repro evaluate@digits-residual-8-0` brings it" in message


def test_each_picture_is_named_once_whatever_it_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    """Square brackets are markup to Rich, and three classes were asked for where there are two."""
    found = {Path(f"scan[{n}].png"): Prediction({"[a]": 0.9, "b": 0.1}) for n in ("final", "/y")}
    trained = SimpleNamespace(model={"variant": "cnn-4", "seed": 0, "dataset": "digits"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asking, "Console", lambda: Console(force_terminal=True, width=100, color_system=None))
        asking._print_table(trained, found, 3)  # pyright: ignore[reportPrivateUsage, reportArgumentType]
    shown = capsys.readouterr().out
    assert [shown.count(name) for name in ("scan[final].png", "scan[/y].png", "[a]")] == [1, 1, 2]


@pytest.mark.usefixtures("backend")
def test_predictions_list_the_most_probable_class_first() -> None:
    class Logits:
        def logits(self, images: np.ndarray) -> np.ndarray:
            return np.log(np.array([[0.2, 0.5, 0.3]], np.float32))

        def statistics(self, images: np.ndarray, batch_size: int) -> list[BatchStatistics]:
            pytest.fail("a classifier only looks")

    (prediction,) = Classifier(Logits(), ("ape", "bee", "cat")).predict(np.zeros((1, 8, 8, 1), np.uint8))
    assert list(prediction.probabilities) == ["bee", "cat", "ape"]
    assert list(prediction.probabilities.values()) == pytest.approx([0.5, 0.3, 0.2], rel=1e-6)
    assert prediction.tree(1) == {"class": "bee", "probability": pytest.approx(0.5), "probabilities": prediction.top(1)}
    assert Prediction({"a": 1.0}).best == "a"
