"""The system's Chromium, as someone meets MLflow's UI who has closed its assistant before."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from contextlib import contextmanager

import pytest
from playwright.sync_api import BrowserContext, HttpCredentials, Page, sync_playwright

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
ASSISTANT = "localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')"

needs_browser = pytest.mark.skipif(BROWSER is None, reason="needs Chromium")


@contextmanager
def open_browser(*, host: str = "", account: tuple[str, str] | None = None) -> Generator[BrowserContext]:
    """Start a browser that has been nowhere; `host` is a name of this machine, `account` a name and a password."""
    flags = [*FLAGS, *([f"--host-resolver-rules=MAP {host} 127.0.0.1"] if host else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=flags)
        credentials: HttpCredentials | None = {"username": account[0], "password": account[1]} if account else None
        context = browser.new_context(viewport={"width": 1500, "height": 860}, http_credentials=credentials)
        context.add_init_script(ASSISTANT)
        yield context
        browser.close()


@contextmanager
def open_page(browser: BrowserContext, address: str) -> Generator[Page]:
    """Open `address`, and forget afterwards what its site has kept here."""
    page = browser.new_page()
    page.goto(address)
    yield page
    page.evaluate("localStorage.clear()")
    page.close()
