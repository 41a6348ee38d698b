"""A study on several splits: revisions that differ in how the images were cut, and what that moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Self

import pandas as pd

from resblock.core.errors import UserError
from resblock.core.files import write_text
from resblock.core.recipe import BASE
from resblock.core.spec import ModelSpec
from resblock.diff.show import Block, block_as_markdown, print_block, wide_console
from resblock.diff.side import Side, datasets_at, read_side
from resblock.diff.tree import WORKSPACE, tree_at
from resblock.evaluation.score import headline
from resblock.study.measure import Measure
from resblock.study.numbers import difference, number, plain
from resblock.study.provenance import mixtures
from resblock.study.replicates import Replicated
from resblock.study.summary import Sizes, rounding

METRIC = "test_accuracy"  # with batch-norm statistics re-estimated
SEED = "split_seed"
COLUMNS = (SEED, "variant", "seed", METRIC)
WORDS = (
    "Test accuracy in per cent and gaps in points, batch-norm statistics re-estimated. The interval is Student's, of "
    "the means over seeds that each split gave: it speaks of further splits. Standard deviations, in points: *split*, "
    "of what all seeds of a split share; *seed*, of what a seed does on all splits; *rest*, of what is left of one "
    "training."
)


@dataclass(frozen=True)
class Splits:
    """The test accuracy of each network from each seed on each split."""

    accuracies: Mapping[int, Measure]  # by split_seed
    sizes: Sizes  # images in each split

    @classmethod
    def of_frame(cls, frame: pd.DataFrame, sizes: Sizes) -> Self:
        """Return what a frame with the columns COLUMNS holds."""
        found: dict[int, dict[ModelSpec, dict[int, float]]] = {}
        for split, variant, seed, accuracy in frame[list(COLUMNS)].itertuples(index=False):
            found.setdefault(split, {}).setdefault(ModelSpec.parse(variant), {})[seed] = accuracy
        return cls(found, sizes)

    @property
    def frame(self) -> pd.DataFrame:
        """Every accuracy, with the columns COLUMNS."""
        rows = [
            (split, spec.name, seed, accuracy)
            for split, measure in self.accuracies.items()
            for spec, seeds in measure.items()
            for seed, accuracy in seeds.items()
        ]
        return pd.DataFrame(rows, columns=list(COLUMNS))

    @property
    def networks(self) -> list[Replicated]:
        """Every network that all splits have from two seeds or more."""
        error = rounding(METRIC, self.sizes)
        return [Replicated(spec.name, [*zip(*seeds.values(), strict=True)], error) for spec, seeds in self._shared()]

    @property
    def gaps(self) -> list[Replicated]:
        """Residual minus plain of every pair of twins among these networks, paired by split and seed."""
        error, networks = 2 * rounding(METRIC, self.sizes), dict(self._shared())
        found: list[Replicated] = []
        for residual, ours in networks.items():
            twin = residual.twin
            theirs = networks.get(twin, {}) if twin and twin.family == "plain" else {}
            both = [seed for seed in ours if seed in theirs]
            if twin and len(both) > 1:
                by_seed = [[a - b for a, b in zip(ours[seed], theirs[seed], strict=True)] for seed in both]
                found.append(Replicated(f"{residual} − {twin}", [*zip(*by_seed, strict=True)], error))
        return found

    def _shared(self) -> list[tuple[ModelSpec, Mapping[int, list[float]]]]:
        """Return networks with their accuracies, seed to [splits], from the seeds that all splits have."""
        measures = [*self.accuracies.values()]
        found: list[tuple[ModelSpec, Mapping[int, list[float]]]] = []
        for spec in measures[0] if measures else ():
            tables = [measure.get(spec, {}) for measure in measures]
            seeds = {
                seed: [table[seed] for table in tables] for seed in tables[0] if all(seed in table for table in tables)
            }
            found += [(spec, seeds)] if len(seeds) > 1 else []
        return found


def run(revisions: Sequence[str], dataset: str | None, *, as_markdown: bool = False, csv: Path | None = None) -> None:
    """Print what the split moves, by the files that lie here and those of `revisions`.

    Every accuracy goes into the file `csv`, too. Raises UserError where they differ in more than the split, or not in
    that.
    """
    splits = read_splits((WORKSPACE, *revisions), dataset)
    if not splits.networks:
        raise UserError("no network was trained from two seeds or more on each of these splits")
    if csv:
        write_text(csv, splits.frame.to_csv(index=False, lineterminator="\n"))
    block = Block(f"{len(splits.accuracies)} splits", WORDS, table(splits))
    if as_markdown:
        print(block_as_markdown(block), end="")
    else:
        print_block(block, wide_console())


def read_splits(revisions: Sequence[str], dataset: str | None) -> Splits:
    """Read the study at each of `revisions`. Raises UserError as `run` does."""
    with ExitStack() as stack:
        trees = [stack.enter_context(tree_at(revision)) for revision in revisions]
        shared = [name for name in datasets_at(trees[0]) if all(name in datasets_at(tree) for tree in trees)]
        wanted = [name for name in shared if dataset in (None, name)]
        if len(wanted) != 1:
            raise UserError(f"name one data set with --dataset; all revisions have: {', '.join(shared) or 'none'}")
        sides = [read_side(tree, wanted[0]) for tree in trees]
    _require_alike(sides, wanted[0])
    by_split = {_split_seed(side, wanted[0]): side.studies[BASE] for side in sides}
    return Splits(
        {split: study.accuracies(headline(METRIC)) for split, study in by_split.items()}, sides[0].studies[BASE].sizes
    )


def table(splits: Splits) -> pd.DataFrame:
    """Return what splits and seeds move as text, a row for each network and each pair of twins."""
    rows = [_row(each, number(each.interval, 100, 1), "{:.1f}") for each in splits.networks]
    rows += [_row(each, difference(each.interval, 100, 1), "{:+.1f}") for each in splits.gaps]
    return pd.DataFrame(rows)


def _row(each: Replicated, mean: str, form: str) -> dict[str, str]:
    spread = each.spread
    return {
        "network or gap": each.label,
        "seeds": str(len(each.values[0])),
        "mean": mean,
        "every split": ", ".join(form.format(100 * value) for value in each.split_means),
        "split": plain(100 * spread.split, 1),
        "seed": plain(100 * spread.seed, 1),
        "rest": plain(100 * spread.rest, 1),
    }


def _require_alike(sides: Sequence[Side], dataset: str) -> None:
    """Raise UserError where sides differ in more than the seed of the split, or two of them share that."""
    by_side = [[m for key, m in side.manifests.items() if key.recipe == BASE] for side in sides]
    if unlike := mixtures({**manifest, "data": None} for manifests in by_side for manifest in manifests):
        raise UserError("the revisions differ in more than the split: " + "; ".join(unlike))
    section, seed = f"data.{dataset}.", f"data.{dataset}.{SEED}"
    for name in dict.fromkeys(name for side in sides for name in side.params if name.startswith(section)):
        values = [side.params.get(name) for side in sides]
        if name != seed and any(value != values[0] for value in values):
            told = ", ".join(f"{side.name} {value}" for side, value in zip(sides, values, strict=True))
            raise UserError(f"the revisions differ in more than the split: {name} ({told})")
    cut = [{manifest["data"] for manifest in manifests} for manifests in by_side]
    for (one, of_one), (other, of_other) in combinations(zip(sides, cut, strict=True), 2):
        if of_one & of_other or one.params.get(seed) == other.params.get(seed):
            raise UserError(f"{one.name} and {other.name} were trained on the same split; `{SEED}` tells them apart")


def _split_seed(side: Side, dataset: str) -> int:
    return int(side.params[f"data.{dataset}.{SEED}"])
