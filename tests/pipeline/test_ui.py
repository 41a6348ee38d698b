"""The MLflow UI in a real browser: the training runs, their means, depth against test accuracy, one run's page."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest
from mlflow import MlflowClient
from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.browser import needs_browser, open_browser, open_page
from tests.conftest import ROOT, free_port
from tests.pipeline.conftest import Workspace

pytestmark = needs_browser

HOST = "lab.example.org"  # a name that `resblock ui` is told to answer to
COLUMNS = {
    "params": ("variant", "family", "depth", "seed"),
    "metrics": ("validation_accuracy_reestimated", "test_accuracy_reestimated", "images_per_second"),
}
TEST = "test_accuracy_reestimated"
RUN = "train@digits-residual-8-1"


@pytest.fixture(scope="module")
def address(finished: Workspace) -> Iterator[str]:
    """What `resblock ui` prints, while it runs; on this machine rather than by its name."""
    command = [str(Path(sys.executable).parent / "resblock"), "ui", "--dataset", "digits"]
    command += ["--port", str(free_port()), "--allowed-hosts", HOST]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    server = subprocess.Popen(
        command, cwd=finished.root, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert server.stdout is not None
    for line in server.stdout:
        if found := re.search(rf"http://{HOST}\S+", line):
            yield found.group().replace(HOST, "127.0.0.1")
            break
    server.send_signal(signal.SIGINT)
    server.communicate()
    assert server.returncode == 130


@pytest.fixture(scope="module")
def browser() -> Iterator[BrowserContext]:
    """One browser, which has MLflow's scripts to fetch and to read once."""
    with open_browser(host=HOST) as browser:
        yield browser


@pytest.fixture
def page(address: str, browser: BrowserContext) -> Iterator[Page]:
    """The printed address in a browser, the training runs in sight."""
    with open_page(browser, address) as page:
        expect(page.get_by_text(RUN).first).to_be_visible(timeout=60_000)
        yield page


@pytest.fixture
def table(page: Page) -> Page:
    """The same runs as a table."""
    page.get_by_role("button", name="Group by").wait_for()
    page.goto(page.url.replace("compareRunsMode=CHART", "compareRunsMode=TABLE"))
    expect(column(page, "params", "variant")).to_be_visible(timeout=30_000)
    return page


@pytest.fixture(scope="module")
def scores(finished: Workspace) -> pd.DataFrame:
    return pd.read_csv(finished.root / "results/digits/report/scores.csv")


def column(page: Page, kind: str, name: str) -> Locator:
    return page.locator(f".ag-header-cell[col-id='{kind}.`{name}`']")


def cell(page: Page, row: str, kind: str, name: str) -> str:
    """Return what a row shows in a column; rows lie in two parts, the frozen one with the run's name."""
    line = page.locator(".ag-row", has_text=row).first.get_attribute("row-id")
    return page.locator(f".ag-row[row-id='{line}'] .ag-cell[col-id='{kind}.`{name}`']").inner_text()


def points(page: Page) -> Locator:
    return page.locator(".js-plotly-plot").first.locator(".scatterlayer .point")


def test_the_printed_address_shows_depth_against_test_accuracy(page: Page) -> None:
    expect(page.get_by_text("6 matching runs")).to_be_visible()
    expect(page.get_by_text(re.compile("evaluate@digits"))).to_have_count(0)
    expect(page.get_by_text("depth vs. test_accuracy_reestimated", exact=True)).to_be_visible(timeout=30_000)
    expect(points(page)).to_have_count(6, timeout=30_000)


def test_the_link_in_the_readme_opens_the_same_view(address: str) -> None:
    links = re.findall(r"\(http://127\.0\.0\.1:5000(/#/experiments/\S+)\)", (ROOT / "README.md").read_text())
    assert links == [address[address.index("/#/") :]]


def test_another_name_opens_the_view_where_it_was_allowed(address: str, browser: BrowserContext) -> None:
    with open_page(browser, address.replace("127.0.0.1", HOST)) as page:
        expect(page.get_by_text("6 matching runs")).to_be_visible(timeout=60_000)


def test_the_table_has_readable_columns(table: Page, scores: pd.DataFrame) -> None:
    width = (table.viewport_size or {"width": 0})["width"]
    for kind, names in COLUMNS.items():
        for name in names:
            box = column(table, kind, name).bounding_box()
            assert box, name
            assert box["x"] + box["width"] <= width, f"{name} lies outside the window"
    shown = {name: cell(table, RUN, "params", name) for name in COLUMNS["params"]}
    assert shown == {"variant": "residual-8", "family": "residual", "depth": "8", "seed": "1"}
    (score,) = scores[(scores["variant"] == "residual-8") & (scores["seed"] == 1)].to_dict("records")
    assert float(cell(table, RUN, "metrics", TEST)) == score[TEST]
    assert float(cell(table, RUN, "metrics", "images_per_second")) > 0


def test_grouping_by_variant_shows_the_mean_over_seeds(table: Page, scores: pd.DataFrame) -> None:
    table.get_by_role("button", name="Group by").click()
    table.get_by_role("menuitemcheckbox", name="variant", exact=True).click()
    table.keyboard.press("Escape")
    for variant, mean in scores.groupby("variant")[TEST].mean().items():
        expect(table.get_by_text(f"Group: {variant}")).to_be_visible(timeout=30_000)
        shown = cell(table, f"Group: {variant}", "metrics", TEST)
        assert float(shown.removesuffix(" (average)")) == pytest.approx(mean)


def test_the_second_view_shows_a_point_for_each_variant(
    address: str, browser: BrowserContext, scores: pd.DataFrame
) -> None:
    with open_page(browser, address.replace("Key=resblock&", "Key=resblock-means&")) as page:
        expect(page.get_by_text("Group: residual-8")).to_be_visible(timeout=60_000)
        expect(page.get_by_role("button", name="Means over seeds")).to_be_visible()
        expect(points(page)).to_have_count(scores["variant"].nunique(), timeout=30_000)


def test_selected_runs_can_be_compared_over_depth(page: Page) -> None:
    page.get_by_role("checkbox").first.check()
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_text("Comparing 6 Runs")).to_be_visible(timeout=30_000)
    page.get_by_role("tab", name="Scatter Plot").click()
    for axis, name in (("x", "depth"), ("y", "test_accuracy")):
        page.locator(f"#{axis}-axis-selector").click()
        page.get_by_role("option", name=name, exact=True).click()
    expect(page.locator(".xtitle")).to_have_text("depth")
    expect(page.locator(".ytitle")).to_have_text("test_accuracy")


def test_a_runs_page_says_what_it_is_and_shows_its_data_and_its_curves(page: Page) -> None:
    page.get_by_role("link", name=RUN).first.click()
    expect(page.get_by_text("residual-8 trained on digits from seed 1")).to_be_visible(timeout=30_000)
    expect(page.get_by_text("digits-train").first).to_be_visible()
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_text("curve.png").first.click()
    picture = page.get_by_role("img", name="curve.png")
    expect(picture).to_be_visible(timeout=30_000)
    assert picture.evaluate("image => image.naturalWidth") > 300


def test_the_experiment_says_what_it_is(page: Page) -> None:
    expect(page.get_by_text("What the residual block buys, and how accuracy changes with depth")).to_be_visible()


def command_line(process: psutil.Process) -> str:
    """How it was called; nothing once it has ended, be it reaped or not."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # a zombie too, by its subclass
        return ""


def test_no_workers_for_jobs_wait_beside_the_server(address: str) -> None:
    commands = [command_line(child) for child in psutil.Process().children(recursive=True)]
    assert any("mlflow server" in command for command in commands)
    assert not any("mlflow.server.jobs" in command for command in commands)


def test_metrics_are_few(finished: Workspace) -> None:
    """What a person reads through to choose from; groups are folded, per-class figures are artifacts."""
    client = MlflowClient(tracking_uri=f"sqlite:///{finished.root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("resblock-digits")
    assert experiment is not None
    trained = client.search_runs([experiment.experiment_id], "tags.`resblock.stage` = 'train'")
    names = {name for run in trained for name in run.data.metrics if "/" not in name}
    assert len(names) <= 16, sorted(names)


def test_no_metric_has_a_parameters_name(finished: Workspace) -> None:
    """Charts and the page that compares runs name both alike, and choose the metric where the parameter was meant."""
    client = MlflowClient(tracking_uri=f"sqlite:///{finished.root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("resblock-digits")
    assert experiment is not None
    for run in client.search_runs([experiment.experiment_id]):
        assert not run.data.metrics.keys() & run.data.params.keys()
