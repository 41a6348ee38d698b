"""Is a published number real? Trainings done again here, and compared with what git and DVC hold of them."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from fnmatch import filter as matching
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from resblock import paths
from resblock.core.errors import OtherThreadsError, UserError
from resblock.core.files import read_json
from resblock.core.recipe import BASE
from resblock.core.spec import RunKey
from resblock.core.splits import read_description
from resblock.core.training.job import Workshop
from resblock.core.training.run import MANIFEST
from resblock.damage import damage
from resblock.params import read_params
from resblock.running.accept import accept, is_stale, refuse_others
from resblock.running.dvc import Dvc
from resblock.running.repeat import Repeat, first_difference, repeat, unlike
from resblock.stages.manifests import training_key
from resblock.stages.results import DAMAGED, datasets_with_results
from resblock.stages.terminal import say
from resblock.stages.weights import weights_digest


def verify(targets: Sequence[str], workshop: Workshop, *, epochs: int | None = None, record: bool = False) -> bool:
    """Train `targets` again, to the end or so many epochs, say where each first differs, and return whether none does.

    A target is what DVC calls a training, and ``*`` in it stands for anything; without one it is one seed of each
    network and recipe on the study's first data set with results. With `record`, the new code is recorded for
    those that only code made stale and that came out equal; one that cannot be accepted counts as different.
    """
    chosen = _choose(targets)
    judge = partial(is_stale, changed=_changed(), params=read_params(paths.PARAMS)) if record else None
    good = [_verify(name, key, workshop, epochs, judge) for name, key in chosen.items()]
    if len(good) > 1:
        say(f"{sum(good)} of {len(good)} {'recorded or up to date' if record else 'came out equal'}")
    return all(good)


def _changed() -> Mapping[str, Any]:
    with Dvc(os.environ) as dvc:
        return dvc.changed()


def published_trainings() -> dict[str, RunKey]:
    """Return every training whose results are here by the name that DVC has for it, data set by data set."""
    found: dict[str, RunKey] = {}
    for dataset in datasets_with_results():
        for path in paths.manifests(dataset):
            try:
                manifest = read_json(path)
                if manifest["stage"] != "train":
                    continue
                key = training_key(manifest)
            except DAMAGED as error:
                what = f"{path}: damaged, or another version's; `git restore {path}` brings it back"
                raise UserError(damage(error) or what) from None
            if path.parent != paths.run(key):
                raise UserError(f"{path}: says that it is {paths.stage(key)}, which belongs in {paths.run(key)}")
            found[paths.stage(key)] = key
    return found


def _choose(targets: Sequence[str]) -> dict[str, RunKey]:
    known = published_trainings()
    if not known:
        raise UserError("no trainings are here; `git pull` brings those of others, `resblock run digits` makes some")
    if not targets:
        return _one_each(known)
    chosen: dict[str, RunKey] = {}
    for target in targets:
        names = matching(known, target)
        if not names:
            near = difflib.get_close_matches(target, known, n=1) or list(known)[:1]
            raise UserError(
                f"{target}: there is no such training here; did you mean {near[0]}? All of a data set's are "
                f"'train@{known[near[0]].dataset}-*'"
            )
        chosen |= {name: known[name] for name in names}
    return chosen


def _one_each(known: Mapping[str, RunKey]) -> dict[str, RunKey]:
    """Return the first seed of each network and recipe on the first data set, its own recipe first."""
    first = next(iter(known.values())).dataset
    chosen: dict[tuple[str, str], tuple[str, RunKey]] = {}
    ordered = sorted(known.items(), key=lambda pair: (pair[1].recipe != BASE, pair[1].recipe, pair[1].seed))
    for name, key in ordered:
        if key.dataset == first:
            chosen.setdefault((key.recipe, key.spec.name), (name, key))
    return dict(sorted(chosen.values(), key=lambda pair: (pair[1].recipe != BASE, pair[1].recipe, pair[1].spec.depth)))


# Whether code alone made a training stale; raises UserError where something else did.
Judge = Callable[[RunKey, Mapping[str, Any]], bool]


def _verify(name: str, key: RunKey, workshop: Workshop, epochs: int | None, judge: Judge | None) -> bool:
    """Train one again and say what came out; return whether it is equal, and recorded where that was asked for."""
    published = read_json(paths.run(key) / MANIFEST)
    try:
        if judge and not judge(key, published):
            say(f"{name}: up to date, nothing to record")
            return True
        _same_images(key, published)
        check = partial(refuse_others, published) if judge else lambda _: None
        with TemporaryDirectory(prefix="resblock-verify-") as scratch:
            again = repeat(key, published, Path(scratch), workshop, epochs=epochs, check=check)
            weights = weights_digest(key)
            difference = first_difference(paths.run(key), again, weights)
            compared = _compared(again, weights)
            if difference is None and judge:
                accept(key, published, again, weights=again.whole and weights is not None)
    except OtherThreadsError as error:
        raise UserError(f"{name}: {error}; verify it by a command of its own") from None
    except UserError as error:
        say(f"{name}: {'not accepted' if judge else 'not verified'}: {error}")
        return False
    if difference:
        say(f"{name}: DIFFERS in {difference}")
    else:
        say(f"{name}: {'equal and recorded' if judge else 'equal'}: {compared}")
    for _, words in unlike(published, again.manifest):
        say(f"  {words}")
    return difference is None


def _same_images(key: RunKey, published: Mapping[str, Any]) -> None:
    """Raise UserError where the splits are not here, or other images than the training saw."""
    here = read_description(paths.splits(key.dataset)).digest
    if words := unlike({"data": published["data"]}, {"data": here}):
        raise UserError(f"other images lie in {paths.splits(key.dataset)} ({words[0][1]})")


def _compared(again: Repeat, weights: str | None) -> str:
    if not again.whole:
        return f"curve and gradient norms of the first {again.epochs} epoch{'s' if again.epochs > 1 else ''}"
    left_out = "" if weights else "; not the weights, of which neither file nor digest is here"
    return f"all {again.epochs} epochs, gradient norms, metrics{'' if left_out else ' and weights'}{left_out}"
