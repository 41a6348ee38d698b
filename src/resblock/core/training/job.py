"""One training from its splits to its files: what a DVC stage and a machine without DVC do alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from resblock.core.errors import UserError
from resblock.core.recipe import Recipe
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.splits import DatasetDescription, read_description, read_verified
from resblock.core.training.checkpoint import Checkpoint
from resblock.core.training.run import Run, write_cost, write_run
from resblock.core.training.watcher import Watcher

if TYPE_CHECKING:
    from resblock.core.training.trainer import Trainer


@dataclass(frozen=True)
class Job:
    """What is trained, by what, on what, and where its files go: all that a machine must be told."""

    key: RunKey
    recipe: Recipe
    splits: Path  # folder of the data set's arrays
    results: Path  # folder of the run's files
    cost: Path  # file of what the clock said
    checkpoints: Path  # folder

    def tree(self) -> dict[str, Any]:
        """Return the job as JSON holds it."""
        return {
            "dataset": self.key.dataset,
            "variant": self.key.spec.name,
            "seed": self.key.seed,
            "recipe_name": self.key.recipe,
            "recipe": self.recipe.tree(),
            **{name: str(getattr(self, name)) for name in ("splits", "results", "cost", "checkpoints")},
        }

    @classmethod
    def from_tree(cls, tree: dict[str, Any]) -> Self:
        """Return the job that `tree` returned. Raises UserError where it is none."""
        try:
            key = RunKey(tree["dataset"], ModelSpec.parse(tree["variant"]), int(tree["seed"]), tree["recipe_name"])
            places = {name: Path(tree[name]) for name in ("splits", "results", "cost", "checkpoints")}
            return cls(key, Recipe.from_tree(tree["recipe"]), **places)
        except KeyError as error:
            raise UserError(f"a job says nothing of {error.args[0]}; write it anew with `resblock jobs`") from None
        except (TypeError, ValueError, AttributeError) as error:
            raise UserError(f"not a job ({error}); write it anew with `resblock jobs`") from None


@dataclass
class Workshop:
    """Trains jobs one after the other; those that differ in the seed alone share one compiled step.

    `start_keras` brings Keras up with so many threads and returns their number; all jobs ask for the same.
    """

    start_keras: Callable[[int], int]
    _last: tuple[str, Trainer] | None = field(default=None, init=False)  # and what those share that may use it

    def train(self, job: Job, watcher: Watcher) -> Run:
        """Train `job`, write its files, and return the run; a training that was killed goes on from its last epoch.

        Raises UserError where the splits are missing or do not suit the recipe, or another process is at it.
        """
        dataset = self._describe(job)
        threads = self.start_keras(job.recipe.threads)
        from resblock.core.training.fit import fit  # Keras, now quiet
        from resblock.core.training.manifest import make_manifest

        manifest = make_manifest(job.key, job.recipe, data_digest=dataset.digest, threads=threads)
        checkpoint = Checkpoint(job.checkpoints, manifest["key"])
        job.results.mkdir(parents=True, exist_ok=True)  # better to learn now than after hours that it cannot be
        with checkpoint.held(str(job.key), watcher.warn, job.results), watcher.watch(manifest):
            trainer = self._trainer(job, dataset)
            validation = read_verified(job.splits, dataset, "validation")
            run, cost = fit(trainer, job.key.seed, validation, manifest, checkpoint, threads, watcher)
            write_run(job.results, run)
            write_cost(job.cost, cost)
            if run.status == "diverged":
                watcher.warn(f"{job.key}: diverged in epoch {len(run.curve)}; recorded as such")
            watcher.written(run, cost)
        return run

    def _describe(self, job: Job) -> DatasetDescription:
        """Return what the splits are, if they are there and hold what the recipe asks for."""
        dataset = read_description(job.splits)
        images = dataset.sizes["train"]
        if job.recipe.batch_size > images:
            raise UserError(
                f"train.{job.key.dataset}.batch_size: got {job.recipe.batch_size}, must be at most {images}, "
                "the number of training images (params.yaml)"
            )
        return dataset

    def _trainer(self, job: Job, dataset: DatasetDescription) -> Trainer:
        """Return the trainer of the last job, where this one differs in the seed alone; a new one otherwise."""
        from resblock.core.training.trainer import Trainer

        shared = repr((str(job.splits.resolve()), job.key.spec.name, asdict(job.recipe), dataset.digest))
        if self._last is None or self._last[0] != shared:
            if self._last:
                import keras

                self._last = None
                keras.backend.clear_session()  # each network would stay in memory otherwise
            train = read_verified(job.splits, dataset, "train")
            classes = len(dataset.classes)
            self._last = (shared, Trainer(job.key.spec, train, classes=classes, recipe=job.recipe, seed=job.key.seed))
        return self._last[1]
