"""Planted gradients of networks before training, and what the page says to them."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pytest

from resblock import paths
from resblock.core.spec import ModelSpec
from resblock.core.training.run import GradientRow
from resblock.evaluation.flow import Shattering, Untrained, read_untrained
from resblock.report.sections.gradients import section
from resblock.study.gradients import growths, nearest
from resblock.study.interval import t_interval
from resblock.study.numbers import number
from tests.planted import bumps, material, page_of, said_of


def probed(decades: Mapping[str, float], cosines: Mapping[str, float], seeds: int = 4) -> Untrained:
    """Norms that grow evenly by so many decades from the last block to the stem, and the cosine at two lags."""
    luck = np.random.default_rng(0).normal(1, 0.02, size=seeds)
    gradients: dict[ModelSpec, dict[int, list[GradientRow]]] = {}
    shattering: list[Shattering] = []
    for name, growth in decades.items():
        spec = ModelSpec.parse(name)
        gradients[spec] = {
            seed: [
                GradientRow(0, "activations", f"b{n}", n, 10 ** (growth * luck[seed] * (1 - n / 4))) for n in range(5)
            ]
            for seed in range(seeds)
        }
        for seed in range(seeds):
            shattering += [
                Shattering(name, seed, lag, cosines[name] * luck[seed] / k) for k, lag in ((1, 0.1), (2, 0.5))
            ]
    return Untrained(gradients, shattering)


def page(decades: Mapping[str, float], cosines: Mapping[str, float] | None = None) -> str:
    given = material(
        {"plain-8": bumps, "residual-8": bumps},
        untrained=probed(decades, cosines or dict.fromkeys(decades, 0.5)),
    )
    return page_of(given, section(given))


def test_norms_that_grow_refute_that_gradients_vanish() -> None:
    """Plain gradients grow by seven decades, residual ones by two: nothing vanishes, and the growth is tamed."""
    said = page({"plain-56": 7.0, "residual-56": 2.0}, {"plain-56": 0.0, "residual-56": 0.3})
    vanishing = said_of("gradients", said)
    assert " refuted" in vanishing
    assert "-7.0 [" in vanishing
    growth = said_of("growth", said)
    assert " supported " in growth
    assert "+5.0 [" in growth
    shattering = said_of("shattering", said)
    assert " supported " in shattering
    assert "+0.301 [+0.298, +0.304] cosine" in shattering
    assert re.search(r"Before training \(4 seeds\) the gradient of the loss, .*, grows by 7\.0 ± 0\.\d decades", said)
    assert re.search(r"in plain-56; in residual-56 it grows by 2\.0\d? ± 0\.\d+ decades\.", said)
    assert re.search(r"a cosine of 0\.00 ± 0\.00 and 0\.30\d ± 0\.\d+ there, a difference of \+0\.30\d \[", said)
    assert "which may be none" not in said


def test_norms_that_shrink_in_plain_networks_alone_support_that_gradients_vanish_without_the_block() -> None:
    said = page({"plain-20": -2.0, "residual-20": 0.0})
    assert " supported " in said_of("gradients", said)
    assert "+2.01 [+1.9" in said_of("gradients", said)
    assert re.search(r"shrinks by 2\.0\d? ± 0\.\d+ decades in plain-20; in residual-20 it keeps its norm\.", said)


def test_what_vanishes_in_both_twins_is_not_overcome() -> None:
    said = page({"plain-56": -3.0, "residual-56": -3.01})
    assert " refuted" in said_of("gradients", said)


def test_shallow_networks_cannot_refute_what_is_said_of_deep_ones() -> None:
    said = page({"plain-8": 0.3, "residual-8": 0.31}, {"plain-8": 0.8, "residual-8": 0.85})
    for claim in ("gradients", "growth", "shattering"):
        row = said_of(claim, said)
        assert " undecided " in row
        assert "depth 56" in row
        assert "would decide" not in row


def test_a_mean_that_lies_where_depth_cannot_lead_promises_no_seeds() -> None:
    """Growth by 0.92 decades at 32 layers, below the margin of one: more seeds would refute, and 32 layers cannot."""
    said = said_of("growth", page({"plain-32": 0.98, "residual-32": 0.0}))
    assert " undecided " in said
    assert "margin 1 decade " in said
    assert "depth 32 cannot refute it; needs probes of twins of depth 56 or more" in said
    assert "would decide" not in said


def test_a_difference_that_may_be_none_is_called_so() -> None:
    said = page({"plain-20": 1.0, "residual-20": 0.5}, {"plain-20": 0.7, "residual-20": 0.7})
    assert "which may be none." in said


def test_modified_networks_are_named_and_decide_nothing() -> None:
    """Without normalisation gradients vanish, in deeper networks too; with it they grow."""
    said = page({"plain-56": 4.0, "residual-56": 1.0, "plain-110-nobn": -3.0, "residual-110-nobn": 0.5})
    row = said_of("gradients", said)
    assert " refuted" in row
    assert "plain-56 +4.0" in row
    assert "apart: plain-110-nobn -3.0" in row
    assert "Without batch normalisation, where residual branches start at zero and take no part yet, the " in said
    assert re.search(r"shrinks by 3\.0\d? ± 0\.\d+ decades in plain-110-nobn", said)


def test_probes_decide_and_epoch_zero_of_trainings_does_not() -> None:
    given = material({"plain-8": bumps, "residual-8": bumps})
    assert "not measured in this study" in said_of("gradients", page_of(given))


@pytest.fixture(scope="module")
def measured() -> Untrained:
    return read_untrained(paths.untrained("cifar10"))


def test_what_the_readme_says_of_110_layers_is_measured(measured: Untrained) -> None:
    found = {
        spec.name: np.mean(list(values.values())) for spec, values in growths(measured.gradients, "activations").items()
    }
    assert found["plain-110"] == pytest.approx(7.2, abs=0.05)
    assert found["residual-110"] == pytest.approx(1.9, abs=0.05)
    assert found["plain-110-nobn"] == pytest.approx(-1.0, abs=0.05)
    layers = {name: float(growth) / (ModelSpec.parse(name).depth - 2) for name, growth in found.items()}
    assert [round(layers[f"plain-{depth}"], 2) for depth in (8, 110)] == [0.09, 0.07]
    assert round(layers["residual-110"], 2) == 0.02


def test_what_the_readme_says_of_twins_of_8_layers_and_of_direction_is_measured(measured: Untrained) -> None:
    growth = growths(measured.gradients, "activations")
    plain, residual = (growth[ModelSpec.parse(name)] for name in ("plain-8", "residual-8"))
    apart = t_interval([value - plain[seed] for seed, value in residual.items()])
    assert apart.low < 0 < apart.high
    cosines = {spec.name: np.mean(list(values.values())) for spec, values in nearest(measured.shattering).items()}
    assert [round(float(cosines[f"residual-{depth}"]), 2) for depth in (8, 110)] == [0.87, 0.26]


def test_what_the_readme_says_of_other_data_without_normalisation_is_measured(measured: Untrained) -> None:
    spec, deepest = ModelSpec.parse("plain-32-nobn"), ModelSpec.parse("plain-110-nobn")
    both = read_untrained(paths.untrained("digits")), measured
    shrunk = [t_interval([-value for value in growths(one.gradients, "activations")[spec].values()]) for one in both]
    assert [number(interval) for interval in shrunk] == ["2.4 ± 0.3", "0.3 ± 0.1"]
    last = t_interval([-value for value in growths(measured.gradients, "activations")[deepest].values()])
    assert (round(last.low, 1), round(last.high, 1)) == (0.8, 1.1)


def test_without_normalisation_residual_norms_are_equal_but_for_one_step_at_the_last_block(measured: Untrained) -> None:
    for spec, seeds in measured.gradients.items():
        if spec.family == "residual" and "nobn" in spec.modifiers:
            for rows in seeds.values():
                norms = np.log10([row.norm for row in rows if row.of == "activations"])
                steps = np.diff(norms)
                assert steps[:-1] == pytest.approx(0, abs=0.001), spec.name
                assert steps[-1] == pytest.approx(0.42, abs=0.04), spec.name
