"""The page and its pictures: what a reader is told, that it stands alone, and that it is the same each time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from resblock.data.splits import DatasetDescription
from resblock.evaluation.score import METRICS, Confusion, Score, empty_score
from resblock.evaluation.study import Study, t_interval
from resblock.report.figures import run_curves
from resblock.report.page import Material, lead, pictures, render
from resblock.report.style import save_figure
from resblock.report.tables import percent, points
from resblock.spec import ModelSpec
from resblock.training.run import Cost, EpochRow

VARIANTS = ("cnn-4", "plain-8", "residual-8", "plain-20", "residual-20")
CLASSES = ("cat", "<dog>", "frog")


def score(variant: str, seed: int, accuracy: float) -> Score:
    spec = ModelSpec.parse(variant)
    figures = {name: accuracy if "accuracy" in name else 1 - accuracy for name in METRICS}
    return Score(spec.name, spec.family, spec.depth, seed, "finished", **figures)


def curve() -> list[EpochRow]:
    return [EpochRow(n, 0.1, 1 / n, 1 - 1 / n, 1.5 / n, 0.8 - 0.5 / n, 1.2 / n, 0.9 - 0.5 / n) for n in range(1, 5)]


def make_material(scores: Sequence[Score]) -> Material:
    there = [s for s in scores if s.status == "finished"]
    specs = list(dict.fromkeys(s.spec for s in there))
    cost = Cost("2026-01-02T03:04:05+00:00", (2.0, 1.0), 321.0, 75_290, 12_000_000, "a machine", 2, {"keras": "3"})
    return Material(
        study=Study("pets", tuple(scores)),
        dataset=DatasetDescription("pets", CLASSES, (8, 8, 3), {"train": 9, "validation": 3, "test": 3}, {}, "a box"),
        curves={spec: {s.seed: curve() for s in there if s.spec == spec} for spec in specs},
        costs={spec: {s.seed: cost for s in there if s.spec == spec} for spec in specs},
        confusions=[Confusion(s.variant, s.seed, np.eye(3, dtype=int) * 4 + 1) for s in there],
        recipes=[{"epochs": 4}] if there else [],
    )


@pytest.fixture(scope="module")
def material() -> Material:
    return make_material([score(v, seed, 0.5 + ModelSpec.parse(v).depth / 100) for v in VARIANTS for seed in (0, 1)])


@pytest.fixture(scope="module")
def page(material: Material) -> str:
    return render(material, pictures(material))


class Links(HTMLParser):
    """Collects what a page would load or lead to."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.targets += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]


def test_the_page_stands_alone(page: str) -> None:
    links = Links()
    links.feed(page)
    assert links.targets
    outside = [target for target in links.targets if not target.startswith(("#", "data:"))]
    assert not outside
    assert not links.tags & {"script", "link", "iframe", "img"}


def test_the_page_holds_every_section_and_network(page: str) -> None:
    for heading in ("Networks", "Residual minus plain", "Depth against accuracy", "Accuracy over epochs"):
        assert f"<h2>{heading}</h2>" in page
    for heading in ("Loss over epochs", "Which classes are taken for which", "Accuracy per class", "What was run"):
        assert f"<h2>{heading}</h2>" in page
    assert all(variant in page for variant in VARIANTS)
    assert "2026-01-02 03:04:05" in page


def test_names_from_outside_are_escaped(page: str) -> None:
    assert "<dog>" not in page
    assert "&lt;dog&gt;" in page


def test_the_same_study_gives_the_same_bytes(material: Material, page: str, tmp_path: Path) -> None:
    assert render(material, pictures(material)) == page
    for number in (1, 2):
        for picture in pictures(material):
            save_figure(picture.figure, tmp_path / str(number) / f"{picture.name}.png")
    for first in (tmp_path / "1").iterdir():
        assert first.read_bytes() == (tmp_path / "2" / first.name).read_bytes()


def test_an_empty_study_has_a_page_that_says_so() -> None:
    nothing = make_material([empty_score(ModelSpec.parse(v), 0, "missing") for v in VARIANTS])
    page = render(nothing, pictures(nothing))
    assert "No training has finished yet." in page
    assert "cnn-4: 1 missing" in page


def test_a_half_run_study_shows_what_is_there_and_what_is_not(material: Material) -> None:
    scores = [*material.study.scores, empty_score(ModelSpec.parse("plain-32"), 0, "diverged")]
    half = make_material(scores)
    page = render(half, pictures(half))
    assert "plain-32: 1 diverged" in page
    assert "Not all of the study is here" in page
    assert not re.search(r"\bnan\b", page.lower().split("<svg")[0])


@pytest.mark.parametrize(
    ("residual", "words"),
    [
        ((0.90, 0.91, 0.92), "the addition helps there"),
        ((0.50, 0.51, 0.52), "the addition hurts there"),
        ((0.60, 0.90, 0.70), "does not decide"),
        ((0.90,), "one seed gives no interval"),
    ],
)
def test_the_lead_says_no_more_than_the_interval_does(residual: tuple[float, ...], words: str) -> None:
    plain = (0.70, 0.712, 0.72)
    scores = [score("plain-20", seed, value) for seed, value in enumerate(plain)]
    scores += [score("residual-20", seed, value) for seed, value in enumerate(residual)]
    assert words in lead(Study("pets", tuple(scores)))


def test_the_lead_speaks_of_the_deepest_pair() -> None:
    scores = [score(variant, seed, 0.5 + seed / 10) for variant in VARIANTS for seed in (0, 1)]
    assert lead(Study("pets", tuple(scores))).startswith("At depth 20")


def test_numbers_are_written_as_a_reader_expects() -> None:
    assert percent(t_interval([0.91, 0.92, 0.93])) == "92.0 ± 2.5"
    assert percent(t_interval([0.5])) == "50.0"
    assert percent(t_interval([])) == "–"
    assert points(t_interval([0.01, 0.02, 0.03])) == "+2.0 [-0.5, +4.5]"


def test_a_diverged_curve_can_be_drawn(tmp_path: Path) -> None:
    lost = replace(curve()[-1], epoch=5, loss=float("nan"), validation_loss=float("nan"))
    save_figure(run_curves({"plain-8": [*curve(), lost]}), tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
