"""The command `resblock diff`: which revisions and data sets, and in what form the answer goes out."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

from resblock.core.errors import UserError
from resblock.core.files import write_text
from resblock.diff.compare import Comparison, compare
from resblock.diff.show import as_markdown, as_page, as_tree, print_tables
from resblock.diff.side import datasets_at, read_side
from resblock.diff.tree import Tree, tree_at


def run(
    before: str, after: str, dataset: str | None, *, markdown: bool = False, as_json: bool = False, page: Path | None
) -> None:
    """Compare two revisions and print what differs; into the file `page`, too, as HTML with the curves.

    Raises UserError where a revision is not known, or no data set has trainings on both sides.
    """
    with ExitStack() as stack:
        sides = [stack.enter_context(tree_at(revision)) for revision in (before, after)]
        comparisons = [_compare(sides[0], sides[1], name) for name in _shared(sides[0], sides[1], dataset)]
    if as_json:
        print(json.dumps([as_tree(comparison) for comparison in comparisons], indent=2, ensure_ascii=False))
    elif markdown:
        print(as_markdown(comparisons), end="")
    else:
        print_tables(comparisons)
    if page:
        write_text(page, as_page(comparisons))


def _compare(before: Tree, after: Tree, dataset: str) -> Comparison:
    return compare(dataset, read_side(before, dataset), read_side(after, dataset))


def _shared(before: Tree, after: Tree, dataset: str | None) -> list[str]:
    there = [datasets_at(tree) for tree in (before, after)]
    shared = [name for name in there[0] if name in there[1] and dataset in (None, name)]
    if not shared:
        held = "; ".join(
            f"{tree.name} has {', '.join(names) or 'none'}" for tree, names in zip((before, after), there, strict=True)
        )
        raise UserError(f"no data set {f'called {dataset} ' if dataset else ''}has trainings on both sides: {held}")
    return shared
