"""A page of links to MLflow beside the report, rewritten whenever a store was: no result, so no out of a stage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from resblock.core.files import write_text
from resblock.report.template import LINKS, PAGE, fill_template


def write_links(folder: Path, dataset: str, store: str, links: Sequence[tuple[str, str, str]]) -> None:
    """Write the page of `links`, (run, key, address) each, to runs whose UI answers at `store`."""
    local = store.startswith("http://127.0.0.1")
    text = fill_template("links.html", dataset=dataset, links=links, store=store, local=local, page=PAGE)
    write_text(folder / LINKS, text)
