"""The MLflow UI in a real browser: the training runs and depth against test accuracy."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.pipeline.conftest import Workspace

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]

pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs Chromium")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def address(finished: Workspace) -> Iterator[str]:
    """What `resblock ui` prints, while it runs."""
    command = [str(Path(sys.executable).parent / "resblock"), "ui", "--dataset", "digits", "--port", str(free_port())]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    server = subprocess.Popen(
        command, cwd=finished.root, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert server.stdout is not None
    for line in server.stdout:
        if found := re.search(r"http://\S+", line):
            yield found.group()
            break
    server.send_signal(signal.SIGINT)
    server.communicate()
    assert server.returncode == 130


@pytest.fixture
def page(address: str) -> Iterator[Page]:
    """The printed address in a browser, the training runs in sight."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        page = browser.new_page(viewport={"width": 1800, "height": 1000})
        page.goto(address)
        expect(page.get_by_text("train@digits-residual-8-1").first).to_be_visible(timeout=60_000)
        yield page
        browser.close()


def test_the_printed_address_shows_depth_against_test_accuracy(page: Page) -> None:
    expect(page.get_by_text("6 matching runs")).to_be_visible()
    expect(page.get_by_text("evaluate@digits")).to_have_count(0)
    expect(page.get_by_text("depth vs. test_accuracy", exact=True)).to_be_visible(timeout=30_000)
    points = page.locator(".js-plotly-plot").first.locator(".scatterlayer .point")
    expect(points.first).to_be_visible(timeout=30_000)
    assert points.count() == 6


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
