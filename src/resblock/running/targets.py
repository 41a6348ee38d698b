"""Which stages a person means: data sets, stages by name, patterns of names, and all that these need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from resblock import paths
from resblock.core.errors import UserError
from resblock.core.spec import RunKey
from resblock.data.entries import require_written
from resblock.data.table import find_dataset, require_source
from resblock.params import Params, ParamsError


@dataclass
class Chosen:
    """What is wanted of one data set: its preparation always, for everything needs it."""

    dataset: str
    probe: bool = False
    trainings: dict[RunKey, bool] = field(default_factory=dict[RunKey, bool])  # and whether it is looked at
    report: bool = False

    @property
    def preparation(self) -> tuple[str, str]:
        """The stages by which the splits come here."""
        return f"download@{self.dataset}", f"preprocess@{self.dataset}"

    @property
    def stages(self) -> list[str]:
        """All stages, each after those that it needs."""
        names = [*self.preparation, *([f"probe@{self.dataset}"] if self.probe else [])]
        for key, looked_at in self.trainings.items():
            names += [paths.stage(key), *([paths.evaluation(key)] if looked_at else [])]
        return names + ([f"report@{self.dataset}"] if self.report else [])


def choose(params: Params, targets: Sequence[str]) -> list[Chosen]:
    """Return what `targets` name: data sets, DVC's stages, and in these * for anything; none at all: the whole study.

    Raises UserError where there is no such thing, or params.yaml does not say all of a data set.
    """
    found: dict[str, Chosen] = {}
    for target in targets or params.study.datasets:
        if "@" in target:
            _choose_stages(params, target, found)
        else:
            find_dataset(target)
            if target not in params.study.datasets:
                raise ParamsError(f"{target}: not in study.datasets ({paths.PARAMS}); add it there first")
            _choose_all(params, found.setdefault(target, Chosen(target)))
    for dataset in found:
        require_source(dataset)
        require_written(paths.PARAMS, dataset)
    return list(found.values())


def _choose_all(params: Params, chosen: Chosen) -> None:
    chosen.probe = chosen.report = True
    chosen.trainings |= dict.fromkeys(params.keys(chosen.dataset), True)


def _choose_stages(params: Params, pattern: str, found: dict[str, Chosen]) -> None:
    """Add what stages of that name need, for each data set that has some."""
    matched = False
    for dataset in params.study.datasets:
        whole = Chosen(dataset)
        _choose_all(params, whole)
        names = {name for name in whole.stages if fnmatchcase(name, pattern)}
        if not names:
            continue
        matched, chosen = True, found.setdefault(dataset, Chosen(dataset))
        if f"report@{dataset}" in names:
            _choose_all(params, chosen)
        chosen.probe |= f"probe@{dataset}" in names
        for key in whole.trainings:
            looked_at = paths.evaluation(key) in names
            if looked_at or paths.stage(key) in names:
                chosen.trainings[key] = looked_at or chosen.trainings.get(key, False)
    if not matched:
        raise UserError(
            f"{pattern}: no stage of the study is called so; `dvc stage list` names them all, for instance "
            f"report@{params.study.datasets[0]}"
        )
