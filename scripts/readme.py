#!/usr/bin/env python
"""Write the README's tables and pictures, and docs/findings.md, from the results here; with --check, only compare."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import pandas as pd
from blocks import markdown, replace_blocks
from findings import findings, several_splits

from resblock import paths
from resblock.core.spec import ModelSpec
from resblock.evaluation.flow import read_untrained
from resblock.evaluation.score import headline
from resblock.notebook import read_study
from resblock.params import read_params
from resblock.report.material import Material
from resblock.report.style import series_of
from resblock.report.tables import percent
from resblock.report.words.abstract import rebound
from resblock.report.words.answer import answer
from resblock.report.words.verdicts import verdicts_on
from resblock.study.gradients import growths, nearest
from resblock.study.interval import Interval, t_interval
from resblock.study.numbers import counted, listed, number, points
from resblock.study.summary import Study

README = Path("README.md")
FINDINGS = Path("docs/findings.md")
IMAGES = Path("docs/images")


@cache
def _material(dataset: str) -> Material:
    return read_study(dataset).material


def networks(dataset: str) -> str:
    """Return accuracy by network and the paired gaps on a data set, of the networks that were trained."""
    study = _material(dataset).study
    train, test = headline("train_accuracy"), headline("test_accuracy")
    gaps = {gap.residual.name: points(gap.interval) for gap in study.gaps(test) if gap.differences}
    rows = [
        {
            "network": f"`{summary.spec}`",
            "train accuracy, %": percent(summary.interval(train)),
            "test accuracy, %": percent(summary.interval(test)),
            "every seed": ", ".join(f"{100 * value:.1f}" for value in summary.values(test)),
            "test as trained, %": percent(summary.interval("test_accuracy")),
            "residual − plain, points": gaps.get(summary.spec.name, ""),
        }
        for summary in study.summaries
        if summary.finished
    ]
    return _markdown(pd.DataFrame(rows))


def untrained() -> str:
    """Return what depth does to gradients before training, on CIFAR-10."""
    found = read_untrained(paths.untrained("cifar10"))
    measures = {"growth, decades": growths(found.gradients, "activations"), "cosine": nearest(found.shattering)}
    depths = sorted({spec.depth for spec in found.gradients})
    rows = [
        {"network": f"`{series}`", "number": words}
        | {
            f"depth {depth}": number(t_interval(list(measure[ModelSpec.parse(name)].values())), 1, 3)
            for depth in depths
            for name in [series.replace("-", f"-{depth}-", 1) if "-" in series else f"{series}-{depth}"]
        }
        for words, measure in measures.items()
        for series in series_of(found.gradients)
    ]
    return _markdown(pd.DataFrame(rows))


def kinds() -> str:
    """Return what the first networks on CIFAR-10 say with each kind of batch-norm statistics, paired by seed."""
    study = _material("cifar10").study
    ours, theirs = ModelSpec.parse("residual-8"), ModelSpec.parse("cnn-4")
    metrics = {"re-estimated": headline("test_accuracy"), "as trained": "test_accuracy"}
    measured = {kind: study.accuracies(metric) for kind, metric in metrics.items()}
    against = {kind: _difference(study, each[ours], each[theirs]) for kind, each in measured.items()}
    gain = _difference(study, measured["re-estimated"][ours], measured["as trained"][ours])
    told = "; ".join(f"{kind} {points(interval)}" for kind, interval in against.items())
    return (
        f"`residual-8` minus `cnn-4`, in points of test accuracy: {told} ({counted(gain.n, 'seed')}). What "
        f"`residual-8` gains where its statistics are re-estimated: {points(gain)}."
    )


def _difference(study: Study, first: Mapping[int, float], second: Mapping[int, float]) -> Interval:
    both = [first[seed] - second[seed] for seed in first if seed in second]
    return t_interval(both, rounding=2 * study.rounding("test_accuracy"))


def splits() -> str:
    """Return the paired gaps over several splits of the bundled digits."""
    found = several_splits("digits")
    gaps = [f"{points(gap.interval)} points ({gap.label})" for gap in found.gaps]
    own = list(found.accuracies).index(read_params(paths.PARAMS).data["digits"].split_seed)
    largest = [gap.label for gap in found.gaps if gap.split_means[own] == max(gap.split_means)]
    luck = f" The study's own split has the largest gap of {listed(largest)}." if largest else ""
    return f"Over {len(found.accuracies)} splits the gaps are {listed(gaps)}.{luck}"


def _answer() -> str:
    """Return the page's first words: what the block buys on CIFAR-10, and what that rests on."""
    first, numbers = answer(_material("cifar10").study)
    return f"**{first}** {numbers}".replace("cifar10", "CIFAR-10")


def _rebound() -> str:
    material = _material("cifar10")
    return rebound(material, verdicts_on(material))


# Pictures that a report has made: the data set's name, the figure's, and the README's own.
PICTURES = (
    ("cifar10", "depth", "cifar10-depth"),
    ("cifar10", "untrained", "cifar10-untrained"),
    ("digits", "depth", "digits-depth"),
)

BLOCKS: dict[str, Callable[[], str]] = {
    "answer": _answer,
    "digits": lambda: networks("digits"),
    "splits": splits,
    "cifar10": lambda: networks("cifar10"),
    "kinds": kinds,
    "rebound": _rebound,
    "untrained": untrained,
}


def main() -> None:
    """Rewrite the README's blocks, the findings and the pictures that are here, or fail where they are stale."""
    before = README.read_text(encoding="utf-8")
    after = replace_blocks(README, before, {name: make() for name, make in BLOCKS.items()})
    written = {README: (before, after), FINDINGS: (FINDINGS.read_text(encoding="utf-8"), findings())}
    if "--check" in sys.argv:
        stale = [str(page) for page, (old, new) in written.items() if old != new]
        sys.exit(f"{', '.join(stale)}: not what the results say; run make readme" if stale else 0)
    for page, (_, new) in written.items():
        page.write_text(new, encoding="utf-8")
    for dataset, figure, name in PICTURES:
        path = _figure(dataset, figure)
        if path.exists():
            shutil.copy(path, IMAGES / f"{name}.png")
        else:
            print(f"{name}.png stays as it is: {path} is not here; resblock report {dataset} draws it", file=sys.stderr)


def _figure(dataset: str, name: str) -> Path:
    return paths.report(dataset) / "figures" / f"{name}.png"


def _markdown(frame: pd.DataFrame) -> str:
    return markdown(frame, text=("network", "number"))


if __name__ == "__main__":
    main()
