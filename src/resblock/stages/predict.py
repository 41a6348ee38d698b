"""What a trained network sees in pictures: not a stage of the pipeline, but the use of its results."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from resblock import paths
from resblock.core.errors import UserError
from resblock.core.files import read_json
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.splits import DESCRIPTION, DatasetDescription, read_description, read_split
from resblock.core.training.run import MANIFEST, WEIGHTS, Run, read_run
from resblock.evaluation.identity import foreign
from resblock.evaluation.score import SCORES, Score, read_scores
from resblock.evaluation.statistics import STATISTICS_FILE, normalizing_by, read_statistics
from resblock.params import read_params
from resblock.serving.pictures import PictureError, looks_inverted, read_picture
from resblock.stages.asked import asked, refuse_what_no_study_has, require, with_statistics_of_evaluation
from resblock.stages.manifests import training_key
from resblock.stages.terminal import warn
from resblock.startup import start_keras
from resblock.study.champion import best_seed, champion
from resblock.study.summary import Study

if TYPE_CHECKING:
    from resblock.serving.classifier import Prediction

STANDARD_INPUT = Path("-")
EXAMPLES = 50  # images that show what background a data set's pictures have


@dataclass(frozen=True)
class Choice:
    """Which network is asked. What is None, the results decide."""

    dataset: str | None = None
    spec: ModelSpec | None = None
    seed: int | None = None
    model_uri: str | None = None


@dataclass(frozen=True)
class _Trained:
    """A network's files, read."""

    run: Run  # with batch-norm statistics re-estimated, where they are known
    dataset: DatasetDescription
    examples: np.ndarray  # of the data set, uint8 (n, height, width, channel)

    @property
    def model(self) -> dict[str, Any]:
        """What identifies the network."""
        return {name: self.run.manifest[name] for name in ("dataset", "variant", "seed", "key")}


def run(pictures: Sequence[Path], choice: Choice, *, top: int | None, invert: bool, as_json: bool) -> bool:
    """Print what the chosen network sees in each of `pictures`; return whether all could be read.

    Without a choice it is the champion of the first data set of the study that has results. Files that cannot be read
    are told of on the error stream, the others are answered.
    """
    trained = _trained(choice)
    read, problems = _read(pictures, trained, invert=invert)
    predictions = _predict(trained, read)
    if as_json:
        _print_json(trained, pictures, predictions, problems, top)
    else:
        _print_table(trained, predictions, top or 1)
    for picture, problem in problems.items():
        print(f"resblock: {picture}: {problem}", file=sys.stderr)
    return not problems


def _trained(choice: Choice) -> _Trained:
    if choice.model_uri is not None:
        from resblock.tracking.models import download_model

        with tempfile.TemporaryDirectory() as scratch:
            folder, examples = download_model(choice.model_uri, Path(scratch))
            return _Trained(_as_served(choice.model_uri, folder), read_description(folder), examples)
    key = _key(choice)
    folder, scores, splits = paths.run(key), paths.scores(key), paths.splits(key.dataset)
    for path, stage in (
        (folder / MANIFEST, paths.stage(key)),
        (folder / WEIGHTS, paths.stage(key)),
        (scores / MANIFEST, paths.evaluation(key)),
        (scores / STATISTICS_FILE, paths.evaluation(key)),
        (splits / DESCRIPTION, f"preprocess@{key.dataset}"),
    ):
        if not path.is_file():
            refuse_what_no_study_has(read_params(paths.PARAMS), key)
        require(path, stage)
    run = read_run(folder)
    answering = with_statistics_of_evaluation(run, key)
    if reason := foreign({**run.manifest, "status": run.status}, asked(read_params(paths.PARAMS), key)):
        warn(f"{key}: not what {paths.PARAMS} asks for: {reason}")
    if choice.seed is None or choice.spec is None:
        _compare_with_scores(key, run.manifest["key"])
    examples = read_split(splits, "validation").images[:EXAMPLES]
    return _Trained(answering, read_description(splits), examples)


def _as_served(uri: str, folder: Path) -> Run:
    """Return the network of a model that MLflow keeps, with the statistics that came with it."""
    run = read_run(folder)
    if (folder / STATISTICS_FILE).is_file():
        return normalizing_by(read_statistics(folder), run)
    warn(f"{uri}: logged by an earlier version, without re-estimated statistics; it answers with those as trained")
    return run


def _key(choice: Choice) -> RunKey:
    """Return the training that `choice` means, by the scores that `report` has gathered."""
    dataset = choice.dataset or _first_evaluated()
    if choice.spec and choice.seed is not None:
        return RunKey(dataset, choice.spec, choice.seed)
    folder = paths.report(dataset)
    if not (folder / SCORES).is_file():
        raise UserError(
            f"{folder / SCORES}: is not here, so no network is known to be the best; "
            f"`resblock report {dataset}` looks at what is trained, or name one with --variant and --seed"
        )
    scores = read_scores(folder)
    wanted = [score for score in scores if choice.seed in (None, score.seed) and choice.spec in (None, score.spec)]
    best = _best(dataset, wanted, choice)
    if best is None:
        raise UserError(
            f"no training on {dataset} that was asked for has finished; "
            f"finished are {'; '.join(_finished(scores)) or 'none'}"
        )
    return RunKey(dataset, best.spec, best.seed)


def _compare_with_scores(key: RunKey, result: str) -> None:
    """Warn where the scores that chose `key` are not those of the result that is here."""
    reported = paths.manifest("report", key.dataset)
    if reported.is_file() and read_json(reported)["runs"].get(paths.stage(key)) != result:
        warn(f"{key}: was trained anew after it was chosen; `dvc repro report@{key.dataset}` may choose another")


def _best(dataset: str, scores: Sequence[Score], choice: Choice) -> Score | None:
    """Return the best seed of a named network, or the champion, among `scores`."""
    if choice.spec:
        return best_seed(scores) if any(score.status == "finished" for score in scores) else None
    best = champion(Study(dataset, tuple(scores)))
    return best.score if best else None


def _finished(scores: Sequence[Score]) -> list[str]:
    """Return the finished trainings, the networks of the same seeds together."""
    seeds: dict[str, list[str]] = {}
    for score in scores:
        if score.status == "finished":
            seeds.setdefault(score.variant, []).append(str(score.seed))
    alike: dict[str, list[str]] = {}
    for variant, those in seeds.items():
        alike.setdefault(", ".join(those), []).append(variant)
    return [f"{', '.join(variants)} with seed {those}" for those, variants in alike.items()]


def _first_evaluated() -> str:
    datasets = read_params(paths.PARAMS).study.datasets
    for dataset in datasets:
        if (paths.report(dataset) / SCORES).is_file():
            return dataset
    raise UserError(f"nothing has been evaluated yet; run `resblock run {datasets[0]}` first")


def _read(
    pictures: Sequence[Path], trained: _Trained, *, invert: bool
) -> tuple[dict[Path, np.ndarray], dict[Path, str]]:
    """Read the pictures; return images by file, and what is wrong with the others."""
    images: dict[Path, np.ndarray] = {}
    problems: dict[Path, str] = {}
    for picture in pictures:
        try:
            source = BytesIO(sys.stdin.buffer.read()) if picture == STANDARD_INPUT else picture
            images[picture] = read_picture(source, trained.dataset.image_shape, invert=invert)
        except PictureError as error:
            problems[picture] = str(error)
            continue
        if looks_inverted(images[picture], trained.examples):
            wanted = "as it is, without --invert" if invert else "with --invert"
            warn(f"{picture}: its background is unlike that of {trained.dataset.name}; try it {wanted}")
    return images, problems


def _predict(trained: _Trained, images: dict[Path, np.ndarray]) -> dict[Path, Prediction]:
    if not images:
        return {}
    start_keras(trained.run.manifest["threads"])
    from resblock.serving.classifier import load_classifier  # Keras, quiet by now

    try:
        classifier = load_classifier(trained.run, trained.dataset)
    except ValueError as error:
        raise UserError(
            f"{paths.stage(training_key(trained.run.manifest))}: {error}; train it again, or use the code it came from"
        ) from None
    return dict(zip(images, classifier.predict(np.stack(list(images.values()))), strict=True))


def _print_json(
    trained: _Trained,
    pictures: Sequence[Path],
    predictions: dict[Path, Prediction],
    problems: dict[Path, str],
    top: int | None,
) -> None:
    rows = [
        {"file": str(picture), "error": problems[picture]}
        if picture in problems
        else {"file": str(picture), **predictions[picture].tree(top)}
        for picture in pictures
    ]
    print(json.dumps({"model": trained.model, "predictions": rows}, indent=2, ensure_ascii=False))


def _print_table(trained: _Trained, predictions: dict[Path, Prediction], top: int) -> None:
    """Print a table on a terminal, and elsewhere lines of file, class and probability between tabs."""
    rows = [
        (str(picture), name, f"{probability:.4f}")
        for picture, prediction in predictions.items()
        for name, probability in prediction.top(top).items()
    ]
    console = Console()
    if not console.is_terminal:
        for row in rows:
            print("\t".join(row))
        return
    model = trained.model
    table = Table(title=f"{model['variant']}, seed {model['seed']}, on {model['dataset']}", title_justify="left")
    table.add_column("picture", overflow="fold")
    table.add_column("class")
    table.add_column("probability", justify="right")
    before = ""
    for picture, name, probability in rows:  # each picture is named once; a name may look like markup
        table.add_row(Text(picture if picture != before else ""), Text(name), probability)
        before = picture
    if rows:
        console.print(table)
