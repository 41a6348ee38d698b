"""Verdicts on simulated studies: known gaps, no gaps, too few seeds, and claims that nothing was measured for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from resblock.core.spec import ModelSpec
from resblock.evaluation.score import METRICS, Score
from resblock.study.claims import CLAIMS
from resblock.study.claims.accuracy import VERY_DEEP
from resblock.study.interval import t_interval
from resblock.study.summary import Study
from resblock.study.verdicts import (
    Claim,
    Contrast,
    Evidence,
    Trained,
    Verdict,
    decide,
    judge,
    over_networks,
    paired,
)

BY_NAME = {claim.name: claim for claim in CLAIMS}
RECIPE: Mapping[str, Any] = {
    "learning_rate": 0.001,
    "schedule": "constant",
    "weight_decay": 0.0,
    "horizontal_flip": True,
    "vertical_flip": True,
    "threads": 0,
}


def score(variant: str, seed: int, train: float, validation: float, test: float) -> Score:
    spec = ModelSpec.parse(variant)
    values = {"train": train, "validation": validation, "test": test}
    figures = {name: values[name.partition("_")[0]] for name in METRICS}
    return Score(spec.name, spec.family, spec.depth, seed, "finished", **figures)


def study(means: Mapping[str, float], seeds: int = 6, spread: float = 0.002, dataset: str = "cifar10") -> Study:
    """Networks whose test accuracy is their mean and a seed's luck; on training images they lose half as much."""
    rng = np.random.default_rng(0)
    scores = [
        score(variant, seed, 1 - (1 - mean) / 2 + luck / 2, mean, mean + luck)
        for variant, mean in means.items()
        for seed, luck in enumerate(rng.normal(0, spread, size=seeds))
    ]
    return Study(dataset, tuple(scores))


def evidence(means: Mapping[str, float], **choices: Any) -> Evidence:
    return Evidence(Trained(RECIPE, study(means, **choices)))


def verdict(name: str, given: Evidence) -> Verdict:
    return judge(BY_NAME[name], given)


# The rule


@pytest.mark.parametrize(
    ("values", "margin", "outcome"),
    [
        ([0.04, 0.05, 0.06], 0.005, "supported"),
        ([-0.04, -0.05, -0.06], 0.005, "refuted"),
        ([0.0, 0.0001, -0.0001], 0.005, "refuted"),  # equivalent to nothing
        ([0.002, 0.0021, 0.0019], 0.005, "refuted"),  # there, and too small to matter
        ([0.0, 0.05, 0.1], 0.005, "undecided"),
        ([0.3], 0.005, "undecided"),
        ([0.1, 0.11, 0.12], 0.0, "supported"),
        ([-0.1, -0.11, -0.12], 0.0, "refuted"),
        ([0.0, 0.0], 0.0, "undecided"),
    ],
)
def test_the_rule_is_what_it_says(values: list[float], margin: float, outcome: str) -> None:
    assert decide(t_interval(values), margin) == outcome


def test_without_an_effect_a_claim_is_supported_as_rarely_as_promised() -> None:
    draws = np.random.default_rng(0).normal(0, 0.01, size=(4000, 4))
    outcomes = [decide(t_interval(list(draw)), 0.005) for draw in draws]
    share = outcomes.count("supported") / len(outcomes)
    assert share < 0.025 + 4 * math.sqrt(0.025 * 0.975 / len(outcomes))


def test_with_an_effect_as_large_as_the_margin_a_claim_is_refuted_as_rarely_as_promised() -> None:
    draws = np.random.default_rng(1).normal(0.005, 0.01, size=(4000, 4))
    outcomes = [decide(t_interval(list(draw)), 0.005) for draw in draws]
    share = outcomes.count("refuted") / len(outcomes)
    assert share == pytest.approx(0.025, abs=4 * math.sqrt(0.025 * 0.975 / len(outcomes)))


def test_undecided_says_how_many_seeds_would_decide() -> None:
    values = {0: 0.0, 1: 0.02, 2: 0.01, 3: -0.01}  # mean 0.005, spread 0.0129: off zero at 0.387 spreads: 55 pairs
    claim = Claim("c", "It is so.", "here", "so", "x", lambda _: Contrast(values, "a − b"))
    found = judge(claim, evidence({}))
    assert found.outcome == "undecided"
    assert found.advice == "about 55 seeds would decide"


def test_an_outcome_the_study_is_not_made_for_stays_undecided_with_the_reason() -> None:
    contrast = Contrast({0: -0.1, 1: -0.1}, "a − b", cannot="refuted", because="needs more")
    found = judge(Claim("c", "It is so.", "here", "so", "x", lambda _: contrast), evidence({}))
    assert (found.outcome, found.advice) == ("undecided", "needs more")


def test_pairing_takes_each_seed_with_itself_and_drops_what_is_not_there() -> None:
    deep, shallow, other = (ModelSpec.parse(name) for name in ("residual-20", "residual-8", "cnn-4"))
    first = {deep: {0: 0.9, 1: 0.8, 2: 0.7}, shallow: {0: 0.5, 1: 0.5}, other: {0: 1.0}}
    second = {deep: {1: 0.6, 0: 0.8}, shallow: {1: 0.4, 0: 0.3}}
    assert paired(first, second) == {0: pytest.approx(0.15), 1: pytest.approx(0.15)}
    assert over_networks({deep: {0: 1.0}, shallow: {}}) == {0: 1.0}
    assert over_networks({}) == {}


# The claims

TWINS = {"plain-8": 0.80, "residual-8": 0.80, "plain-56": 0.70, "residual-56": 0.80, "cnn-4": 0.75}


def test_a_planted_gap_supports_what_rests_on_it() -> None:
    given = evidence(TWINS)
    for name in ("cnn", "twin", "depth"):
        found = verdict(name, given)
        assert found.outcome == "supported", name
        assert found.interval.n == 6
    assert verdict("twin", given).interval.mean == pytest.approx(0.05, abs=0.005)
    assert verdict("depth", given).interval.mean == pytest.approx(0.05, abs=0.005)


def test_a_planted_zero_refutes_by_the_margin() -> None:
    given = evidence(dict.fromkeys(TWINS, 0.8), spread=0.0005)
    for name in ("cnn", "twin", "depth"):
        assert verdict(name, given).outcome == "refuted", name


def test_one_seed_decides_no_claim() -> None:
    given = Evidence(
        Trained(RECIPE, study(TWINS, seeds=1)),
        {"bare": Trained({**RECIPE, "horizontal_flip": False, "vertical_flip": False}, study(TWINS, seeds=1))},
    )
    for claim in CLAIMS:
        found = judge(claim, given)
        assert found.outcome in ("undecided", "not measured in this study"), claim.name
        if found.outcome == "undecided":
            assert "two seeds" in found.advice


def test_nothing_trained_measures_nothing() -> None:
    for claim in CLAIMS:
        found = judge(claim, Evidence(Trained({}, Study("cifar10", ()))))
        assert found.outcome == "not measured in this study", claim.name
        assert math.isnan(found.interval.mean)


def test_shallow_networks_cannot_refute_what_is_said_of_very_deep_ones() -> None:
    found = verdict("depth", evidence({"plain-8": 0.8, "residual-8": 0.8, "plain-20": 0.8, "residual-20": 0.8}))
    assert found.outcome == "undecided"
    assert str(VERY_DEEP) in found.advice


def test_the_networks_of_the_first_claim_are_chosen_by_validation_alone() -> None:
    scores = [score("residual-8", seed, 1, 0.9, 0.7) for seed in (0, 1)]  # better on validation, worse on test
    scores += [score("residual-20", seed, 1, 0.8, 0.9) for seed in (0, 1)]
    scores += [score("cnn-4", seed, 1, 0.8, 0.8) for seed in (0, 1)]
    found = verdict("cnn", Evidence(Trained(RECIPE, Study("cifar10", tuple(scores)))))
    assert found.contrast is not None
    assert found.contrast.compared == "residual-8 − cnn-4"
    assert found.outcome == "refuted"


def test_late_statistics_decide_no_claim_about_networks() -> None:
    """As trained, chance everywhere; re-estimated, the planted gap: the verdicts are the gap's."""
    planted = study(TWINS)
    trained = [name for name in METRICS if name.endswith("accuracy")]
    scores = tuple(replace(result, **dict.fromkeys(trained, 0.1)) for result in planted.scores)
    for name in ("cnn", "twin", "depth"):
        late = verdict(name, Evidence(Trained(RECIPE, replace(planted, scores=scores))))
        assert late.interval == verdict(name, Evidence(Trained(RECIPE, planted))).interval, name
        assert late.outcome == "supported"


def test_flips_are_found_by_what_their_recipes_say() -> None:
    ablations = {
        name: Trained({**RECIPE, "horizontal_flip": horizontal, "vertical_flip": vertical}, study({"residual-8": mean}))
        for name, horizontal, vertical, mean in (
            ("a", False, False, 0.70),
            ("b", True, False, 0.75),
            ("c", False, True, 0.65),
        )
    }
    given = Evidence(Trained(RECIPE, study({"residual-8": 0.72, "plain-8": 0.7})), ablations)
    found = {name: verdict(name, given) for name in ("flips", "flips-horizontal", "flips-vertical")}
    assert [v.outcome for v in found.values()] == ["supported", "supported", "refuted"]
    assert [v.interval.mean for v in found.values()] == pytest.approx([0.02, 0.05, -0.05], abs=0.003)


def test_other_data_speak_for_themselves_and_the_papers_do_not() -> None:
    assert verdict("elsewhere", evidence(TWINS)).outcome == "not measured in this study"
    assert verdict("elsewhere", evidence(TWINS, dataset="digits")).outcome == "supported"


def test_every_claim_has_words_and_a_name_of_its_own() -> None:
    assert len(BY_NAME) == len(CLAIMS)
    for claim in CLAIMS:
        assert claim.statement.endswith(".")
        assert claim.measured.endswith(".")
        assert claim.source
