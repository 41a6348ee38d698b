"""Planted studies, read off the page: what a sceptic would hold against a verdict, and what the page says instead."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from resblock.core.spec import ModelSpec
from resblock.core.splits import DatasetDescription
from resblock.core.training.run import Cost
from resblock.evaluation.score import METRICS, Score, Status, empty_score
from resblock.report.material import Material
from resblock.report.page import compose, render
from resblock.report.sections import ablation, comparison
from resblock.report.summary import summarise
from resblock.report.words.abstract import abstract, deepening
from resblock.report.words.answer import answer
from resblock.report.words.verdicts import verdicts_on
from resblock.study.claims import CLAIMS
from resblock.study.claims.basis import PAPERS_RECIPE
from resblock.study.results import Results
from resblock.study.verdicts import Trained

STATEMENTS = {claim.name: claim.statement for claim in CLAIMS}
TEST = 10_000  # images
Accuracies = Mapping[str, Sequence[float | str]]  # per cent or what befell it, by network, in the order of the seeds


def score(variant: str, seed: int, value: float | str) -> Score:
    """A training with this accuracy, as trained half of it, or what befell it."""
    spec = ModelSpec.parse(variant)
    if isinstance(value, str):
        return empty_score(spec, seed, cast(Status, value))
    own = {name: value / 100 * (1 if name.endswith("reestimated") else 0.5) for name in METRICS}
    return Score(spec.name, spec.family, spec.depth, seed, "finished", **own)


def planted(
    accuracies: Accuracies,
    dataset: str = "cifar10",
    recipe: Mapping[str, Any] = PAPERS_RECIPE,
    multiply_adds: Mapping[str, float] | None = None,
    ablations: Mapping[str, Trained] | None = None,
) -> Material:
    scores = [score(name, seed, value) for name, values in accuracies.items() for seed, value in enumerate(values)]
    costs = {
        ModelSpec.parse(name): {0: Cost("2026-01-02T03:04:05+00:00", (1.0,), 9.0, 1, int(1e6 * millions), "m", 1, {})}
        for name, millions in (multiply_adds or {}).items()
    }
    return Material(
        dataset=DatasetDescription(
            dataset,
            tuple("0123456789"),
            (32, 32, 3),
            {"train": 45_000, "validation": 5_000, "test": TEST},
            {},
            "nowhere",
        ),
        results=Results(scores=scores),
        curves={},
        costs=costs,
        recipes=[recipe],
        ablations=ablations or {},
    )


def said_of(claim: str, material: Material) -> str:
    """Return what the page's table of verdicts says of `claim`, without tags."""
    page = render(material, ())
    (row,) = [row for row in re.findall("<tr>.*?</tr>", page, re.DOTALL) if html.escape(STATEMENTS[claim]) in row]
    return " ".join(html.unescape(re.sub("<[^>]+>", " ", row)).split())


def luck(mean: float, n: int = 3, spread: float = 0.2, draw: int = 0) -> list[float]:
    """Accuracies in per cent of `n` seeds around `mean`, in whole images."""
    drawn = np.random.default_rng([draw, round(100 * mean)]).normal(mean, spread, size=n)
    return [float(value) for value in np.round(drawn * TEST / 100) * 100 / TEST]


SHALLOW: Accuracies = {
    "plain-8": luck(88, draw=1),
    "residual-8": luck(88, draw=2),
    "plain-20": luck(91, draw=3),
    "residual-20": luck(91, draw=4),
    "residual-56": luck(92, draw=5),
}


# Diverged and missing trainings


@pytest.mark.parametrize("plain", [["diverged"] * 3, [10.0, 10.0, 10.0]], ids=["diverged", "ended at chance"])
def test_a_network_that_diverges_comes_off_no_better_than_one_that_ends_at_chance(plain: list[Any]) -> None:
    material = planted({**SHALLOW, "plain-56": plain})
    for claim in ("twin", "depth"):
        said = said_of(claim, material)
        assert "supported" in said, claim
        assert ("plain-56 diverged in 3 of 3 seeds, counted at chance (10 %)" in said) == (plain[0] == "diverged")
    assert "6 networks, 3 seeds, margin 0.5 points" in said_of("twin", material)
    assert re.search(r"residual − plain, depth 8 \S+ \[.*, depth 20 .*, depth 56 \+8", said_of("twin", material))
    assert "4 networks, 3 seeds" in said_of("depth", material)
    lead = " ".join(abstract(material, verdicts_on(material)))
    assert "At depth 56" in lead
    assert ("plain-56 diverged in 3 of 3 seeds" in lead) == (plain[0] == "diverged")


def test_one_diverged_seed_does_not_remove_that_seed_at_other_depths() -> None:
    said = said_of("twin", planted({**SHALLOW, "plain-56": [*luck(92, n=2), "diverged"]}))
    assert "6 networks, 3 seeds" in said
    assert "plain-56 diverged in 1 of 3 seeds, counted at chance (10 %)" in said


def test_missing_trainings_are_left_out_and_named() -> None:
    half = planted({**SHALLOW, "plain-56": [*luck(80, n=2), "missing"]})
    said = said_of("twin", half)
    assert "6 networks, 2 seeds" in said
    assert "plain-56 left out, missing: seed 2" in said
    assert "seed 2 left out of all, since not every network has it" in said
    none = said_of("twin", planted({**SHALLOW, "residual-8": luck(95), "plain-56": ["missing"] * 3}))
    assert "undecided the mean is to be over depth 8, depth 20 and depth 56, and of depth 56 nothing is here" in none
    assert "4 networks, 3 seeds" in none
    assert re.search(r"residual − plain, depth 8 \S+ \[.*, depth 20 ", none)
    assert not re.search(r"depth 56 [+-]", none)
    assert "plain-56 left out, missing: seeds 0, 1, 2" in none


def test_the_whole_page_of_a_study_that_diverged_names_it_and_its_gap() -> None:
    material = planted({**SHALLOW, "plain-56": ["diverged"] * 3})
    sections = compose(material)
    page, summary = render(material, sections), summarise(material, sections)
    (gap,) = [section for section in sections if section.name == "gap"]
    shown = gap.tables[0].frame.set_index(["twins", "images"])
    assert shown.loc[("56", "test"), "seeds"] == "3"
    assert shown.loc[("56", "test"), "gap [95 % t-interval]"].startswith("+8")
    assert "15 of 18 trainings finished, 3 diverged" in page
    for text in (page, summary):
        assert "plain-56 diverged in 3 of 3 seeds, counted at chance" in html.unescape(text).replace("\xa0", " ")


# Accuracies are counts


def test_equal_differences_of_an_image_decide_nothing_on_the_page() -> None:
    """Two seeds, one image apart each: once p = 0 and a certain verdict."""
    material = planted({"plain-8": [90.0, 90.0], "residual-8": [90.01, 90.01]})
    section = comparison.section(material)
    assert section is not None
    for table in section.tables:
        assert set(table.frame["decision"]) == {"undecided"}, table.name
    # An image more than the margin, twice: the interval's half is 12.71 * 0.289 = 3.7 images.
    assert "undecided" in said_of("twin", planted({"plain-8": [90.0, 90.0], "residual-8": [90.51, 90.51]}))


def test_an_interval_on_the_page_has_the_width_that_whole_images_give_it() -> None:
    """Differences of 10, 10 and 20 images: variance 33.3 and the rounding's 1/6, so 4.303 * sqrt(33.5 / 3) = 14.4."""
    material = planted({"plain-8": [90.0] * 3, "residual-8": [90.1, 90.1, 90.2]})
    assert "+0.13 [-0.01, +0.28]" in said_of("twin", material)
    one = planted({"plain-8": [90.0] * 3, "residual-8": [90.01, 90.01, 90.02]})  # 1/3 and 1/6: 4.303 * 0.408 = 1.76
    assert "+0.013 [-0.004, +0.031]" in said_of("twin", one)


def test_a_lead_of_an_image_makes_no_advice_sure() -> None:
    """One validation image more in each of three seeds: once "sure", and cnn-4 "worse beyond noise"."""
    material = planted({"cnn-4": [90.0] * 3, "residual-8": [90.02] * 3})
    page = html.unescape(render(material, compose(material)))
    assert "beyond noise" not in page
    assert "Use cnn-4" in page


# Margins


@pytest.mark.parametrize(
    ("gap", "spread", "verdict"),
    [
        (2.0, 0.1, "supported"),
        (0.4, 0.02, "refuted: too small to matter"),  # off zero, and less than half a point
        (-2.0, 0.1, "refuted: the opposite"),
        (0.5, 0.5, "undecided"),
    ],
)
def test_verdicts_stand_by_the_margin_on_the_page(gap: float, spread: float, verdict: str) -> None:
    material = planted({"plain-20": luck(90, 10, spread), "residual-20": luck(90 + gap, 10, spread, draw=1)})
    assert verdict in said_of("twin", material)
    assert verdict in summarise(material, [])


def test_few_seeds_say_in_words_what_would_decide() -> None:
    said = said_of("twin", planted({"plain-20": [90.0, 90.2, 89.9], "residual-20": [90.4, 91.0, 90.2]}))
    assert "undecided" in said
    assert re.search(r"seeds?[^.]* would decide", said)
    assert not re.search(r"about \d+ seeds", said)


# Data and recipe


def test_off_the_papers_data_one_number_stands_once() -> None:
    gap = {"plain-20": luck(90, 6), "residual-20": luck(93, 6)}
    digits = planted(gap, dataset="digits", recipe={**PAPERS_RECIPE, "schedule": "cosine"})
    assert "supported" in said_of("elsewhere", digits)
    for claim in ("twin", "cnn", "convergence", "rebound"):
        assert "not measured in this study it is said of cifar10" in said_of(claim, digits), claim
    cosine = planted(gap, recipe={**PAPERS_RECIPE, "schedule": "cosine"})
    assert "not measured in this study it is said of the paper's recipe; here schedule: cosine" in said_of(
        "convergence", cosine
    )
    assert "supported" in said_of("twin", cosine)


# Modifiers


def test_modified_twins_do_not_cancel_the_unmodified_and_are_named() -> None:
    """plain-20 at +3.9 and its -nobn twins at -3.9: once "refuted 0.0, depth 20"."""
    material = planted(
        {
            "plain-20": luck(88, draw=1),
            "residual-20": luck(91.9, draw=2),
            "plain-20-nobn": luck(88, draw=3),
            "residual-20-nobn": luck(84.1, draw=4),
        }
    )
    said = said_of("twin", material)
    assert "supported" in said
    assert "2 networks, 3 seeds" in said
    section = comparison.section(material)
    assert section is not None
    found = {table.name: list(dict.fromkeys(table.frame["twins"])) for table in section.tables}
    assert found["gaps-reestimated"] == ["20"]
    assert found["gaps-modified-reestimated"] == ["20-nobn"]
    assert set(section.pictures[0].data["twins"]) == {"20"}
    lead = " ".join(abstract(material, verdicts_on(material)))
    assert re.search(r"At depth 20, .* is \+(3\.[789]|4\.\d) points", lead)
    assert "nobn" not in lead


# Cost


def test_bottlenecks_are_compared_within_a_tenth_of_their_multiply_adds() -> None:
    accuracies = {"bottleneck-164": luck(93, 6), "residual-8": luck(93, 6), "preact-110": luck(90, 6)}
    near = planted(accuracies, multiply_adds={"bottleneck-164": 255, "residual-8": 12, "preact-110": 253})
    said = said_of("bottleneck", near)
    assert "bottleneck-164 − preact-110" in said
    assert "supported" in said
    far = planted(accuracies, multiply_adds={"bottleneck-164": 255, "residual-8": 12, "preact-110": 300})
    assert "no network within 10 % of the multiply-adds of bottleneck-164" in said_of("bottleneck", far)


def test_the_cnn_is_compared_with_one_of_equal_cost_too() -> None:
    """The best ResNet beats the best CNN because it costs seven times as much; at equal cost it does not."""
    accuracies = {"cnn-7": luck(91, 6), "residual-20": luck(89, 6), "residual-110": luck(94, 6)}
    material = planted(accuracies, multiply_adds={"cnn-7": 38.6, "residual-20": 40.6, "residual-110": 252.9})
    assert "residual-110 − cnn-7" in said_of("cnn", material)
    assert "supported" in said_of("cnn", material)
    assert "residual-20 − cnn-7" in said_of("cnn-cost", material)
    assert "refuted: the opposite" in said_of("cnn-cost", material)


# One family, one kind of statistics


def test_the_page_says_which_verdicts_survive_as_one_family() -> None:
    rng = np.random.default_rng(0)
    scores = {f"{family}-{depth}": luck(90, 3) for family in ("plain", "residual") for depth in (8, 56)}
    scores["residual-56"] = [value + 5 + float(rng.normal(0, 0.01)) for value in scores["plain-56"]]
    material = planted({**scores, "cnn-4": luck(60, 3)})
    page = html.unescape(render(material, ()))
    assert re.search(r"Held as one family of \d \(Holm\), \d of \d decided claims stay decided", page)
    assert said_of("cnn", material).endswith("supported")


def test_a_verdict_that_the_family_takes_back_is_told_apart() -> None:
    """Gaps of 1.17, 1.47 and 1.77 against a margin of 0.5: t = 5.6, p = 0.03; the second of three claims, 0.06."""
    plain, gap = [90.0, 90.2, 89.9], [1.17, 1.47, 1.77]
    residual = [value + more for value, more in zip(plain, gap, strict=True)]
    scores: Accuracies = {
        "plain-20": plain,
        "residual-20": residual,
        "bottleneck-20": [value + more for value, more in zip(residual, [0.4, -0.4, 0.1], strict=True)],
        "cnn-4": luck(60, 3),
    }
    material = planted(scores, multiply_adds={"residual-20": 40.6, "bottleneck-20": 40.0})
    found = {verdict.claim.name: verdict for verdict in verdicts_on(material)}
    taken_back = [name for name, verdict in found.items() if verdict.outcome == "supported" and not verdict.survives]
    assert taken_back
    page = html.unescape(render(material, ()))
    (kept,) = re.findall(r"\(Holm\), (\d) of (\d) decided claims stay decided", page)
    assert int(kept[1]) - int(kept[0]) == len(taken_back)
    for name in taken_back:
        assert "survives Holm" not in said_of(name, material)


def test_the_page_says_how_many_of_the_family_the_study_cannot_decide() -> None:
    """Twins of 8 and 20 layers: what is said of very deep ones counts in the family, and is decided by no seeds."""
    scores = {f"{family}-{depth}": luck(90, 6, draw=depth) for family in ("plain", "residual") for depth in (8, 20)}
    page = html.unescape(render(planted({**scores, "cnn-4": luck(60, 6)}), ()))
    refused = "By their numbers alone 1 more of the 3 would be decided (1 {}); what is here is not taken to decide"
    assert refused.format("refuted") in page
    deep = {**scores, "plain-20": luck(60, 6), "cnn-4": luck(60, 6)}
    assert refused.format("supported") in html.unescape(render(planted(deep), ()))
    assert "numbers alone" not in html.unescape(render(planted({"cnn-4": luck(60), "residual-8": luck(90)}), ()))


def test_what_is_decided_is_said_of_each_kind_of_statistics_and_of_both() -> None:
    """Depth 20 is decided re-estimated alone, 8 as trained alone, 32 by both: once one list, and no kind was named."""
    gaps = {8: (0, 4), 20: (4, 0), 32: (4, 4)}  # in points, re-estimated and as trained
    scores: list[Score] = []
    for depth, kinds in gaps.items():
        for place, family in enumerate(("plain", "residual")):
            reestimated, trained = (luck(80 + place * gap, 5, draw=depth + place) for gap in kinds)
            for seed, (first, second) in enumerate(zip(reestimated, trained, strict=True)):
                own = {"test_accuracy_reestimated": first / 100, "test_accuracy": second / 100}
                spec = ModelSpec.parse(f"{family}-{depth}")
                figures = dict.fromkeys(METRICS, 0.9) | own
                scores.append(Score(spec.name, spec.family, spec.depth, seed, "finished", **figures))
    material = replace(planted({}), results=Results(scores=scores))
    assert (
        "Held together (Holm), 2 of the 6 comparisons of twins, on train and on test images, are decided with "
        "statistics re-estimated: depth 20 and 32 on test (residual better). As trained, 2 are: depth 8 and 32 on test "
        "(residual better). Both kinds decide depth 32 on test (residual better)."
    ) in abstract(material, verdicts_on(material))


def test_every_first_number_is_with_statistics_re_estimated() -> None:
    """As trained every accuracy is half: whoever reads a first number of the page reads the other kind."""
    material = planted({"plain-20": luck(80, 3), "residual-20": luck(90, 3, draw=1), "cnn-4": luck(70, 3)})
    lead = " ".join(abstract(material, verdicts_on(material)))
    assert re.search(r"minus its plain twin's is \+(9|10)\.\d points, batch-norm statistics re-estimated", lead)
    assert re.search(r"With statistics as trained it is \+(4|5)\.\d", lead)
    networks = next(t for section in compose(material) for t in section.tables if t.name == "networks").frame
    row = networks.set_index("network").loc["plain-20"]
    assert row["test"].startswith(("79", "80"))
    assert row["test, as trained"].startswith(("39", "40"))
    metrics = material.study.metrics()
    assert metrics["test_accuracy"]["plain-20"] == pytest.approx(0.8, abs=0.01)


def test_the_champion_on_the_page_is_that_of_the_headlines_statistics() -> None:
    """residual-20 leads re-estimated and plain-20 as trained."""
    scores = [
        replace(score(name, seed, value), validation_accuracy=other)
        for name, value, other in (("plain-20", 80.0, 0.9), ("residual-20", 90.0, 0.1))
        for seed in range(3)
    ]
    first, numbers = answer(replace(planted({}), results=Results(scores=scores)).study)
    assert "The champion is residual-20, the best on validation images: 90.0 % are right." in numbers, first


@pytest.mark.parametrize("trouble", ["missing", "diverged"])
def test_a_champion_by_reliability_is_not_called_the_best(trouble: str) -> None:
    material = planted({"cnn-4": luck(70, 5), "residual-20": [*luck(90, 4), trouble]})
    numbers = answer(material.study)[1]
    assert re.search(r"The champion is cnn-4: (69|70)\.\d % of the validation images are right\.", numbers)
    assert re.search(rf"More are right with residual-20 \((89|90)\.\d %, 1 {trouble} of 5 seeds\)", numbers)
    assert "but a network of which more seeds diverged, or fewer have finished, is not preferred." in numbers
    assert "the best on" not in numbers


def test_the_answer_says_which_seeds_a_comparison_rests_on() -> None:
    """The same network once stood there with two accuracies, over two seeds and over three, and no word of why."""
    shallow = {"plain-8": luck(70, 3), "residual-8": luck(70, 3, draw=1)}
    few, many = (
        answer(planted({**shallow, "plain-20": luck(77, n), "residual-20": luck(79, n, draw=1)}).study)[1]
        for n in (2, 3)
    )
    assert re.search(r"without it \([^)]*, 2 seeds\)", few)
    assert re.search(r"at 20 \([^)]*, the 2 seeds that both have\)", few)
    assert "both have" not in many


def test_the_answer_tells_a_gap_that_decides_alone_from_one_that_holds_among_all() -> None:
    """An interval above zero once stood below "it stays open", and no word of why."""
    shallow = {"plain-8": [71.6, 71.5, 72.2], "residual-8": [71.6, 71.4, 72.4]}
    told = "Taken alone the difference is significant; corrected for the number of comparisons (Holm) it is not."
    for best, said in ((80.2, True), (85.0, False)):  # the second has an interval that holds zero
        deep = {"plain-20": [77.6, 77.4, 78.4], "residual-20": [78.7, 79.5, best]}
        first, numbers = answer(planted({**shallow, **deep}).study)
        assert "it stays open whether the residual block helps at 8 and 20 layers" in first
        assert (told in numbers) is said


def test_the_answer_names_what_diverged() -> None:
    study = planted({**SHALLOW, "plain-56": ["diverged"] * 3}).study
    told = "plain-56 diverged in 3 of 3 seeds, counted at chance (10 %))"
    assert f"3 seeds; {told}" in answer(study)[1]
    assert told in deepening(study)


def test_a_recipe_that_diverges_is_shown_with_what_that_costs() -> None:
    """Two of three seeds diverge: once the row held the third's +1.0 alone, and a recipe of none had no row."""
    own = luck(90)
    for theirs, seeds in (([91.0, "diverged", "diverged"], "2 of 3"), (["diverged"] * 3, "3 of 3")):
        other = planted({"residual-8": theirs}, recipe={**PAPERS_RECIPE, "learning_rate": 0.1})
        trained = Trained(other.recipes[0], other.study)
        material = planted({"residual-8": own}, ablations={"high-lr": trained})
        recipes = ablation.section(material)
        assert recipes is not None
        (row,) = recipes.tables[0].frame.to_dict("records")
        assert row["test, re-estimated"].startswith("-")
        assert row["remarks"] == f"residual-8 diverged in {seeds} seeds, counted at chance (10 %)"
        finished, diverged = (int(seeds == "2 of 3"), int(seeds[0]))
        text = " ".join(abstract(material, verdicts_on(material)))
        assert f"By other recipes {finished} of 3 more finished, {diverged} diverged" in text


@pytest.mark.parametrize(
    ("key", "value"), [("center", "pixel-mean"), ("precision", "mixed_bfloat16"), ("rescale", False)]
)
def test_what_the_paper_says_of_its_recipe_is_not_measured_by_another(key: str, value: Any) -> None:
    said = said_of("rebound", planted({"residual-8": luck(90)}, recipe={**PAPERS_RECIPE, key: value}))
    assert f"not measured in this study it is said of the paper's recipe; here {key}: {value}" in said
