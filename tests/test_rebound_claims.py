"""Planted studies of the rebound and of convergence, and what the page says to them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from resblock.core.training.run import EpochRow
from resblock.report.material import Material
from resblock.report.sections import ablation
from resblock.report.sections.rebound import section
from resblock.study.claims import CLAIMS
from resblock.study.claims.rebound import of_one_rise
from resblock.study.interval import t_interval
from resblock.study.rebound import find_rebound, find_rebounds, pooled
from resblock.study.verdicts import Verdict, decide, judge
from tests.planted import PAPERS, bumps, material, page_of, rows, said_of, trained

NOT_MEASURED = "not measured in this study"
OF_THE_PAPER = ("rebound", "rebound-depth", "rebound-rate", "rebound-overfitting", "schedule", "regularisation")


def verdict(claim: str, given: Material) -> Verdict:
    return next(judge(each, given.evidence) for each in CLAIMS if each.name == claim)


def shares(page: str, network: str) -> list[str]:
    """The row of the page's table on a network: causes in per cent, the part that lasts, when accuracy settled."""
    row = re.search(rf"<td>{network}</td>(.*?)</tr>", page[page.index('id="rebound"') :], re.DOTALL)
    assert row is not None
    return re.findall("<td>(.*?)</td>", row[1])[5:]


# Late statistics


def test_networks_without_batch_normalisation_do_not_count_as_never_late() -> None:
    """Statistics are 70 % of every rise where there are any; with three networks at zero it would be 28 %."""
    late = partial(bumps, late=0.35, optimisation=0.15)
    steady = partial(bumps, optimisation=0.5)
    given = material(
        {"cnn-4": steady, "plain-8": late, "residual-8": late, "plain-8-nobn": steady, "residual-8-nobn": steady}
    )
    page = page_of(given, section(given))
    said = said_of("rebound-statistics", page)
    assert " supported " in said
    share = 50 + 100 * verdict("rebound-statistics", given).interval.mean
    assert share == pytest.approx(70, abs=1)
    assert "plain-8, residual-8; without cnn-4, plain-8-nobn, residual-8-nobn" in said
    shown = page.replace("\N{NO-BREAK SPACE}", " ")
    assert f"{share:.0f} % of that height is missing, at the same epoch, from the loss re-estimated" in shown
    for beside in (said, shown):
        assert "the other way round 0 % of the height of the rises re-estimated is missing" in beside
    assert "may be chance" not in shown[: shown.index('id="rebound"')]
    assert "Validation loss of plain-8 and residual-8 (4 seeds) rises" in shown
    assert shares(page, "cnn-4")[0] == "–"
    assert float(shares(page, "plain-8")[0]) == pytest.approx(70, abs=1)


def test_the_page_has_one_share_of_late_statistics_pooled_by_height() -> None:
    """A small rebound that is all late and a tenfold one that is not: 1 of 11 by height, 55 % as a mean of shares."""
    given = material({"plain-8": partial(bumps, late=0.05), "residual-8": partial(bumps, optimisation=0.5)})
    page = page_of(given, section(given))
    shown = re.search(r"(\d+).% of that height", page)
    assert shown is not None
    assert int(shown[1]) == 9
    found = verdict("rebound-statistics", given)
    assert round(100 * (found.interval.mean + 0.5)) == 9
    assert found.outcome == "refuted"


def test_the_share_is_pooled_over_seeds_too() -> None:
    """Three seeds rise a little by late statistics, one tenfold by its weights: 3 of 13 by height, 75 % as a mean."""

    def uneven(luck: float) -> list[EpochRow]:
        return bumps(1.0, late=0.05) if luck > 1 else bumps(1.0, optimisation=0.5)

    given = material({"residual-8": uneven}, ablations={"low-lr": trained({"residual-8": bumps}, 4)})
    page = page_of(given, section(given))
    assert "share 23 %, minus 50 %" in said_of("rebound-statistics", page)
    assert shares(page, "residual-8")[0] == "23"
    rebounds = find_rebounds({spec: given.curves[spec] for spec in given.curves})
    ratio = sum(each.height_trained for each in rebounds) / sum(each.falls_trained for each in rebounds)
    recipes = ablation.section(given)
    assert recipes is not None
    (row,) = recipes.tables[0].frame.to_dict("records")
    assert row["rebound (rises / falls)"].startswith(f"-{100 * ratio:.1f} [")
    (rising,) = re.findall(r"<td>low-lr</td>\s*<td>([^<]*)</td>", page)
    assert rising == row["rebound (rises / falls)"]  # the page has one number for it, with one sign


@pytest.mark.parametrize(
    ("bump", "late", "overfitting"),
    [
        (partial(bumps, late=0.5), "supported", "refuted"),
        (partial(bumps, late=0.5, optimisation=0.001), "supported", "refuted"),
        (partial(bumps, optimisation=0.5), "refuted", "refuted"),
    ],
)
def test_evidence_that_could_not_be_clearer_decides(bump: Any, late: str, overfitting: str) -> None:
    """All of every rise is late in every seed: once "undecided", since the seeds did not differ."""
    given = material({"plain-8": bump, "residual-8": bump}, seeds=3)
    for claim, outcome in (("rebound-statistics", late), ("rebound-overfitting", overfitting)):
        found = verdict(claim, given)
        assert found.outcome == outcome, claim
        assert -0.5 <= found.interval.low < found.interval.high <= 0.5  # a share lies between none and all


def test_two_rises_that_agree_are_no_certainty() -> None:
    """One rise in each of two seeds, both late: 12.71 * sqrt(1/12 / 2) is more than one half."""
    once = rows([3.0, 1.0, 1.5] + [1.0] * 17, [3.0] + [1.0] * 19, [3.0] + [1.0] * 19)
    found = verdict("rebound-statistics", material({"residual-8": lambda _: once}, seeds=2))
    assert found.outcome == "undecided"


@pytest.mark.parametrize(("spread", "most"), [(0.5, 0.04), (1.0, 0.08)])
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_a_share_of_one_half_is_seldom_taken_for_another(seeds: int, spread: float, most: float) -> None:
    """Eight rises a seed, of log-normal heights, and of each some share is late: one half of all, in the mean.

    A ratio is no mean of normal numbers: where heights differ by a factor of three, a verdict errs more often than the
    2.5 % of other claims.
    """
    studies, rises, draw = 4_000, 8, np.random.default_rng([seeds, round(10 * spread)])
    heights = draw.lognormal(0, spread, (studies, seeds, 1)) * np.ones((1, 1, rises))
    whole, part = heights.sum(2), (heights * draw.uniform(0, 1, (studies, seeds, rises))).sum(2)
    some = find_rebound("residual-8", 0, bumps(1.0, late=0.5))
    wrong = {"supported": 0, "refuted": 0}
    for wholes, parts in zip(whole.tolist(), part.tolist(), strict=True):
        rebounds = [
            replace(some, seed=n, height_trained=w, moving_averages=p, rises_trained=rises)
            for n, (w, p) in enumerate(zip(wholes, parts, strict=True))
        ]
        values = [share - 0.5 for share in pooled(rebounds, "moving_averages", "height_trained").values()]
        outcome = decide(t_interval(values, rounding=of_one_rise(rebounds, seeds)), 0.0)
        if outcome in wrong:
            wrong[outcome] += 1
    assert max(wrong.values()) / studies < most, wrong


def test_rises_that_re_estimation_brings_stand_beside_those_that_it_takes() -> None:
    """Late rises of 0.5 in every third epoch, and re-estimated ones of 0.25 in the epochs after those."""

    def two_ways(luck: float) -> list[EpochRow]:
        flat, at = np.array([3.0] + [1.0] * 19), np.arange(20)
        late, own = 0.5 * luck * (at % 3 == 1), 0.25 * (at % 3 == 2)
        return rows((flat + late).tolist(), (flat + own).tolist(), flat.tolist())

    given = material({"plain-8": two_ways, "residual-8": two_ways})
    page = page_of(given, section(given))
    shown = page.replace("\N{NO-BREAK SPACE}", " ")
    told = "the other way round 100 % of the height of the rises re-estimated is missing from the loss as trained"
    assert f"{told}, and all of them are 50 % as high. Part of the" in shown.replace("The other", "the other")
    assert told in said_of("rebound-statistics", page)
    assert "share 100 %, minus 50 %" in said_of("rebound-statistics", page)
    assert [int(cell) for cell in shares(page, "plain-8")[4:6]] == [100, pytest.approx(50, abs=2)]


def test_no_cause_is_told_of_a_network_that_does_not_rebound() -> None:
    """Rises of 1 % of the falls: once a full bar of causes, and an abstract that gave their share."""
    small = partial(bumps, late=0.002, optimisation=0.002)
    given = material({"plain-8": small, "residual-8": partial(bumps, late=0.5)})
    drawn = section(given)
    page = page_of(given, drawn)
    assert drawn is not None
    assert shares(page, "plain-8")[:6] == ["–"] * 6
    assert shares(page, "residual-8")[0] == "100"
    _, causes = drawn.pictures[0].figure.axes
    widths = [[bar.get_width() for bar in bars] for bars in causes.containers]
    assert [sum(row) for row in zip(*widths, strict=True)] == pytest.approx([0, 100])
    assert [text.get_text() for text in causes.texts] == ["no rebound"]
    alone = page_of(material({"plain-8": small}))
    assert "too little to ask for causes" in alone
    assert "of the height of the rises" not in alone


def test_the_legend_of_the_rebound_names_every_mark() -> None:
    given = material({"plain-8": partial(bumps, late=0.5), "residual-8": partial(bumps, late=0.5)})
    drawn = section(given)
    assert drawn is not None
    (legend,) = drawn.pictures[0].figure.legends
    named = [text.get_text().replace("\n", " ") for text in legend.get_texts()]
    assert named[:2] == ["a seed", "all seeds"]
    assert named[2:] == [
        "moving averages, or chance: re-estimated loss does not share it",
        "optimisation: training images share it",
        "overfitting, or chance: training images do not share it",
    ]


# Optimisation and overfitting


def test_weights_that_wander_are_optimisation_though_the_mean_training_loss_falls() -> None:
    wandering = partial(bumps, optimisation=0.5, drift=0.02)
    given = material({"plain-8": wandering, "cnn-4": wandering})
    page = page_of(given, section(given))
    assert shares(page, "plain-8")[:4] == ["0", "99", "1", "1"]
    assert " refuted" in said_of("rebound-overfitting", page)


def overfitted(luck: float, jitter: float = 0.0) -> list[EpochRow]:
    """Validation loss rises steadily from epoch 6 on, statistics are late once; training loss falls, or jitters."""
    up = np.maximum(np.arange(20) - 5, 0) * 0.1 * luck
    fall = np.linspace(3, 1, 6).tolist() + [1.0] * 14
    tiny = jitter * (np.arange(20) % 2)
    training = np.linspace(3, 0.5, 20) * (jitter == 0) + tiny + (jitter > 0)
    late = 0.05 * luck**2 * (np.arange(20) == 10)  # of the 1.4 by which it rises
    return rows((fall + up + late).tolist(), (fall + up).tolist(), training.tolist())


def test_a_jitter_of_the_training_loss_makes_no_rise_of_validation_loss_optimisation() -> None:
    given = material({"plain-8": overfitted, "plain-20": partial(overfitted, jitter=1e-4)})
    page = page_of(given, section(given))
    assert shares(page, "plain-8")[:4] == ["4", "0", "96", "96"]
    assert shares(page, "plain-20")[:4] == ["4", "0", "96", "96"]
    assert " supported " in said_of("rebound-overfitting", page)


def test_chance_on_few_validation_images_is_no_main_cause() -> None:
    """Validation loss jitters around its plateau while training loss falls: nothing of that lasts."""

    def jittered(luck: float) -> list[EpochRow]:
        noise = np.random.default_rng(round(1e6 * luck)).normal(0, 0.1, 20)
        loss = (np.array([3.0] + [1.0] * 19) + noise).tolist()
        return rows(loss, loss, [0.5] * 20)

    given = material({"plain-8": jittered, "residual-8": jittered, "plain-20": jittered})
    page = page_of(given, section(given))
    _, optimisation, overfitting, lasting = shares(page, "plain-8")[:4]
    assert (optimisation, overfitting) == ("0", "100")
    assert int(lasting) < 35
    assert " refuted" in said_of("rebound-overfitting", page)


def test_where_nothing_rebounds_nothing_is_its_cause() -> None:
    given = material({"plain-8": partial(bumps, late=0.001)})
    assert verdict("rebound", given).outcome == "refuted"
    for claim in ("rebound-statistics", "rebound-overfitting"):
        assert verdict(claim, given).outcome == NOT_MEASURED


# Whose claims they are


@pytest.mark.parametrize("change", [{"optimizer": "sgd"}, {"schedule": "cosine"}])
def test_what_the_paper_says_of_its_recipe_is_measured_by_that_recipe(change: dict[str, Any]) -> None:
    planted = {"residual-8": partial(bumps, late=0.5), "residual-20": partial(bumps, late=0.5)}
    page = page_of(material(planted, recipe={**PAPERS, **change}))
    for claim in (*OF_THE_PAPER, "convergence"):
        assert NOT_MEASURED in said_of(claim, page), claim
    assert " supported " in said_of("rebound", page_of(material(planted)))


def test_what_the_paper_says_of_its_data_is_measured_on_them() -> None:
    given = material({"residual-8": partial(bumps, late=0.5, optimisation=0.1)}, dataset="digits")
    page = page_of(given)
    for claim in (*OF_THE_PAPER, "convergence"):
        assert NOT_MEASURED in said_of(claim, page), claim
    assert " supported " in said_of("rebound-statistics", page)  # that one is ours, of any data


def test_two_epochs_measure_nothing_of_what_happens_within_twenty() -> None:
    """Three networks and two seeds that only fall: an interval of no width."""
    given = material({name: partial(bumps, late=0.5, epochs=2) for name in ("cnn-4", "plain-8", "residual-8")}, seeds=2)
    page = page_of(given, section(given))
    for claim in (*OF_THE_PAPER, "rebound-statistics", "convergence"):
        assert NOT_MEASURED in said_of(claim, page), claim


def test_rises_after_the_twentieth_epoch_are_no_rebound_within_twenty() -> None:
    def late_rise(luck: float) -> list[EpochRow]:
        loss = np.linspace(3, 1, 20).tolist() + [1 + 0.5 * luck * (n % 2) for n in range(20)]
        return rows(loss, loss, loss)

    planted = {"plain-8": late_rise, "residual-8": partial(bumps, epochs=40, late=0.01)}
    assert verdict("rebound", material(planted)).outcome == "refuted"


def test_modified_networks_are_named_and_left_out() -> None:
    quiet, loud = partial(bumps, late=0.01), partial(bumps, late=0.8)
    given = material({"residual-8": quiet, "residual-20": quiet, "residual-32-nobn": loud, "plain-8-w2": loud})
    page = page_of(given)
    said = said_of("rebound", page)
    assert " refuted" in said
    assert "residual-8, residual-20; without residual-32-nobn, plain-8-w2" in said
    depth = said_of("rebound-depth", page)
    assert " refuted" in depth
    assert "residual 8, 20; " in depth
    assert "without residual-32-nobn, plain-8-w2" in depth


def test_a_training_that_diverged_is_named_with_its_seed_and_counts_nowhere() -> None:
    mixed = partial(bumps, late=0.35, optimisation=0.15)
    given = material({"residual-8": mixed, "residual-20": mixed})
    curves = {spec: dict(seeds) for spec, seeds in given.curves.items()}
    deep = next(spec for spec in curves if spec.depth == 20)
    late = bumps(1.0, late=9.0)[:3]  # a high rise, and all of it is late
    diverged = replace(late[2], epoch=4, loss=math.nan)
    curves[deep][1] = [*late, diverged]
    page = page_of(replace(given, curves=curves))
    said = said_of("rebound", page)
    assert "3 seeds" in said
    assert "without residual-8 of seed 1, residual-20 of seed 1" in said
    shown = re.search(r"(\d+).% of that height", page)
    assert shown is not None
    assert int(shown[1]) == pytest.approx(70, abs=1)


# Depth, rate, schedule, regularisation


def test_depth_is_a_line_through_all_depths() -> None:
    """Height over falls of 10, 40 and 40 % at 8, 20 and 32: a line that rises by 30 points over 24 layers."""

    def height(share: float, luck: float) -> list[EpochRow]:
        rise = 2 * share * luck / (1 - share)  # one rise after a fall of 2, with a fall of the same height behind it
        loss = [3.0] + [1.0] * 9 + [1.0 + rise] + [1.0] * 9
        return rows(loss, loss, loss)

    networks = {8: 0.1, 20: 0.4, 32: 0.4}
    planted = {f"residual-{depth}": partial(height, share) for depth, share in networks.items()}
    planted |= {f"plain-{depth}": partial(height, 0.2) for depth in (8, 20, 32)}
    found = verdict("rebound-depth", material(planted))
    assert found.interval.mean == pytest.approx(0.3, abs=0.02)
    assert found.outcome == "supported"
    said = said_of("rebound-depth", page_of(material(planted)))
    assert "residual 8, 20, 32; " in said
    assert "apart: plain 8, 20, 32 with " in said
    peak = {f"residual-{depth}": partial(height, share) for depth, share in {8: 0.3, 20: 0.1, 32: 0.1, 44: 0.3}.items()}
    assert verdict("rebound-depth", material(peak)).interval.mean == pytest.approx(0, abs=0.02)


CHANGES: list[tuple[str, Mapping[str, Any]]] = [
    ("rebound-rate", {"learning_rate": 1e-4}),
    ("schedule", {"schedule": "cosine"}),
    ("regularisation", {"weight_decay": 1e-4}),
]


@pytest.mark.parametrize(("claim", "change"), CHANGES)
def test_what_a_recipe_mends_through_statistics_and_through_weights_is_told_apart(
    claim: str, change: Mapping[str, Any]
) -> None:
    base = {"residual-8": partial(bumps, late=0.2, optimisation=0.2), "cnn-4": partial(bumps, optimisation=0.2)}
    through_late = {"residual-8": partial(bumps, optimisation=0.2), "cnn-4": partial(bumps, optimisation=0.2)}
    through_weights = {"residual-8": partial(bumps, late=0.2), "cnn-4": partial(bumps)}

    def told(other: Any, **more: Any) -> tuple[str, str]:
        ablations = {"other": trained(other, 4, {**PAPERS, **change, **more})}
        given = material(base, ablations=ablations)
        page = page_of(given, section(given))
        return said_of(claim, page), page

    said, page = told(through_late)
    assert " supported " in said
    assert _parts(said) == pytest.approx((0.6, 0), abs=0.03)  # six bumps of 0.2 in one network of two
    assert re.search(r"<td>other</td>\s*<td>-[^<]*</td>\s*<td>-0.[56]", page)
    assert _parts(told(through_weights)[0]) == pytest.approx((0, 1.2), abs=0.06)  # and in both of them
    assert " refuted" in told(base)[0]
    assert NOT_MEASURED in told(through_late, batch_size=7)[0]  # two things differ
    assert " supported " in told(through_late, threads=2)[0]  # threads change no result


def _parts(said: str) -> tuple[float, float]:
    found = re.search(r"([+-][\d.]+) nats through moving averages, ([+-][\d.]+) through the weights", said)
    assert found is not None, said
    return float(found[1]), float(found[2])


# Convergence


def climbing(luck: float, reached: int, epochs: int) -> list[EpochRow]:
    """Accuracy climbs to 70 % along a straight line, arrives at an epoch, and has half a point of noise."""
    noise = np.random.default_rng(round(1e6 * luck)).normal(0, 0.005, epochs)
    climb = np.minimum(0.7, 0.2 + 0.5 * np.arange(epochs) / max(reached - 1, 1)) if reached > 1 else 0.7
    loss = [1.0] * epochs
    return rows(loss, loss, loss, (climb + noise).tolist())


@pytest.mark.parametrize("epochs", [40, 60, 100, 200])
@pytest.mark.parametrize("reached", [1, 10, 20, 30])
def test_a_planted_ascent_comes_back_right_at_any_length(epochs: int, reached: int) -> None:
    given = material({"plain-8": partial(climbing, reached=reached, epochs=epochs)}, seeds=8)
    settled = [rebound.settled_reestimated for rebound in given.rebounds]
    assert np.mean(settled) == pytest.approx(reached, abs=1)


@pytest.mark.parametrize(
    ("reached", "epochs", "outcome"),
    [(20, 60, "supported"), (6, 60, "refuted"), (40, 100, "refuted"), (20, 39, NOT_MEASURED), (6, 20, NOT_MEASURED)],
)
def test_convergence_around_20_is_measured_in_long_trainings(reached: int, epochs: int, outcome: str) -> None:
    def nearby(luck: float) -> list[EpochRow]:
        return climbing(luck, reached + round(50 * (luck - 1)), epochs)

    given = material({"plain-8": nearby, "residual-8": nearby}, recipe={**PAPERS, "epochs": epochs})
    page = page_of(given, section(given))
    assert f" {outcome} " in said_of("convergence", page)
    told = shares(page, "plain-8")[-1]
    assert (told == "–") == (epochs < 40)
