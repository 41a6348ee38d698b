"""The page and its pictures: what a reader is told, that it stands alone, and that it is the same each time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from itertools import combinations, permutations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from resblock.core.spec import FAMILIES, ModelSpec
from resblock.core.splits import DatasetDescription, Split, SplitName
from resblock.core.training.run import Cost, EpochRow, GradientRow
from resblock.data.review import Review
from resblock.evaluation import assessment
from resblock.evaluation.assessment import Assessment
from resblock.evaluation.blocks import Lesion, Response
from resblock.evaluation.corruption import CORRUPTIONS, SEVERITIES, Robustness
from resblock.evaluation.flow import Shattering, Untrained
from resblock.evaluation.score import METRICS, Confusion, Score, empty_score
from resblock.params import Params
from resblock.report.figures import ACCURACIES, learning_curves, run_curves
from resblock.report.links import write_links
from resblock.report.material import Material, Picture, Section
from resblock.report.page import METHODS, compose, render
from resblock.report.palette import COLORS
from resblock.report.publish import publish
from resblock.report.sections import advice, cost, data, errors
from resblock.report.style import DASHES, MARKERS, MARKS, dodged, look, save_figure, series
from resblock.report.summary import FIGURES, SHOWN, summarise
from resblock.report.tables import markdown, p_value, percent, shown_name
from resblock.report.words import KINDS
from resblock.report.words.abstract import abstract, lead
from resblock.report.words.answer import answer
from resblock.report.words.verdicts import verdicts_on
from resblock.study.interval import Interval, t_interval
from resblock.study.numbers import counted, listed, number, plain, points, points_in_words
from resblock.study.results import gather
from resblock.study.summary import Study
from resblock.study.verdicts import Trained

VARIANTS = ("cnn-4", "plain-8", "residual-8", "plain-20", "residual-20")
CLASSES = ("cat", "<dog>", "frog")


def score(variant: str, seed: int, accuracy: float) -> Score:
    spec = ModelSpec.parse(variant)
    figures = {name: accuracy if "accuracy" in name else 1 - accuracy for name in METRICS}
    return Score(spec.name, spec.family, spec.depth, seed, "finished", **figures)


def curve() -> list[EpochRow]:
    return [
        EpochRow(n, 0.1, 1 / n, 1 - 1 / n, 1.5 / n, 0.8 - 0.5 / n, 1.2 / n, 0.9 - 0.5 / n, 0.9 / n, 1 - 0.8 / n)
        for n in range(1, 5)
    ]


def splits() -> dict[SplitName, Split]:
    rng = np.random.default_rng(0)
    names: tuple[SplitName, ...] = ("train", "validation", "test")
    labels = np.repeat([0, 1, 2], 4)
    return {name: Split(rng.integers(0, 256, size=(12, 8, 8, 3), dtype=np.uint8), labels) for name in names}


def assess(score: Score) -> Assessment:
    """Predictions and robustness to a score; nothing for a training that has none."""
    if score.status != "finished":
        return Assessment(score)
    rng = np.random.default_rng([score.depth, score.seed])
    logits = {
        name + suffix: np.eye(3)[split.labels] * 2 + rng.normal(0, 1, size=(12, 3))
        for name, split in splits().items()
        for suffix in ("", "_reestimated")
    }
    worse = [(name, severity) for name in CORRUPTIONS for severity in SEVERITIES]
    rows = [
        Robustness(score.variant, score.seed, name, severity, 12, 0.9 - severity / 10)
        for name, severity in [("none", 0), *worse]
    ]
    spec = score.spec
    blocks = [f"stage{stage}_block1" for stage in (1, 2, 3)] if spec.family != "cnn" else []
    responses = [Response(spec.name, score.seed, block, 2 * n + 3, 1 / (n + 1)) for n, block in enumerate(blocks)]
    whole = [Lesion(spec.name, score.seed, 0, 0, "", 12, 0.9)] if blocks else []
    lesions = whole + [Lesion(spec.name, score.seed, 1, n, block, 12, 0.5 + n / 10) for n, block in enumerate(blocks)]
    looks = {"robustness": rows, "responses": responses, "lesions": lesions}
    return assessment.assess(score, logits, splits(), len(CLASSES), **looks)


def norms(spec: ModelSpec, seed: int = 0) -> list[GradientRow]:
    """Gradients that shrink tenfold and a little from layer to layer in plain networks, and not at all in others."""
    growth = 10 ** (1 + seed / 100) if spec.family == "plain" else 1.0
    return [
        GradientRow(epoch, of, f"stage{n}_block1", n, growth**n)
        for epoch in (0, 4)
        for of in ("weights", "activations")
        for n in (1, 2, 3)
    ]


def make_material(scores: Sequence[Score]) -> Material:
    there = [s for s in scores if s.status == "finished"]
    specs = list(dict.fromkeys(s.spec for s in there))
    cost = Cost(
        "2026-01-02T03:04:05+00:00", (2.0, 1.0, 1.0, 1.0), 321.0, 75_290, 12_000_000, "a machine", 2, {"keras": "3"}
    )
    return Material(
        dataset=DatasetDescription("pets", CLASSES, (8, 8, 3), {"train": 9, "validation": 3, "test": 3}, {}, "a box"),
        results=gather("pets", [assess(s) for s in scores], splits()["test"]),
        curves={spec: {s.seed: curve() for s in there if s.spec == spec} for spec in specs},
        costs={spec: {s.seed: cost for s in there if s.spec == spec} for spec in specs},
        recipes=[{"epochs": 4, "schedule": "constant"}] if there else [],
        gradients={spec: {s.seed: norms(spec, s.seed) for s in there if s.spec == spec} for spec in specs},
        untrained=Untrained(
            {spec: {seed: norms(spec) for seed in (0, 1)} for spec in specs},
            [Shattering(spec.name, seed, lag, 0.9 - lag) for spec in specs for seed in (0, 1) for lag in (0.5, 1.0)],
        ),
        keys={f"train@pets-{s.variant}-{s.seed}": "0123456789abcdef" for s in there},
    )


@pytest.fixture(scope="module")
def material() -> Material:
    return make_material([score(v, seed, 0.5 + ModelSpec.parse(v).depth / 100) for v in VARIANTS for seed in (0, 1)])


@pytest.fixture(scope="module")
def sections(material: Material) -> list[Section]:
    """What the page is made of: drawing it takes seconds."""
    return compose(material)


@pytest.fixture(scope="module")
def published(material: Material, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole report as files."""
    folder = tmp_path_factory.mktemp("report")
    publish(folder, material)
    return folder


@pytest.fixture(scope="module")
def page(published: Path) -> str:
    return (published / "index.html").read_text()


class Links(HTMLParser):
    """Collects what a page would load or lead to."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.targets += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]


def links_of(page: str) -> Links:
    links = Links()
    links.feed(page)
    return links


def test_the_page_loads_nothing_and_leads_only_to_itself_and_its_own_files(page: str) -> None:
    links = links_of(page)
    assert links.targets
    outside = [
        t
        for t in links.targets
        if not t.startswith(("#", "data:", "data/", "figures/", "timing/", "mlflow.html", METHODS))
    ]
    assert not outside
    assert not links.tags & {"script", "link", "iframe", "img"}


def test_every_link_of_the_page_arrives(published: Path, root: Path) -> None:
    page = (published / "index.html").read_text()
    for target in links_of(page).targets:
        if target.startswith("#"):
            assert f'id="{target[1:]}"' in page, target
        elif target == METHODS:
            assert (root / "results/pets/report" / target).resolve() == root / "docs/methods.md"
        elif not target.startswith(("data:", "mlflow.html")):  # that is the store's, not the report's
            assert (published / target).is_file(), target


def test_every_figure_has_its_numbers_next_to_it(published: Path) -> None:
    pictures = list(published.glob("figures/*.png"))
    assert len(pictures) == 14
    for picture in pictures:
        assert len(pd.read_csv(published / "data" / f"{picture.stem}.csv")), picture.stem
    assert len(pd.read_csv(published / "timing/speed.csv"))


def test_the_page_holds_every_section_and_network(page: str) -> None:
    for heading in (
        "Abstract",
        "Depth against accuracy",
        "What the addition buys",
        "Accuracy over epochs",
        "Loss over epochs",
        "The rebound and its causes",
        "Gradient flow",
        "Single blocks",
        "Calibration",
        "Where networks err, and whether seeds agree",
        "Robustness",
        "What accuracy costs",
        "The paper’s claims",
        "Methods",
        "What was run",
    ):
        assert f"<h2>{heading}</h2>" in page
    assert all(variant in page for variant in VARIANTS)
    assert "2026-01-02 03:04:05" in page
    assert "0123456789abcdef" in page


def test_every_claim_has_its_verdict_on_the_page_and_in_the_summary(
    material: Material, page: str, published: Path
) -> None:
    summary = (published / "summary.md").read_text()
    for verdict in verdicts_on(material):
        assert verdict.claim.statement in page
        assert verdict.claim.statement in summary
    assert page.count('class="outcome ') == len(verdicts_on(material))
    assert "not measured in this study" in summary


def test_the_abstract_tells_how_planted_gradients_flow(material: Material) -> None:
    said = " ".join(abstract(material, verdicts_on(material)))
    assert "Before training (2 seeds) the gradient of the loss, on its way from the last block to the stem, " in said
    assert "shrinks by 2.0 ± 0.0 decades in plain-20; in residual-20 it keeps its norm." in said
    assert (
        "a cosine of 0.40 ± 0.00 and 0.40 ± 0.00 there, a difference of 0.00 [0.00, 0.00], which may be none." in said
    )
    assert "radients" not in " ".join(abstract(replace(material, untrained=None), verdicts_on(material)))


def test_the_summary_tells_no_time_and_no_machine(published: Path) -> None:
    summary = (published / "summary.md").read_text()
    assert "321" not in summary
    assert "machine" not in summary


def test_the_summary_shows_the_figures_that_lie_beside_it(published: Path) -> None:
    shown = re.findall(r"!\[[^]]+\]\(([^)]+)\)", (published / "summary.md").read_text())
    assert shown == [f"{FIGURES}/{name}.png" for name in SHOWN]
    sizes = [(published / name).stat().st_size for name in shown]
    assert {path.name for path in (published / FIGURES).iterdir()} == {f"{name}.png" for name in SHOWN}
    assert max(sizes) < 150_000  # git keeps every version of it


def test_the_summary_defines_what_its_tables_and_figures_show(material: Material, published: Path) -> None:
    """It once had neither "detectable" nor a word against the bootstrap, and no comparison as trained."""
    summary = (published / "summary.md").read_text()
    for words in (
        "Holm's adjustment holds the errors of one family together",
        "Detectable is the smallest true gap",
        "the bootstrap resamples seeds and assumes nothing, but is too narrow for few of them",
        "the seeds to tell are those that would find a gap as large as the one seen",
        "Gaps in percentage points, statistics as trained.",
        "the share the other way round, of rises re-estimated that the loss as trained does not share",
        "| unshared, % | height, re-estimated / as trained, % |",
        "residual − plain, depth 8 ",  # what a verdict rests on
    ):
        assert words in summary, words
    assert [line for line in summary.splitlines() if line.startswith("## ")] == [
        "## Depth against accuracy",
        "## What the addition buys",
        "## The rebound and its causes",
        "## Gradient flow",
        "## Verdicts",
    ]


def test_trainings_by_other_recipes_are_told_of(material: Material) -> None:
    scores = (score("residual-8", 0, 0.6), empty_score(ModelSpec.parse("residual-8"), 1, "diverged"))
    other = Trained({"epochs": 4, "schedule": "constant", "learning_rate": 0.1}, Study("pets", scores))
    told = replace(material, ablations={"fast": other})
    assert "By other recipes 1 of 2 more finished, 1 diverged: fast (residual-8)." in abstract(told, [])[0]
    summary = summarise(told, compose(told))
    assert "## What the recipe does" in summary
    assert re.search(r"\| fast \| learning_rate: \S+ → 0\.1 \| residual-8 \| 2 \|", summary)
    assert "other recipes" not in abstract(material, [])[0]


def test_the_abstract_ends_with_the_advice_and_names_no_time(material: Material) -> None:
    last = abstract(material, verdicts_on(material))[-1]
    assert re.match(r"(Use \S+: |Too few seeds to advise)", last)
    assert re.search(r"Next: .*\.$", last)
    assert "a training of" not in last  # times differ in every repeat


def test_the_scope_counts_every_split(material: Material) -> None:
    assert "(9 training images, 3 for validation, 3 for the test)" in abstract(material, [])[0]


def test_the_scope_names_the_recipe(material: Material, params: Params) -> None:
    """Intervals and verdicts are those of one recipe; the summary once named none of it."""
    papers = replace(material, recipes=[params.recipe("cifar10").tree()])
    assert (
        "Recipe, the same for all: 20 epochs in batches of 128 images, adam at a learning rate of 0.001 (schedule: "
        "constant), weight decay 0, augmentation: horizontal and vertical flips (independent)."
    ) in abstract(papers, [])[0]
    others = replace(material, recipes=[params.recipe("digits").tree()])
    assert "weight decay 0, augmentation: none." in abstract(others, [])[0]
    assert "Recipe" not in abstract(replace(material, recipes=[*papers.recipes, *others.recipes]), [])[0]


def picture(sections: Sequence[Section], name: str) -> Picture:
    (found,) = (p for section in sections for p in section.pictures if p.name == name)
    return found


def test_training_images_have_a_scale_of_their_own(sections: list[Section]) -> None:
    """Accuracies on test images lie far below: their scale once hid seeds, bars and gaps on training images."""
    for name in ("depth", "gap"):
        shown = picture(sections, name)
        for split, other in permutations(("test", "train")):
            ours, theirs = ([a for a in shown.figure.axes if a.get_title().startswith(s)] for s in (split, other))
            assert len(ours) == 2
            assert ours[0].get_shared_y_axes().joined(*ours)
            assert not ours[0].get_shared_y_axes().joined(ours[0], theirs[0])
        assert "on a scale of their own" in shown.caption


def test_marks_of_one_depth_stand_side_by_side_around_it_and_alone_on_it() -> None:
    names = ("cnn-4", "plain-8", "residual-8", "plain-20", "residual-20", "preact-20")
    places = {spec.name: round(place, 9) for spec, place in dodged(map(ModelSpec.parse, names)).items()}
    assert places["cnn-4"] == 4  # once 3.4
    assert places["plain-8"] < 8 < places["residual-8"]
    assert places["plain-8"] + places["residual-8"] == 16
    assert places["plain-20"] < places["residual-20"] == 20 < places["preact-20"]


def test_the_figures_say_what_small_and_large_marks_are(sections: list[Section]) -> None:
    for name in ("depth", "gap", "untrained"):
        shown = picture(sections, name)
        (legend,) = shown.figure.legends
        named = [text.get_text() for text in legend.get_texts()]
        if name == "gap":
            assert named == ["a seed's twins", "mean over seeds, with its 95 % t-interval"]
        else:
            assert legend.get_title().get_text() == MARKS
        assert "mall marks are seeds" in shown.caption
        assert ("side by side" in shown.caption) == (name != "gap")
    assert {axis.get_title() for axis in picture(sections, "gap").figure.axes} == {
        f"{split} images, statistics {kind}" for split in ("test", "train") for kind in KINDS.values()
    }


def test_no_bar_of_a_cosine_is_cut_off(material: Material) -> None:
    spec, cosines = ModelSpec.parse("plain-20"), (0.5, 0.9, 1.0)
    wide = [Shattering(spec.name, seed, 0.5, value) for seed, value in enumerate(cosines)]
    untrained = Untrained({spec: {seed: norms(spec, seed) for seed in range(3)}}, wide)
    shown = picture(compose(replace(material, untrained=untrained)), "untrained")
    assert shown.figure.axes[1].get_ylim()[1] > t_interval(cosines).high > 1.1
    assert "3 seeds each" in shown.caption
    assert "beyond one" in shown.caption


def test_trainings_that_were_not_made_alike_are_told_on_the_page_and_in_the_summary(
    material: Material, sections: list[Section]
) -> None:
    words = "several devices: kind NVIDIA H100, float32 tf32 (2); kind x86_64 avx2, float32 float32 (1)"
    mixed = replace(material, mixtures=[words])
    assert words in render(mixed, sections)
    assert words in summarise(mixed, sections)
    assert "not made alike" not in summarise(material, sections)


def test_what_was_left_out_is_told_on_the_page_and_in_the_summary(material: Material, sections: list[Section]) -> None:
    words = "train@pets-cnn-4-0: trained on other images"
    less = replace(material, left_out=[words])
    assert words in render(less, sections)
    assert words in summarise(less, sections)
    assert "but left out" not in render(material, sections) + summarise(material, sections)


def test_a_table_of_all_that_is_here_can_be_plotted(tmp_path: Path) -> None:
    spec = ModelSpec.parse("plain-8")
    others = [empty_score(spec, 1, "diverged"), empty_score(spec, 2, "missing"), empty_score(spec, 3, "foreign")]
    publish(tmp_path, make_material([score("plain-8", 0, 0.75), *others]))
    table = pd.read_csv(tmp_path / "scores.csv")
    assert list(table["status"]) == ["finished", "diverged"]
    assert table["test_accuracy"][0] == 0.75
    assert pd.isna(table["test_accuracy"][1])


def test_names_from_outside_are_escaped(page: str) -> None:
    assert "<dog>" not in page
    assert "&lt;dog&gt;" in page


def test_the_same_study_gives_the_same_bytes(material: Material, published: Path, tmp_path: Path) -> None:
    publish(tmp_path, material)
    files = [path for path in published.rglob("*") if path.is_file()]
    assert len(files) > 30
    for path in files:
        assert path.read_bytes() == (tmp_path / path.relative_to(published)).read_bytes(), path.name


MANY = tuple(f"class {number}" for number in range(200))


def many(side: int, variants: Sequence[str] = ("plain-8",)) -> list[Confusion]:
    """Confusions of `side` classes, of which 7 is always taken for 11 and the others are mostly right."""
    counts = np.eye(side, dtype=np.int64) * 9 + np.roll(np.eye(side, dtype=np.int64), 1, axis=1)
    counts[7], counts[7, 11] = 0, 10
    return [Confusion(variant, seed, counts.copy()) for variant in variants for seed in (0, 1)]


@pytest.mark.parametrize("side", [2, 10, 100, 200])
def test_any_number_of_classes_has_a_readable_page(side: int, material: Material) -> None:
    side = max(side, 12) if side > 2 else side
    confusions = many(side) if side > 2 else [Confusion("plain-8", 0, np.array([[3, 1], [0, 4]]))]
    results = replace(material.results, confusions=confusions, mistakes=[])
    dataset = replace(material.dataset, classes=MANY[:side])
    section = errors.section(replace(material, results=results, dataset=dataset))
    assert section is not None
    (picture,), classes = section.pictures, section.tables[0]
    words = [text.get_text() for axis in picture.figure.axes for text in axis.get_yticklabels()]
    assert len(words) <= 20
    assert len(classes.frame.columns) <= 21
    if side > 20:
        assert words[0] == "class 7 → class 11"
        assert "class 7 0," in classes.frame["recognised worst"][0]
        assert len(picture.data) == 2 * side
        assert classes.data is not None
        assert list(classes.data["class"]) == list(MANY[:side])


def test_worst_pairs_are_those_of_the_largest_share() -> None:
    counts = np.array([[5, 5, 0], [0, 10, 0], [1, 0, 99]])
    assert errors.worst_pairs(counts) == [(0, 1, 0.5), (2, 0, 0.01)]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("rose", "rose"),
        ("$x$", r"\$x\$"),
        ("a\nb\tc", "a b c"),
        ("שושן", "שושן"),
        ("日本", "□□"),
        ("a very long name of a class indeed", "a very long…class indeed"),  # names of many classes differ at the end
    ],
)
def test_a_class_of_any_name_can_stand_in_a_figure(name: str, shown: str) -> None:
    assert shown_name(name) == shown


HOSTILE = ("$x$ \\frac{", "new\nline", "日本 שלום")


def test_the_data_are_told_of_before_their_numbers(material: Material, tmp_path: Path) -> None:
    review = Review(
        HOSTILE,
        {"train": [100, 5, 3], "validation": [2, 1, 0], "test": [6, 2, 2]},
        (8, 8, 3),
        smallest=(4, 6),
        largest=(4000, 3000),
        enlarged=1,
        skipped={"a/bad.png": "is empty"},
        repeated={"validation": 0, "test": 2},
    )
    told = replace(material, review=review, dataset=replace(material.dataset, classes=HOSTILE))
    section = data.section(told)
    assert section is not None
    for words in (
        "3 classes, colour images of 8x8 pixels, made from pictures of 4x6 to 4000x3000 pixels.",
        "right on 60.0 % of the test images.",
        "2 of the test images (20.0 %) equal a training image to the pixel",
        "The largest class has 33 times the training images of the smallest",
        "1 class has no validation image",
        "1 picture could not be read and was skipped: a/bad.png",
    ):
        assert words in section.words
    save_figure(section.pictures[0].figure, tmp_path / "counts.png")  # a glyph that is missing would warn
    assert data.section(replace(material, review=None)) is None
    for other in (errors.section(told), section):
        assert other is not None
        for picture in other.pictures:
            save_figure(picture.figure, tmp_path / f"{picture.name}.png")


def test_two_hundred_classes_are_drawn_without_their_names(tmp_path: Path) -> None:
    counts = {split: [number + 1 for number in range(200)] for split in ("train", "validation", "test")}
    figure = data.draw(Review(MANY, counts, (8, 8, 3)))
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == []


def test_the_advice_stands_on_the_page(material: Material) -> None:
    section = advice.section(material)
    assert section is not None
    assert section.words.startswith("Too few seeds to advise: 2 seeds tell no noise.")
    assert list(section.tables[0].frame["network"]) == sorted(VARIANTS, key=lambda name: ModelSpec.parse(name).depth)


def test_an_empty_study_has_a_page_that_says_so() -> None:
    nothing = make_material([empty_score(ModelSpec.parse(v), 0, "missing") for v in VARIANTS])
    page = render(nothing, compose(nothing))
    assert "No training has finished yet, so nothing is known." in page
    assert "cnn-4: 1 missing" in page
    assert "supported</span>" not in page


def test_an_empty_study_is_published_whole(tmp_path: Path) -> None:
    nothing = make_material([empty_score(ModelSpec.parse("cnn-4"), 0, "missing")])
    publish(tmp_path, nothing)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"index.html", "summary.md", "summary", "metrics.json", "scores.csv", "data", "figures", "timing"}
    assert "No training has finished yet, so nothing is known." in (tmp_path / "summary.md").read_text()


@pytest.mark.parametrize("variants", [("cnn-4",), ("plain-8", "residual-8")])
def test_one_seed_and_few_networks_have_a_page(variants: tuple[str, ...]) -> None:
    little = make_material([score(variant, 0, 0.9) for variant in variants])
    page = render(little, compose(little))
    assert "Depth against accuracy" in page
    assert not re.search(r"\bnan\b", without_drawings(page).lower())


def without_drawings(page: str) -> str:
    return re.sub(r"<svg.*?</svg>|<style>.*?</style>", "", page, flags=re.DOTALL)


def test_a_half_run_study_shows_what_is_there_and_what_is_not() -> None:
    scores = [score("residual-8", 0, 0.9), empty_score(ModelSpec.parse("plain-32"), 0, "diverged")]
    half = make_material(scores)
    page = render(half, compose(half))
    assert "plain-32: 1 diverged" in page
    assert "Not all of the study is here" in page
    assert not re.search(r"\bnan\b", without_drawings(page).lower())


@pytest.mark.parametrize(
    ("residual", "words"),
    [
        ((0.90, 0.91, 0.92), "taken alone, the addition helps there"),
        ((0.50, 0.51, 0.52), "taken alone, the addition hurts there"),
        ((0.60, 0.90, 0.70), "does not decide"),
        ((0.90,), "one seed gives no interval"),
    ],
)
def test_the_lead_says_no_more_than_the_interval_does(residual: tuple[float, ...], words: str) -> None:
    plain = (0.70, 0.712, 0.72)
    scores = [score("plain-20", seed, value) for seed, value in enumerate(plain)]
    scores += [score("residual-20", seed, value) for seed, value in enumerate(residual)]
    assert words in lead(Study("pets", tuple(scores)))


def seeds_of(variant: str, *accuracies: float) -> list[Score]:
    return [score(variant, seed, value) for seed, value in enumerate(accuracies)]


PLAIN = (0.70, 0.712, 0.72)


@pytest.mark.parametrize(
    ("residual", "words"),
    [
        ((0.90, 0.91, 0.92), "On test images of pets the residual block helps at 20 layers. "),
        ((0.50, 0.51, 0.52), "On test images of pets the residual block hurts at 20 layers. "),
        ((0.60, 0.90, 0.70), "On test images of pets it stays open whether the residual block helps at 20 layers. "),
        ((0.90,), "On test images of pets too few seeds say whether the residual block helps at 20 layers. "),
    ],
)
def test_the_answer_says_no_more_than_the_decision_does(residual: tuple[float, ...], words: str) -> None:
    scores = [*seeds_of("plain-20", *PLAIN), *seeds_of("residual-20", *residual)]
    said = " ".join(answer(Study("pets", tuple(scores))))
    assert said.startswith(words)
    if residual[-1] == 0.92:
        assert "At 20 layers 91.0 % of the test images are right with the block and 71.1 % without it (+19.9 " in said


def test_the_answer_names_the_depths_at_which_it_stays_open() -> None:
    """One deep pair that is decided makes no general claim, and "taken alone" is no decision of the family."""
    scores = [*seeds_of("plain-8", 0.90, 0.912, 0.92), *seeds_of("residual-8", 0.91, 0.917, 0.93)]
    scores += [*seeds_of("plain-20", *PLAIN), *seeds_of("residual-20", 0.90, 0.91, 0.92)]
    study = Study("pets", tuple(scores))
    shallow, deep = study.gaps("test_accuracy_reestimated")
    assert 0 < shallow.interval.low < deep.interval.low
    assert answer(study)[0].startswith(
        "On test images of pets the residual block helps at 20 layers, at 8 layers that stays open. From 8 "
    )


@pytest.mark.parametrize(
    ("deep", "words"),
    [
        ((0.80, 0.811, 0.82), "from 8 to 20 layers residual networks lose accuracy."),
        ((0.95, 0.961, 0.97), "from 8 to 20 layers residual networks gain accuracy."),
        ((0.80, 0.95, 0.90), "it stays open whether residual networks gain or lose accuracy from 8 to 20 layers."),
        ((0.80,), "too few seeds say whether residual networks gain or lose accuracy from 8 to 20 layers."),
    ],
)
def test_the_answer_says_what_depth_does_to_residual_networks(deep: tuple[float, ...], words: str) -> None:
    scores = [*seeds_of("residual-8", 0.90, 0.91, 0.92), *seeds_of("residual-14", 0.1), *seeds_of("residual-20", *deep)]
    said = " ".join(answer(Study("pets", tuple(scores))))
    assert said.startswith(f"On test images of pets {words}")
    if deep[0] == 0.95:
        assert re.search(r"have 91\.0 % right at 8 layers and 96\.0 % at 20 \(\+5\.0 points, 95 % interval \+4", said)


def test_what_is_open_of_both_questions_is_said_once(material: Material) -> None:
    said = " ".join(answer(material.study))
    assert said.startswith(
        "On test images of pets it stays open whether the residual block helps at 8 and 20 layers, and whether "
        "residual networks gain or lose accuracy from 8 to 20 layers. "
    )


def test_the_abstract_says_what_depth_does_by_both_kinds_of_statistics(material: Material) -> None:
    said = " ".join(abstract(material, verdicts_on(material)))
    assert "changes with depth: that of residual networks by +12.0 [" in said
    assert "] points from 8 to 20 layers, that of plain networks by +12.0 [" in said


def test_the_answer_names_the_champion_and_comes_first(material: Material, page: str, published: Path) -> None:
    said = " ".join(answer(material.study))
    assert re.search(
        r"The champion is plain-20, the best on validation images: 70\.0 % are right\. .*"
        r"Of the test images \S+ has 70\.0 ± [0-9.]+ % right\. "
        r"All this is with batch-norm statistics re-estimated: .*\.$",
        said,
    )
    for text in (page.replace("\N{NO-BREAK SPACE}%", " %"), (published / "summary.md").read_text()):
        places = [text.index(part) for part in (*answer(material.study), "networks were trained on pets")]
        assert places == sorted(places)


def test_the_answer_names_who_is_not_told_apart_from_the_champion() -> None:
    """Once "the best on validation images", which one image in 720 had decided."""
    scores = [*seeds_of("plain-8", 0.90, 0.94, 0.92), *seeds_of("residual-8", 0.92, 0.92, 0.91)]
    scores += seeds_of("cnn-4", 0.70, 0.741, 0.72)
    said = " ".join(answer(Study("pets", tuple(scores))))
    assert "The champion is plain-8, the best on validation images: 92.0 % are right." in said
    assert "Not told apart from it there: residual-8 (91.7 %). " in said
    apart = (*seeds_of("plain-8", 0.90, 0.94, 0.92), *seeds_of("cnn-4", 0.70, 0.741, 0.72))
    assert "told apart" not in " ".join(answer(Study("pets", apart)))


def test_the_lead_speaks_of_the_deepest_pair() -> None:
    scores = [score(variant, seed, 0.5 + seed / 10) for variant in VARIANTS for seed in (0, 1)]
    assert lead(Study("pets", tuple(scores))).startswith("At depth 20")


def test_the_lead_gives_the_gap_with_both_kinds_of_statistics() -> None:
    """The verdicts take the first one; the other stands beside it, labelled."""
    plain, residual = score("plain-20", 0, 0.711), score("residual-20", 0, 0.705)
    fresh = (replace(plain, test_accuracy_reestimated=0.763), replace(residual, test_accuracy_reestimated=0.770))
    said = lead(Study("pets", fresh))
    assert "minus its plain twin's is +0.7 points, batch-norm statistics re-estimated" in said
    assert said.endswith("With statistics as trained it is -0.6 points.")


def test_numbers_are_written_as_a_reader_expects() -> None:
    assert percent(t_interval([0.91, 0.92, 0.93])) == "92.0 ± 2.5"
    assert percent(t_interval([0.5])) == "50.0"
    assert percent(t_interval([])) == points(t_interval([])) == "–"
    assert points(t_interval([0.01, 0.02, 0.03])) == "+2.0 [-0.5, +4.5]"
    assert (number(t_interval([0.0])), points(t_interval([0.0]))) == ("0.0", "0.0")
    assert points_in_words(t_interval([0.01, 0.02, 0.03])) == "+2.0 points, 95 % interval -0.5 to +4.5"
    assert points_in_words(t_interval([-0.01])) == "-1.0 points"
    assert [p_value(p) for p in (0.0002, 0.0123, 0.5, float("nan"))] == ["< 0.001", "0.012", "0.50", "–"]
    assert markdown(pd.DataFrame({"a": ["x|y"], "b": ["1"]})) == "| a | b |\n| --- | --: |\n| x\\|y | 1 |\n"
    assert markdown(pd.DataFrame([["x\n y"]], columns=["a|b"])) == "| a\\|b |\n| --- |\n| x y |\n"
    assert [listed(names) for names in ([], ["8"], ["8", "20"], ["8", "20", "32"])] == [
        "",
        "8",
        "8 and 20",
        "8, 20 and 32",
    ]
    assert (counted(1, "seed"), counted(1_293, "image")) == ("1 seed", "1,293 images")


def test_nothing_but_zero_shows_as_zero() -> None:
    """Once "+0.0 [+0.0, +0.0]" and "100.0 ± 0.0", which hid on which side of zero and how wide."""
    assert points(Interval(0.0, -0.0004, 0.0004, 5)) == "0.00 [-0.04, +0.04]"
    assert points(Interval(0.00124, 0.00007, 0.0024, 5)) == "+0.12 [+0.01, +0.24]"
    assert points(Interval(-0.0004, -0.006, 0.0052, 5)) == "-0.04 [-0.60, +0.52]"
    assert points(Interval(0.3, 0.2998, 0.3002, 5)) == "+30.00 [+29.98, +30.02]"
    assert points(Interval(0.0, 0.0, 0.0, 2)) == "0.0 [0.0, 0.0]"  # seeds without a spread
    assert points(Interval(0.01, 1e-9, 0.02, 5)) == "+1.000 [+0.000, +2.000]"  # its sign stays, whatever the digits
    assert percent(Interval(1.0, 0.9997, 1.0003, 5)) == "100.00 ± 0.03"
    assert number(Interval(-0.00004, -0.006, 0.006, 5), digits=3) == "0.000 ± 0.006"
    assert (number(t_interval([-0.001])), points(t_interval([-0.0001])), plain(0.04, 1)) == ("-0.001", "-0.01", "0.04")


def test_a_page_of_links_leads_from_a_key_to_its_run_or_says_that_there_are_none(tmp_path: Path) -> None:
    write_links(tmp_path, "pets", "http://127.0.0.1:5000", [("train@pets-cnn-4-0", "abc", "http://127.0.0.1:5000/#/1")])
    text = (tmp_path / "mlflow.html").read_text()
    assert '<tr id="abc"><td><a href="http://127.0.0.1:5000/#/1">train@pets-cnn-4-0</a>' in text
    assert "<code>resblock ui</code>" in text
    write_links(tmp_path, "pets", "", [])
    assert "no store could be read" in (tmp_path / "mlflow.html").read_text()


def test_no_name_covers_another_in_the_figures_of_cost(material: Material) -> None:
    section = cost.section(material)
    assert section is not None
    for picture in section.pictures:
        picture.figure.draw_without_rendering()
        for axis in picture.figure.axes:
            boxes = [text.get_window_extent() for text in axis.texts]
            assert boxes
            for one, other in combinations(boxes, 2):
                assert not one.overlaps(other)


def test_networks_that_differ_in_depth_alone_share_a_series_and_a_look() -> None:
    assert series(ModelSpec.parse("residual-20")) == series(ModelSpec.parse("residual-32")) == "residual"
    assert look(ModelSpec.parse("plain-8")) == look(ModelSpec.parse("plain-56"))


def test_every_family_has_a_colour_a_marker_and_a_dash_of_its_own() -> None:
    for styles in (COLORS, MARKERS, DASHES):
        assert set(FAMILIES) <= set(styles)
        assert len({str(style) for style in styles.values()}) == len(styles)


def test_a_curve_of_one_epoch_is_a_dot() -> None:
    for epochs, marker in ((1, "."), (2, "")):
        figure = learning_curves({ModelSpec.parse("plain-8"): {0: curve()[:epochs]}}, ACCURACIES)
        lines = [line for line in figure.axes[0].lines if len(np.asarray(line.get_xdata()))]
        assert [line.get_marker() for line in lines] == [marker] * 2  # a seed and the mean


def test_a_diverged_curve_can_be_drawn(tmp_path: Path) -> None:
    lost = replace(curve()[-1], epoch=5, loss=float("nan"), validation_loss=float("nan"))
    save_figure(run_curves({"plain-8": [*curve(), lost]}), tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
