"""Verdicts on simulated studies: known gaps, no gaps, too few seeds, and claims that nothing was measured for."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from resblock.core.spec import ModelSpec
from resblock.evaluation.score import METRICS, Score
from resblock.params import Params
from resblock.study.claims import CLAIMS
from resblock.study.claims.accuracy import VERY_DEEP
from resblock.study.claims.basis import PAPERS_RECIPE
from resblock.study.interval import Interval, t_interval
from resblock.study.summary import Study
from resblock.study.verdicts import (
    Claim,
    Contrast,
    Evidence,
    Outcome,
    Trained,
    Verdict,
    decide,
    judge,
    judge_all,
    over_networks,
    paired,
    refutation,
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


def study(
    means: Mapping[str, float], seeds: int = 6, spread: float = 0.002, dataset: str = "cifar10", draw: int = 0
) -> Study:
    """Networks whose test accuracy is their mean and a seed's luck; on training images they lose half as much."""
    rng = np.random.default_rng(draw)
    scores = [
        score(variant, seed, 1 - (1 - mean) / 2 + luck / 2, mean, mean + luck)
        for variant, mean in means.items()
        for seed, luck in enumerate(rng.normal(0, spread, size=seeds))
    ]
    return Study(dataset, tuple(scores), classes=10, sizes={"train": 45_000, "validation": 5_000, "test": 10_000})


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
        ([0.0045, 0.005, 0.0055], 0.005, "undecided"),  # off zero, and not known to matter
        ([-0.01, 0.0, 0.001], 0.01, "undecided"),
        ([-0.011, 0.0, 0.001], 0.03, "refuted"),
        ([0.3], 0.005, "undecided"),
        ([0.1, 0.11, 0.12], 0.0, "supported"),
        ([-0.1, -0.11, -0.12], 0.0, "refuted"),
        ([0.0, 0.0], 0.0, "undecided"),
        ([0.3, 0.3, 0.3], 0.005, "undecided"),  # an interval of no width is no certainty
    ],
)
def test_the_rule_is_what_it_says(values: list[float], margin: float, outcome: str) -> None:
    assert decide(t_interval(values), margin) == outcome


@pytest.mark.parametrize(
    ("low", "high", "kind"),
    [
        (-0.004, 0.004, "too small to matter"),
        (-0.03, -0.006, "the opposite"),
        (-0.03, 0.004, ""),  # either, and both refute
        (-0.03, -0.004, ""),
    ],
)
def test_what_refutes_is_named_where_it_is_known(low: float, high: float, kind: str) -> None:
    interval = Interval((low + high) / 2, low, high, 3)
    assert decide(interval, 0.005) == "refuted"
    assert refutation(interval, 0.005) == kind
    assert refutation(interval, 0.0) == ""  # a threshold has no other side of zero


@pytest.mark.parametrize("n", [2, 3, 8, 100])
def test_at_the_margin_verdicts_err_as_rarely_as_promised_for_every_number_of_seeds(n: int) -> None:
    draws = np.random.default_rng(n).normal(0.005, 0.01, size=(800, n))
    outcomes = [decide(t_interval(list(draw)), 0.005) for draw in draws]
    for wrong in ("supported", "refuted"):  # an effect of just the margin, or a hair below or above it
        share = outcomes.count(wrong) / len(outcomes)
        assert share < 0.025 + 4 * math.sqrt(0.025 * 0.975 / len(outcomes)), wrong
    intervals = [t_interval(list(draw - 0.01)) for draw in draws]  # at minus the margin: neither of the kinds is known
    named = [refutation(interval, 0.005) for interval in intervals if decide(interval, 0.005) == "refuted"]
    assert sum(map(bool, named)) / len(draws) < 0.05 + 4 * math.sqrt(0.05 * 0.95 / len(draws))


def test_more_seeds_never_turn_a_verdict_round() -> None:
    """A true 0.4 points against a margin of 0.5: supported at n = 8 and refuted at n = 100 by the rule before."""
    rng = np.random.default_rng(0)
    shares = {
        n: [decide(t_interval(list(draw)), 0.005) for draw in rng.normal(0.004, 0.0035, size=(200, n))]
        for n in (3, 8, 20, 100, 400)
    }
    supported = [outcomes.count("supported") / 200 for outcomes in shares.values()]
    refuted = [outcomes.count("refuted") / 200 for outcomes in shares.values()]
    assert max(supported) < 0.025 + 4 * math.sqrt(0.025 * 0.975 / 200)
    assert refuted == sorted(refuted)
    assert refuted[-1] > 0.99


def test_undecided_says_how_many_seeds_would_decide() -> None:
    values = [0.0, 0.02, 0.01, -0.01]  # mean 0.005, spread 0.0129: off zero at 0.387 spreads: 55 pairs

    def advice(values: list[float], margin: float = 0.0) -> str:
        contrast = Contrast(dict(enumerate(values)), "a − b", margin=margin)
        found = judge(Claim("c", "It is so.", "here", "so", "x", lambda _: contrast), evidence({}))
        assert found.outcome == "undecided"
        return found.advice

    assert advice(values) == "many times as many seeds, if any number would decide"  # 55, from four: a guess
    # Twelve: 0.428 spreads of 0.0117. (1.96 + 0.84)^2 / 0.428^2 = 43 for the normal, and two more for Student's t.
    assert advice(values * 3) == "about 45 seeds would decide"
    assert advice(values * 3, margin=0.01) == "about 45 seeds would decide"  # as far below as above
    assert advice([0.01, 0.01]) == "all seeds give the same number, so nothing is known of their spread"
    assert advice([0.01]) == "needs two seeds at least"


def judged(values: Sequence[float], **choices: Any) -> Verdict:
    contrast = Contrast(dict(enumerate(values)), "a − b", because="needs more", **choices)
    return judge(Claim("c", "It is so.", "here", "so", "x", lambda _: contrast), evidence({}))


def test_an_outcome_the_study_is_not_made_for_stays_undecided_with_the_reason() -> None:
    refuted: tuple[Outcome, ...] = ("refuted",)
    both: tuple[Outcome, ...] = ("supported", "refuted")
    for cannot in (refuted, both):
        found = judged([-0.1, -0.1001], cannot=cannot)
        assert (found.outcome, found.advice, found.barred) == ("undecided", "needs more", True)


def test_no_seeds_are_promised_where_more_would_lead_to_what_the_study_is_not_made_for() -> None:
    """A mean below the margin: more seeds would refute, which this study cannot; once "a few more would decide"."""
    below, above = [0.85, 0.93, 1.01], [0.95, 1.03, 1.11]
    for values, promised in ((below, False), (above, True)):
        found = judged(values, margin=1.0, cannot=("refuted",))
        assert (found.outcome, found.barred) == ("undecided", False)
        assert (found.advice == "the interval holds the margin; needs more") != promised
        assert found.advice.endswith("would decide") == promised
    assert judged(below, margin=1.0).advice.endswith("would decide")
    assert judged([0.9], margin=1.0, cannot=("refuted",)).advice == "needs two seeds at least"


def test_holm_holds_all_measured_claims_together() -> None:
    """One claim that is decided beyond doubt, one that is decided alone and not in a family of five."""
    contrasts = [Contrast({0: 1.0, 1: 1.1, 2: 1.2}, "a"), Contrast({0: 0.25, 1: 0.4, 2: 0.35}, "b"), None]
    claims = [Claim(str(n), "So.", "here", "so", "x", lambda _, c=c: c) for n, c in enumerate(contrasts)]
    found = judge_all(claims, evidence({}))
    assert [v.outcome for v in found] == ["supported", "supported", "not measured in this study"]
    first, second = found[0].p_value, found[1].p_value
    assert [first, second] == pytest.approx([0.00274, 0.0169], rel=0.05)
    assert [found[0].adjusted_p_value, found[1].adjusted_p_value] == pytest.approx([2 * first, second])
    assert [v.survives for v in found] == [True, True, False]
    many = judge_all([*claims[:2], *(replace(claims[1], name=str(n)) for n in range(2, 5))], evidence({}))
    assert [v.survives for v in many] == [True, False, False, False, False]


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
    found = verdict("cnn", Evidence(Trained(RECIPE, Study("cifar10", tuple(scores), sizes={"test": 10_000}))))
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
        name: Trained(
            {**RECIPE, "horizontal_flip": horizontal, "vertical_flip": vertical}, study({"residual-8": mean}, draw=1)
        )
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
    here, there = evidence(TWINS), evidence(TWINS, dataset="digits")
    assert verdict("elsewhere", here).outcome == "not measured in this study"
    assert verdict("elsewhere", there).outcome == "supported"
    assert verdict("twin", there).outcome == "not measured in this study"  # the same number, and not twice
    assert verdict("twin", there).advice == "it is said of cifar10"


def test_the_papers_recipe_is_that_of_the_papers_data(params: Params) -> None:
    own = params.train["cifar10"].tree()
    assert {key: own[key] for key in PAPERS_RECIPE} == PAPERS_RECIPE
    assert own["epochs"] == 20  # which a longer study by the same recipe goes through


def test_what_the_paper_says_of_its_recipe_is_not_measured_by_another() -> None:
    def outside(recipe: Mapping[str, Any]) -> str:
        return BY_NAME["convergence"].outside(Evidence(Trained(recipe, study(TWINS))))

    for change, why in (({"schedule": "cosine"}, "schedule: cosine"), ({"weight_decay": 0.1}, "weight_decay: 0.1")):
        assert outside({**RECIPE, **change}).endswith(why)
    assert outside({})
    assert not outside(RECIPE)
    other = Evidence(Trained({**RECIPE, "schedule": "cosine"}, study(TWINS)))
    assert verdict("twin", other).outcome == "supported"  # said of networks, whatever the recipe


def test_what_is_measured_from_a_threshold_says_so() -> None:
    """Once "-1.4 points" beside "share of the rises"; a share cannot be negative."""
    for name in ("rebound-statistics", "rebound-overfitting"):
        assert "minus one half" in BY_NAME[name].measured
    assert "by how much it lies inside 15 to 25" in BY_NAME["convergence"].measured


def test_a_mean_over_networks_shows_each_of_them() -> None:
    """Twins of 8 layers gain nothing: the mean over depths is theirs, too, and the page shows it."""
    found = verdict("elsewhere", evidence(TWINS, dataset="digits"))
    assert found.contrast is not None
    start, *others = found.contrast.compared.split(", depth ")
    assert start == "residual − plain"
    assert re.fullmatch(r"8 -0\.03 \[-.*\]", others[0])
    assert re.fullmatch(r"56 \+10\.\d \[\+.*\]", others[1])
    ablations = {
        "bare": Trained(
            {**RECIPE, "horizontal_flip": False, "vertical_flip": False},
            study({"residual-8": 0.70, "plain-8": 0.6}, draw=1),
        )
    }
    flips = verdict("flips", Evidence(Trained(RECIPE, study({"residual-8": 0.72, "plain-8": 0.7})), ablations))
    assert flips.contrast is not None
    assert re.search(r"residual-8 \+[12]\.\d \[.*, plain-8 \+(9|10)\.\d \[", flips.contrast.compared)


def test_every_claim_has_words_and_a_name_of_its_own() -> None:
    assert len(BY_NAME) == len(CLAIMS)
    for claim in CLAIMS:
        assert claim.statement.endswith(".")
        assert claim.measured.endswith(".")
        assert claim.source
