"""The advice: a known best depth comes out, too few seeds are called so, and costs are told."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from resblock import paths
from resblock.cli import main
from resblock.core.files import write_json
from resblock.core.spec import ModelSpec
from resblock.core.splits import Split, SplitName
from resblock.core.training.run import Cost
from resblock.data.splits import write_splits
from resblock.evaluation.score import Score, empty_score, write_scores
from resblock.paths import PARAMS
from resblock.study.advice import Advice, Circumstances, activations, advise, next_deeper
from resblock.study.champion import champion
from resblock.study.efficiency import Costs
from resblock.study.summary import Study
from tests.conftest import ROOT

HERE = Circumstances((32, 32, 3), validation_images=5_000, batch_size=128)
NOISE = 0.002


def score(variant: str, seed: int, accuracy: float) -> Score:
    spec = ModelSpec.parse(variant)
    figures = (0, accuracy, 0, accuracy, 0, accuracy, 0, accuracy, 0, 0.5, 0, 0.5)
    return Score(variant, spec.family, spec.depth, seed, "finished", *figures)


def planted(means: Mapping[str, float], seeds: int, noise: float = NOISE) -> Study:
    """A study whose networks have these mean validation accuracies."""
    rng = np.random.default_rng(0)
    return Study(
        "planted", tuple(score(v, s, m + noise * rng.normal()) for v, m in means.items() for s in range(seeds))
    )


def costs(variants: Sequence[str]) -> Costs:
    return {
        ModelSpec.parse(variant): {0: Cost("t", (10.0 * ModelSpec.parse(variant).depth,), 1, 1, 1, "m", 1, {})}
        for variant in variants
    }


def advised(study: Study, variants: Sequence[str] = ()) -> Advice:
    advice = advise(study, costs(variants), HERE)
    assert advice is not None
    return advice


RISING = {
    "cnn-4": 0.80,
    "plain-8": 0.84,
    "residual-8": 0.85,
    "plain-20": 0.86,
    "residual-20": 0.92,
    "plain-32": 0.82,
    "residual-32": 0.9201,
}


def test_the_planted_depth_comes_out_and_is_sure() -> None:
    advice = advised(planted(RISING, seeds=6), list(RISING))
    assert advice.choice.spec.name == "residual-20"
    assert advice.sure
    text = " ".join(advice.sentences())
    assert text.startswith("Use residual-20: 92.")
    assert "at depth 8" in text
    gaps = {gap.label: gap.interval.mean for gap in advice.shortcut}
    assert gaps["20"] == pytest.approx(0.06, abs=0.005)
    assert gaps["32"] == pytest.approx(0.10, abs=0.005)
    assert "nothing needs to be run" in advice.next_step


def test_the_best_of_all_is_chosen_where_every_shallower_one_is_worse() -> None:
    advice = advised(planted({**RISING, "residual-32": 0.95}, seeds=6), list(RISING))
    assert advice.choice is advice.best
    assert advice.choice.spec.name == "residual-32"
    assert "the best of 7 networks; every shallower one is worse beyond noise" in " ".join(advice.sentences())
    assert "add residual-50" in advice.next_step


def test_a_wider_network_is_no_deeper_one_of_its_kind() -> None:
    advice = advised(planted({"residual-8": 0.90, "residual-20": 0.93, "residual-8-w2": 0.96}, seeds=6))
    assert advice.choice.spec.name == "residual-8-w2"
    assert advice.next_step.startswith("add residual-20-w2")


def test_networks_that_are_not_trained_yet_come_next_and_are_no_competitors() -> None:
    """A study without its deepest networks once needed nothing more."""
    half = planted({name: mean for name, mean in RISING.items() if not name.endswith("-32")}, seeds=3)
    none = [
        empty_score(ModelSpec.parse(f"{kind}-32"), s, "missing") for kind in ("plain", "residual") for s in range(3)
    ]
    text = " ".join(advised(replace(half, scores=(*half.scores, *none))).sentences())
    assert "the best of 5 networks" in text
    assert "Next: train plain-32 and residual-32, of which the study has nothing yet." in text


def test_a_study_of_one_depth_is_sure_of_no_more_than_it_saw() -> None:
    advice = advised(planted({"plain-8": 0.902, "residual-8": 0.9, "preact-8": 0.7}, seeds=4, noise=0.01))
    text = " ".join(advice.sentences())
    assert "the best of 3 networks; none is shallower." in text
    other = {"plain-8": "residual-8", "residual-8": "plain-8"}[advice.choice.spec.name]
    assert f"As deep and not told apart from it: {other}." in text
    assert "Whether a shallower network would do is open: the study has none." in text
    assert advice.next_step == f"add {advice.choice.spec.family}-20 (study.variants): one depth tells nothing of others"


@pytest.mark.parametrize(("learnt", "by_heart"), [(0.995, True), (0.98, False)])
def test_a_network_that_knows_its_images_by_heart_is_told_to_get_more(learnt: float, by_heart: bool) -> None:
    study = planted({"plain-8": 0.55, "residual-8": 0.63}, seeds=4)
    scores = tuple(replace(each, train_accuracy_reestimated=learnt) for each in study.scores)
    advice = advised(Study("planted", scores))
    assert ("99.5 % of the training images right: it knows them by heart" in " ".join(advice.sentences())) is by_heart
    assert advice.next_step.startswith("more images, or augmentation" if by_heart else "add residual-20")


def test_where_no_point_is_left_to_gain_nothing_deeper_is_asked_for() -> None:
    advice = advised(planted({"plain-8": 0.996, "residual-8": 0.99}, seeds=4, noise=0.0001))
    assert advice.at_the_edge
    assert "nothing needs to be run" in advice.next_step


@pytest.mark.parametrize("seeds", [1, 2])
def test_too_few_seeds_are_called_so(seeds: int) -> None:
    advice = advised(planted(RISING, seeds=seeds))
    assert not advice.sure
    text = " ".join(advice.sentences())
    assert text.startswith(f"Too few seeds to advise: {seeds} seed")
    assert "Nothing is sure below 3 seeds" in text
    assert "3 seeds at least" in advice.next_step


def test_noise_that_hides_what_matters_asks_for_more_seeds() -> None:
    advice = advised(planted({"plain-8": 0.90, "residual-8": 0.905, "residual-20": 0.91}, seeds=3, noise=0.02))
    assert not advice.sure
    text = " ".join(advice.sentences())
    assert "This is not sure: the choice may lose up to" in text
    assert "many times as many seeds, if any number would tell" in advice.next_step


def test_a_network_that_diverges_is_not_advised() -> None:
    study = planted({**RISING, "residual-32": 0.97}, seeds=5)
    spec = ModelSpec.parse("residual-32")
    kept = [each for each in study.scores if (each.variant, each.seed) != ("residual-32", 0)]
    advice = advised(Study("planted", (*kept, empty_score(spec, 0, "diverged"))))
    assert advice.best.spec.name != "residual-32"


def test_without_a_finished_training_there_is_no_advice() -> None:
    missing = (empty_score(ModelSpec.parse("plain-8"), 0, "missing"),)
    assert advise(Study("planted", missing), {}, HERE) is None


def test_more_depth_is_priced_as_measured_and_beyond_the_study_by_its_work() -> None:
    prices = advised(planted(RISING, seeds=6), list(RISING)).prices
    assert prices is not None
    here, there = prices
    assert (here.spec.name, there.spec.name, there.measured) == ("residual-20", "residual-32", True)
    assert (here.seconds, there.seconds) == (200, 320)
    assert 1.5 < there.memory / here.memory < 1.7
    prices = advised(planted({**RISING, "residual-32": 0.95}, seeds=6), list(RISING)).prices
    assert prices is not None
    assert (prices[1].spec.name, prices[1].measured) == ("residual-50", False)
    assert prices[1].seconds == 320 * 48 / 30
    assert advised(planted(RISING, seeds=6)).prices is None


def test_activations_are_counted_by_hand() -> None:
    # residual-8 at 32x32: a stem and two convolutions of 16 filters at 32x32, 32 at 16x16, 64 at 8x8.
    values = 32 * 32 * 16 * 3 + 16 * 16 * 32 * 2 + 8 * 8 * 64 * 2
    assert activations(ModelSpec.parse("residual-8"), (32, 32, 3)) == 2 * 4 * values


@pytest.mark.parametrize(
    ("name", "deeper"),
    [("residual-20", "residual-32"), ("residual-56", "residual-86"), ("plain-20-nobn", "plain-32-nobn")],
)
def test_the_next_depth_is_half_as_deep_again(name: str, deeper: str) -> None:
    assert next_deeper(ModelSpec.parse(name)).name == deeper


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of params.yaml and splits."""
    shutil.copy(ROOT / PARAMS, tmp_path)
    monkeypatch.chdir(tmp_path)
    one = Split(np.zeros((4, 8, 8, 1), np.uint8), np.array([0, 1, 0, 1]))
    splits: dict[SplitName, Split] = {"train": one, "validation": one, "test": one}
    write_splits(paths.splits("digits"), splits, name="digits", classes=("0", "1"), source="x")
    return tmp_path


@pytest.mark.usefixtures("project")
def test_the_command_prints_the_advice_of_the_scores_that_are_here(capsys: pytest.CaptureFixture[str]) -> None:
    write_scores(paths.report("digits"), planted(RISING, seeds=6).scores)
    main(["advise", "digits"], standalone_mode=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Use residual-8: 84.")  # on four images 7 points are a third of one
    assert lines[-1].startswith("Next: ")
    assert "One of the 4 validation images is 25.0 points." in lines[-2]


def lines_in_a_clone(scores: Sequence[Score], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the advice where git's files lie alone."""
    shutil.rmtree(paths.splits("digits"))
    described = {"classes": ["0", "1"], "image_shape": [8, 8, 1], "sizes": dict.fromkeys(("train", "validation"), 4)}
    write_json(paths.manifest("preprocess", "digits"), described)
    write_scores(paths.report("digits"), scores)
    main(["advise", "digits"], standalone_mode=False)
    return capsys.readouterr().out.splitlines()


@pytest.mark.usefixtures("project")
def test_a_clone_without_splits_is_advised_and_told_of_the_champion(capsys: pytest.CaptureFixture[str]) -> None:
    scores = planted({"plain-8": 0.90, "residual-8": 0.905, "residual-20": 0.91}, seeds=3, noise=0.02).scores
    lines = lines_in_a_clone(scores, capsys)
    best = champion(Study("planted", tuple(scores)))
    assert best is not None
    assert not lines[0].startswith(f"Use {best.winner.spec}:")
    assert lines[1].startswith("The champion, ")
    assert f" is {best.winner.spec}: the highest validation accuracy" in lines[1]
    assert "One of the 4 validation images is 25.0 points." in lines[-2]


@pytest.mark.usefixtures("project")
def test_without_scores_the_command_says_how_to_get_some(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["advise", "digits"], standalone_mode=False) == 1
    assert "scores.csv: is not here; `resblock run digits` makes it" in capsys.readouterr().err
