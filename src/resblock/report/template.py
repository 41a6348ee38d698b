"""The report's HTML files: what they are called, and how a template becomes one."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

PAGE, LINKS = "index.html", "mlflow.html"


def fill_template(name: str, **values: Any) -> str:
    """Return the HTML of a template in this folder, its style inside."""
    room = files("resblock.report")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    css = Markup((room / "page.css").read_text(encoding="utf-8"))  # noqa: S704  (our own file)
    return environment.from_string((room / name).read_text(encoding="utf-8")).render(css=css, **values)
