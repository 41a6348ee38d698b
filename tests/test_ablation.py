"""Ablations: effects are paired by seed, against values worked by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from resblock.core.spec import ModelSpec
from resblock.core.splits import DatasetDescription
from resblock.core.training.run import EpochRow
from resblock.evaluation.score import METRICS, Score, empty_score
from resblock.report.material import Material
from resblock.report.sections.ablation import section
from resblock.study.effects import REBOUND, changes, effects
from resblock.study.rebound import find_rebounds
from resblock.study.results import Results
from resblock.study.summary import Study
from resblock.study.verdicts import Trained

SPEC = ModelSpec.parse("residual-8")
OWN = {"learning_rate": 0.001, "horizontal_flip": True}
LOW = {**OWN, "learning_rate": 0.0001}


def score(seed: int, accuracy: float, spec: ModelSpec = SPEC) -> Score:
    figures = {name: accuracy if "accuracy" in name else 1 - accuracy for name in METRICS}
    return Score(spec.name, spec.family, spec.depth, seed, "finished", **figures)


def curve(*validation_losses: float) -> list[EpochRow]:
    return [
        EpochRow(n, 0.1, 1 / n, 0.5, loss, 0.5, 1 / n, 0.5, 1 / n, 0.5)
        for n, loss in enumerate(validation_losses, start=1)
    ]


def test_effects_are_paired_by_seed_over_seeds_that_both_have_the_diverged_at_chance() -> None:
    base = Trained(OWN, Study("digits", (score(0, 0.5), score(1, 0.75), score(2, 0.25), score(3, 0.5))))
    theirs = (score(2, 0.375), score(0, 0.625), empty_score(SPEC, 1, "missing"), empty_score(SPEC, 3, "diverged"))
    (effect,) = effects(base, {"low-lr": Trained(LOW, Study("digits", theirs, classes=4))}, "test_accuracy")
    assert effect.differences == {2: 0.125, 0: 0.125, 3: -0.25}


def test_the_effect_has_the_mean_of_its_differences_with_their_interval() -> None:
    base = Trained(OWN, Study("digits", (score(0, 0.5), score(2, 0.25))))
    theirs = Trained(LOW, Study("digits", (score(2, 0.375), score(0, 0.625))))
    (effect,) = effects(base, {"low-lr": theirs}, "test_accuracy")
    assert (effect.recipe, effect.spec, effect.interval.mean, effect.interval.half_width) == ("low-lr", SPEC, 0.125, 0)


def test_a_network_that_the_study_lacks_has_an_effect_without_figures() -> None:
    other = ModelSpec.parse("residual-14")
    base = Trained(OWN, Study("digits", (score(0, 0.5),)))
    (effect,) = effects(base, {"low-lr": Trained(LOW, Study("digits", (score(0, 0.5, other),)))}, "test_accuracy")
    assert effect.differences == {}
    assert effect.interval.n == 0


def test_the_effect_on_the_rebound_is_that_of_rises_over_falls() -> None:
    study = Study("digits", (score(0, 0.5),))
    # Falls by 0.5 and rises by 0.25: a half. Falls by 0.2 and never rises: nothing.
    base = Trained(OWN, study, find_rebounds({SPEC: {0: curve(1.0, 0.5, 0.75)}}))
    steady = Trained(LOW, study, find_rebounds({SPEC: {0: curve(1.0, 0.8)}}))
    (effect,) = effects(base, {"low-lr": steady}, REBOUND)
    assert effect.differences == {0: pytest.approx(-0.5)}


def test_changes_name_what_differs_and_nothing_else() -> None:
    assert changes(OWN, LOW) == {"learning_rate": (0.001, 0.0001)}
    assert changes(OWN, OWN) == {}


@pytest.fixture
def material() -> Material:
    curves = {SPEC: {seed: curve(1.0, 0.5, 0.75 + seed / 64) for seed in (0, 1)}}
    steady = find_rebounds({SPEC: {seed: curve(1.0, 0.8) for seed in (0, 1)}})
    own, theirs = ((score(0, 0.5 + more), score(1, 0.75 + more)) for more in (0, 0.125))
    return Material(
        dataset=DatasetDescription("cifar10", ("cat", "dog"), (8, 8, 3), {"train": 9, "test": 8}, {}, "a box"),
        results=Results(scores=own),
        curves=curves,
        costs={},
        recipes=[OWN],
        ablations={
            "low-lr": Trained(LOW, Study("pets", theirs), steady),
            "unflipped": Trained({**OWN, "horizontal_flip": False}, Study("pets", (empty_score(SPEC, 1, "diverged"),))),
        },
    )


def test_the_report_says_what_each_recipe_changes_and_what_befell_it(material: Material) -> None:
    found = section(material)
    assert found is not None
    (table,), (picture,) = found.tables, found.pictures
    shown = table.frame.set_index("recipe")
    assert list(shown["what differs"]) == ["learning_rate: 0.001 → 0.0001", "horizontal_flip: true → false"]
    # Both seeds gain one image of eight: t(0.975, 1) sqrt(1/6 / 2) = 12.71 * 0.2887 = 3.67 images, or 45.8 points.
    for kind in ("re-estimated", "as trained"):
        assert list(shown[f"test, {kind}"]) == ["+12.5 [-33.3, +58.3]", "-25.0"]
    assert list(shown["rebound (rises / falls)"]) == ["-51.6 [-71.4, -31.7]", "–"]
    assert list(shown["seeds"]) == ["2", "1"]
    assert list(shown["remarks"]) == ["–", "residual-8 diverged in 1 of 1 seeds, counted at chance (50 %)"]
    data = picture.data.query("metric == 'test_accuracy'")
    assert list(zip(data["recipe"], data["seed"], data["difference"], strict=True)) == [
        ("low-lr", 0, 0.125),
        ("low-lr", 1, 0.125),
        ("unflipped", 1, -0.25),
    ]


def test_a_report_without_ablations_has_no_section_on_them(material: Material) -> None:
    assert section(replace(material, ablations={})) is None
