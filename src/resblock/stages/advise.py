"""The advice on a data set, from the scores and costs that are here: not a stage, but what one asks for in the end."""

from __future__ import annotations

from collections.abc import Iterator

from resblock import paths
from resblock.core.errors import UserError
from resblock.core.files import read_json
from resblock.core.spec import ModelSpec
from resblock.core.splits import DESCRIPTION, DatasetDescription, read_description
from resblock.core.training.run import MANIFEST, Cost
from resblock.costs import own_first
from resblock.evaluation.score import SCORES, read_scores
from resblock.params import read_params
from resblock.report.material import recorded
from resblock.stages.asked import refuse_what_is_not_studied
from resblock.study.advice import Circumstances, advise
from resblock.study.champion import champion
from resblock.study.summary import Study


def run(dataset: str) -> Iterator[str]:
    """Yield the advice in sentences. Raises UserError where nothing was scored or nothing is known of the data."""
    folder = paths.report(dataset)
    params = read_params(paths.PARAMS)
    if not (folder / SCORES).is_file():
        refuse_what_is_not_studied(params, dataset)
        raise UserError(f"{folder / SCORES}: is not here; `resblock run {dataset}` makes it")
    described = _described(dataset)
    costs: dict[ModelSpec, dict[int, Cost]] = {}
    for key in params.study.keys(dataset):
        manifest = paths.run(key) / MANIFEST
        if manifest.is_file() and (taken := own_first(key, read_json(manifest))):
            costs.setdefault(key.spec, {})[key.seed] = taken.cost
    circumstances = Circumstances(
        described.image_shape, described.sizes["validation"], params.recipe(dataset).batch_size
    )
    scores = tuple(read_scores(folder))
    study = Study(dataset, scores, classes=len(described.classes), sizes=described.sizes)
    advice = advise(study, costs, circumstances)
    if advice is None:
        raise UserError(f"no training on {dataset} has finished; `resblock run {dataset}` trains")
    first, *others = advice.sentences()
    yield first
    best = champion(study)
    if best and not advice.too_few and best.winner.spec != advice.choice.spec:
        yield (
            f"The champion, whom `resblock predict` asks and the report crowns, is {best.winner.spec}: the highest "
            "validation accuracy, by however little. The advice prefers fewer layers within noise of it."
        )
    yield from others


def _described(dataset: str) -> DatasetDescription:
    """Return what the splits are; in a clone, what git holds of them."""
    splits, manifest = paths.splits(dataset), paths.manifest("preprocess", dataset)
    if (splits / DESCRIPTION).is_file() or not manifest.is_file():
        return read_description(splits)
    return recorded(dataset, read_json(manifest))
