"""Generated tables in hand-written pages: each stands between two comments that name it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

import pandas as pd


def replace_blocks(page: Path, content: str, blocks: Mapping[str, str]) -> str:
    """Return the `content` of `page` with each of `blocks` between ``<!-- name -->`` and ``<!-- /name -->``.

    Raises ValueError where the page lacks one.
    """
    for name, block in blocks.items():
        marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if not marks.search(content):
            raise ValueError(f"{page}: lacks the block {name}: <!-- {name} --> and <!-- /{name} -->, each on a line")
        content = marks.sub(lambda found, block=block: f"{found[1]}{block}\n{found[2]}", content)
    return content


def markdown(frame: pd.DataFrame, *, text: Collection[str]) -> str:
    """Return `frame` as a Markdown table, the columns of `text` left-aligned, the others right."""
    lines = [" | ".join(row) for row in frame.astype(str).to_numpy().tolist()]
    rule = " | ".join("---" if column in text else "--:" for column in frame)
    return "\n".join(f"| {line} |" for line in (" | ".join(frame.columns), rule, *lines))
