"""The study in a notebook, read-only: its numbers as pandas frames, its networks by name, trained or not.

All of it is at hand as ``resblock.…`` after ``import resblock``. Frames come from files in git, by the code that draws
the report's page. Whatever is missing, or is not what params.yaml asks for, is said in one line (`UserError`).
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import chdir, contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from resblock import paths
from resblock.core.errors import OtherThreadsError, UserError
from resblock.core.files import read_json
from resblock.core.recipe import BASE, Recipe
from resblock.core.spec import RunKey
from resblock.core.splits import DESCRIPTION, DatasetDescription, mean_image, read_description, read_verified
from resblock.core.training.run import EpochRow, is_there, read_run
from resblock.damage import damage
from resblock.evaluation.score import HEADLINE, STATISTICS, Score, Statistics
from resblock.params import parse_variant, read_params
from resblock.report.material import Material, read_numbers, recorded
from resblock.report.sections.comparison import gaps_frame
from resblock.report.words.verdicts import verdict_frame, verdicts_on
from resblock.stages.asked import asked, refuse_what_no_study_has, training_of, with_statistics_of_evaluation
from resblock.startup import start_keras
from resblock.study.comparison import compare
from resblock.study.efficiency import Curves
from resblock.study.summary import Study
from resblock.tracking.result import TRAIN_RUNS as TRAIN_RUNS  # for mlflow.search_runs

if TYPE_CHECKING:
    from resblock.core.model.network import Network


@dataclass(frozen=True, repr=False)
class StudyFrames:
    """One data set's study as pandas frames.

    Accuracies are fractions in [0, 1], losses mean cross-entropies in nats. Names that end in ``_reestimated`` are of
    batch-norm statistics re-estimated on training images, the headline everywhere; the others are of statistics as
    trained. What is not known is NaN. Each frame is made when it is first asked for.
    """

    material: Material  # what the report's page is drawn from

    @cached_property
    def scores(self) -> pd.DataFrame:
        """A row per training by the data set's own recipe, at its last epoch.

        ``recipe`` (``base``), ``variant``, ``family``, ``depth`` (weight layers), ``seed``; ``status`` is finished,
        diverged, missing (not here, or not evaluated) or foreign (here, but not what params.yaml asks for), and figures
        are NaN unless it is finished. They are ``train_loss``, ``train_accuracy``, ``validation_loss``,
        ``validation_accuracy``, ``test_loss``, ``test_accuracy`` as trained, and ``train_loss_reestimated``,
        ``train_accuracy_reestimated``, ``validation_loss_reestimated``, ``validation_accuracy_reestimated``,
        ``test_loss_reestimated``, ``test_accuracy_reestimated``. All are taken on images as they are.
        """
        return _scores({BASE: self.material.study})

    @cached_property
    def curves(self) -> pd.DataFrame:
        """A row per training and epoch, of trainings by the data set's own recipe that are what params.yaml asks for.

        ``recipe`` (``base``), ``variant``, ``seed``, ``epoch`` (from 1), ``learning_rate`` (at the epoch's last step).
        ``loss`` and ``accuracy`` average over the epoch while the weights move, on augmented images. All others are
        taken at its end on images as they are: ``validation_loss`` and ``validation_accuracy`` as trained,
        ``validation_loss_reestimated`` and ``validation_accuracy_reestimated``, ``train_loss_reestimated`` and
        ``train_accuracy_reestimated`` (on a sample of the training images).
        """
        return _curves({BASE: self.material.curves})

    @cached_property
    def ablation_scores(self) -> pd.DataFrame:
        """The same as `scores` of trainings by other recipes; one of which nothing is here has no rows."""
        return _scores({name: ablated.study for name, ablated in self.material.ablations.items()})

    @cached_property
    def ablation_curves(self) -> pd.DataFrame:
        """The same as `curves` of trainings by other recipes."""
        return _curves(self.material.other_curves)

    @cached_property
    def gaps(self) -> pd.DataFrame:
        """A row per pair of twins and accuracy: residual minus plain, paired by seed, a fraction (0.01 is a point).

        ``twins`` (the name without the family, for instance 20), ``metric``, ``seeds`` (pairs), ``mean``, its paired
        95 % t-interval ``t_low`` to ``t_high`` and bootstrap interval ``bootstrap_low`` to ``bootstrap_high``; ``p`` of
        the paired t-test and ``p_holm``, adjusted over its family (twins with modifiers, and each kind of statistics,
        are families of their own); ``detectable``, the smallest true gap that so many seeds find four times in five;
        ``seeds_needed`` to find one as large as ``mean`` (NaN: out of reach); ``decision`` (residual better, plain
        better, undecided); ``remarks`` on trainings that diverged, which count at chance, or are left out.
        """
        study = self.material.study
        kinds = sorted(STATISTICS, key=lambda kind: kind != HEADLINE)
        families = [compare(study, kind, modified=modified) for modified in (False, True) for kind in kinds]
        return gaps_frame(study, [comparison for family in families for comparison in family])

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """A row per claim, and what this study says to it.

        ``claim`` (its name), ``statement``, ``source``, ``measured`` (how), ``compared`` (which networks or recipes);
        ``mean``, ``low`` and ``high`` of its 95 % interval, above zero where the claim is right, and ``margin``, the
        smallest effect that matters. These four are in stored units: ``unit`` is points (stored as fractions: 0.01 is a
        point), epochs, decades (powers of ten) or cosine. ``networks`` and ``seeds`` that it rests on; ``remarks``;
        ``verdict`` (supported, refuted, undecided, not measured in this study), ``kind`` (how it is refuted); ``p``,
        ``p_holm`` (over all claims) and ``survives_holm``; ``advice``: what would decide it.
        """
        return verdict_frame(verdicts_on(self.material))

    @property
    def remarks(self) -> list[str]:
        """Which trainings that are here have no figures, and why; and in what the others were not made alike."""
        return [*self.material.left_out, *self.material.mixtures]

    def __repr__(self) -> str:
        statuses = [*self.scores["status"], *self.ablation_scores["status"]]
        counts = ", ".join(f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses))
        return "\n".join([f"{self.material.dataset.name}: {len(statuses)} trainings, {counts}", *self.remarks])


def read_study(dataset: str, *, root: Path | str | None = None) -> StudyFrames:
    """Return the study on `dataset` as frames: ``resblock.read_study("digits").gaps``.

    `root` is the project's folder; without it, the nearest one around the working directory that holds params.yaml.
    Files in git are enough: neither images nor DVC's cache are asked for. Raises UserError where a file is missing or
    damaged.
    """
    with _inside(root):
        params = read_params(paths.PARAMS)
        wanted = [asked(params, key) for key in params.keys(dataset)]
        return StudyFrames(read_numbers(_described(dataset), wanted))


def network(
    variant: str, *, dataset: str, seed: int = 0, recipe: str = BASE, root: Path | str | None = None
) -> Network:
    """Return an untrained network by its name, as it starts on `dataset`: ``resblock.network("residual-20", …).model``.

    It has the initial weights of `seed`; ``resblock variants`` lists names. Its ``model`` is a Keras model that takes
    raw images, uint8 (batch, height, width, channel), and gives logits, float32 (batch, class); ``parameters``,
    ``multiply_adds`` and ``parts`` tell of it. `root` as in `read_study`. Raises UserError for an unknown name, and for
    a recipe that centres images where no images are here.
    """
    key = _key(dataset, variant, seed, recipe)
    with _inside(root):
        chosen = read_params(paths.PARAMS).recipe(dataset, recipe)
        described, mean = _described(dataset), _mean(dataset, chosen)
        _start(chosen)
        from resblock.core.model.network import build_network  # Keras, quiet by now

        classes = len(described.classes)
        return build_network(key.spec, described.image_shape, classes, chosen, key.seed, mean=mean)


def trained(
    variant: str,
    *,
    dataset: str,
    seed: int = 0,
    recipe: str = BASE,
    statistics: Statistics = HEADLINE,
    root: Path | str | None = None,
) -> Network:
    """Return a network with the weights of its training: ``resblock.trained("residual-20", dataset="digits")``.

    With batch-norm `statistics` ``reestimated``, as published, or ``trained``. The rest as in `network`. Weights and
    re-estimated statistics are kept by DVC: UserError says which command brings what is missing. It is raised, too,
    where the training is not what params.yaml asks for.
    """
    if statistics not in STATISTICS:
        raise UserError(f"statistics: got {statistics!r}, must be one of {', '.join(STATISTICS)}")
    key = _key(dataset, variant, seed, recipe)
    with _inside(root):
        params = read_params(paths.PARAMS)
        wanted = asked(params, key)
        if not is_there(paths.run(key)):
            refuse_what_no_study_has(params, key)
        training_of(wanted)
        run = read_run(paths.run(key))
        if statistics == "reestimated" and key.spec.normalized:
            run = with_statistics_of_evaluation(run, key)
        _start(wanted.recipe)
        from resblock.core.training.fit import trained_network  # Keras, quiet by now

        return trained_network(run, _described(dataset))


def _key(dataset: str, variant: str, seed: int, recipe: str) -> RunKey:
    try:
        return RunKey(dataset, parse_variant(variant), seed, recipe)
    except ValueError as error:
        raise UserError(str(error)) from None


@contextmanager
def _inside(root: Path | str | None) -> Generator[None]:
    """Work in the project's folder, to which all places are relative; name in one line a file that is damaged."""
    with chdir(_project(root)):
        try:
            yield
        except Exception as error:
            if words := damage(error):
                raise UserError(words) from error
            raise


def _project(root: Path | str | None) -> Path:
    here = Path.cwd()
    around = [Path(root).expanduser()] if root is not None else [here, *here.parents]
    for folder in around:
        if (folder / paths.PARAMS).is_file():
            return folder
    looked = f"{root}: holds no" if root is not None else f"{here}: neither here nor above is a"
    raise UserError(f"{looked} {paths.PARAMS}; name the folder of a resblock project as root=")


def _described(dataset: str) -> DatasetDescription:
    """Return what the splits are, by themselves or, where they are not here, by what git holds of them."""
    splits, manifest = paths.splits(dataset), paths.manifest("preprocess", dataset)
    if (splits / DESCRIPTION).is_file():
        return read_description(splits)
    if not manifest.is_file():
        raise UserError(f"{manifest}: is not here; `dvc repro preprocess@{dataset}` makes it")
    return recorded(dataset, read_json(manifest))


def _mean(dataset: str, recipe: Recipe) -> np.ndarray | None:
    """Return what a recipe subtracts from images, float64 (height, width, channel); None where that is nothing."""
    if recipe.center == "none":
        return None
    splits = paths.splits(dataset)
    return mean_image(read_verified(splits, read_description(splits), "train").images)


def _start(recipe: Recipe) -> None:
    """Bring Keras up as a training does; where a cell has used it before, other threads may change last bits."""
    with suppress(OtherThreadsError, RuntimeError):  # the latter is TensorFlow's
        start_keras(recipe.threads, to_stay=False)


def _scores(by_recipe: Mapping[str, Study]) -> pd.DataFrame:
    rows = [{"recipe": name, **asdict(score)} for name, study in by_recipe.items() for score in study.scores]
    return _frame(rows, "recipe", *(field.name for field in fields(Score)))


def _curves(by_recipe: Mapping[str, Curves]) -> pd.DataFrame:
    rows = [
        {"recipe": name, "variant": spec.name, "seed": seed, **asdict(row)}
        for name, curves in by_recipe.items()
        for spec, seeds in curves.items()
        for seed, curve in seeds.items()
        for row in curve
    ]
    return _frame(rows, "recipe", "variant", "seed", *(field.name for field in fields(EpochRow)))


def _frame(rows: Sequence[Mapping[str, Any]], *columns: str) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(columns))  # pyright: ignore[reportArgumentType]
