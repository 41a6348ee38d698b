"""One training from its splits to its files, wherever it runs, and several that share what is compiled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from resblock.core.errors import UserError
from resblock.core.recipe import Recipe
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.splits import Split, SplitName
from resblock.core.training.checkpoint import Checkpoint
from resblock.core.training.job import Job, Workshop
from resblock.core.training.run import Cost, EpochRow, Run, is_there, read_cost, read_run
from resblock.core.training.watcher import Nobody
from resblock.data.splits import write_splits

MakeRecipe = Callable[..., Recipe]
CLASSES = tuple("0123456789")


@pytest.fixture(scope="module")
def splits(few_digits: dict[SplitName, Split], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("splits")
    write_splits(folder, few_digits, name="digits", classes=CLASSES, source="scikit-learn")
    return folder


@pytest.fixture
def recipe(make_recipe: MakeRecipe) -> Recipe:
    """A recipe in which all that is random and all that moves matters."""
    choices: dict[str, Any] = {"optimizer": "adam", "schedule": "cosine", "horizontal_flip": True, "crop_padding": 1}
    return make_recipe(**choices, gradient_epochs=[0, 1, 2])


def job_in(root: Path, splits: Path, recipe: Recipe, variant: str = "residual-8-sd", seed: int = 0) -> Job:
    """Return the training of a seed, whose files lie together below `root`."""
    return Job(
        key=RunKey("digits", ModelSpec.parse(variant), seed, "no-flip"),
        recipe=recipe,
        splits=splits,
        results=root / f"{variant}-{seed}",
        cost=root / f"{variant}-{seed}.json",
        checkpoints=root / "checkpoints",
    )


def files(job: Job) -> dict[str, bytes]:
    """Return all that must be equal in every repeat."""
    return {path.name: path.read_bytes() for path in job.results.iterdir()}


def forbidden(_: int) -> int:
    """Stand in for the start of Keras, where nothing may wait for that."""
    pytest.fail("Keras was started")


# What a machine is told.


def test_a_job_comes_back_from_json(tmp_path: Path, recipe: Recipe) -> None:
    job = job_in(tmp_path, Path("data/splits/digits"), recipe, seed=2**32 - 1)
    tree = json.loads(json.dumps(job.tree()))
    assert tree == job.tree()
    assert tree["recipe"] == json.loads(json.dumps(recipe.tree()))
    assert Job.from_tree(tree) == job


@pytest.mark.parametrize(
    "name",
    ["dataset", "variant", "seed", "recipe_name", "recipe", "splits", "results", "cost", "checkpoints"],
)
def test_what_a_job_does_not_say_is_named(name: str, tmp_path: Path, recipe: Recipe) -> None:
    tree = job_in(tmp_path, tmp_path, recipe).tree()
    del tree[name]
    with pytest.raises(UserError, match=rf"a job says nothing of {name}; write it anew with `resblock jobs`"):
        Job.from_tree(tree)


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("variant", "residual-9", "nearest: residual-8 and residual-14"),
        ("variant", 8, "not a job"),
        ("seed", 2**32, r"\[0, 2\^32\)"),
        ("seed", "first", "not a job"),
        ("splits", None, "not a job"),
        ("recipe", [1, 2], "unknown key 1"),
        ("recipe", {}, "says nothing of epochs"),
        ("recipe", None, "not a job"),
    ],
)
def test_a_damaged_job_is_told_in_words(name: str, value: Any, word: str, tmp_path: Path, recipe: Recipe) -> None:
    with pytest.raises(UserError, match=word):
        Job.from_tree({**job_in(tmp_path, tmp_path, recipe).tree(), name: value})


@pytest.mark.parametrize("tree", [[], "residual-8", None, 3])
def test_what_is_no_job_at_all_is_told_in_words(tree: Any) -> None:
    with pytest.raises(UserError, match=r"not a job .*`resblock jobs`"):
        Job.from_tree(tree)


# What is checked before Keras starts, which takes seconds.


def test_missing_splits_are_named_before_keras_starts(tmp_path: Path, recipe: Recipe) -> None:
    job = job_in(tmp_path, tmp_path / "nowhere", recipe)
    with pytest.raises(UserError, match=r"nowhere: no splits there; `dvc repro preprocess@nowhere` makes them"):
        Workshop(forbidden).train(job, Nobody())


def test_a_batch_larger_than_the_training_set_names_its_key_before_keras_starts(
    tmp_path: Path, splits: Path, recipe: Recipe
) -> None:
    job = job_in(tmp_path, splits, replace(recipe, batch_size=251))
    with pytest.raises(UserError, match=r"train\.digits\.batch_size: got 251, must be at most 250, .*\(params\.yaml\)"):
        Workshop(forbidden).train(job, Nobody())


# Training.


def start(threads: int) -> int:
    """Stand in for the start of Keras, which the fixture `backend` has brought up on one thread."""
    assert threads == 1
    return 1


@dataclass
class Witness(Nobody):
    """Notes in which order it is told of what."""

    told: list[str] = field(default_factory=list[str])
    manifests: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    results: list[tuple[Run, Cost]] = field(default_factory=list[tuple[Run, Cost]])

    @contextmanager
    def _open(self) -> Generator[None]:
        self.told.append("open")
        yield
        self.told.append("close")

    def watch(self, manifest: dict[str, Any]) -> AbstractContextManager[Any]:
        self.manifests.append(manifest)
        return self._open()

    def epoch(self, row: EpochRow) -> None:
        self.told.append(f"epoch {row.epoch}")

    def warn(self, message: str) -> None:
        self.told.append(message)

    def written(self, run: Run, cost: Cost) -> None:
        self.told.append("written")
        self.results.append((run, cost))


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch, backend: int) -> list[str]:
    """Count how often steps are compiled: the networks they are compiled for."""
    from resblock.core.backends import backend as chosen

    found: list[str] = []
    kind = type(chosen())
    make = kind.steps

    def steps(self: Any, model: Any, *rest: Any) -> Any:
        found.append(model.name)
        return make(self, model, *rest)

    monkeypatch.setattr(kind, "steps", steps)
    return found


def test_a_job_leaves_its_files_and_tells_so(tmp_path: Path, splits: Path, recipe: Recipe, backend: int) -> None:
    job, witness = job_in(tmp_path, splits, recipe, "cnn-4"), Witness()
    assert not is_there(job.results)
    run = Workshop(start).train(job, witness)
    assert witness.told == ["open", "epoch 1", "epoch 2", "written", "close"]
    assert is_there(job.results)
    found, ((told, cost),) = read_run(job.results), witness.results
    assert found.manifest == run.manifest == told.manifest == witness.manifests[0]
    assert (found.manifest["variant"], found.manifest["seed"], found.manifest["recipe_name"]) == ("cnn-4", 0, "no-flip")
    assert found.manifest["recipe"] == recipe.tree()
    assert list(found.curve) == list(run.curve)
    assert read_cost(job.cost) == cost
    assert not list(job.checkpoints.iterdir())  # what a killed training would need is needed no more


def test_a_persons_keras_json_decides_nothing(tmp_path: Path, splits: Path, recipe: Recipe, backend: int) -> None:
    once = replace(recipe, epochs=1, gradient_epochs=())
    here, there = (
        [job_in(tmp_path / place, splits, once, variant) for variant in ("cnn-4", "plain-8")]
        for place in ("here", "there")
    )
    config = {"image_data_format": "channels_first", "floatx": "float16", "epsilon": 0.1, "backend": "jax"}
    (tmp_path / "keras.json").write_text(json.dumps(config))
    (tmp_path / "jobs.json").write_text(json.dumps([job.tree() for job in there]))
    command = [sys.executable, "-m", "resblock.core", tmp_path / "jobs.json"]
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    subprocess.run(command, env={**environment, "KERAS_HOME": str(tmp_path)}, check=True, stdout=subprocess.DEVNULL)
    workshop = Workshop(start)
    for ours, theirs in zip(here, there, strict=True):
        workshop.train(ours, Nobody())
        assert files(ours) == files(theirs)  # the key is in the manifest


def test_a_diverged_job_is_told_and_recorded(tmp_path: Path, splits: Path, recipe: Recipe, backend: int) -> None:
    job, witness = job_in(tmp_path, splits, replace(recipe, optimizer="sgd", learning_rate=1e30)), Witness()
    run = Workshop(start).train(job, witness)
    assert run.status == read_run(job.results).status == "diverged"
    assert witness.told[-3:] == [f"{job.key}: diverged in epoch {len(run.curve)}; recorded as such", "written", "close"]


def test_seeds_that_share_a_compiled_step_give_what_separate_trainings_give(
    tmp_path: Path, splits: Path, recipe: Recipe, compiled: list[str]
) -> None:
    together = Workshop(start)
    for seed in (0, 1):
        together.train(job_in(tmp_path / "together", splits, recipe, seed=seed), Nobody())
    assert compiled == ["residual_8_sd"]
    found = [files(job_in(tmp_path / "together", splits, recipe, seed=seed)) for seed in (0, 1)]
    alone = job_in(tmp_path / "alone", splits, recipe, seed=1)
    Workshop(start).train(alone, Nobody())
    assert len(compiled) == 2
    assert found[1] == files(alone)
    assert found[0]["weights.npz"] != found[1]["weights.npz"]


def test_what_differs_in_more_than_the_seed_is_compiled_anew(
    tmp_path: Path, splits: Path, recipe: Recipe, compiled: list[str]
) -> None:
    workshop, one = Workshop(start), replace(recipe, epochs=1, gradient_epochs=())
    jobs = [job_in(tmp_path / str(number), splits, one, "cnn-4") for number in range(3)]
    jobs[1] = replace(jobs[1], recipe=replace(one, weight_decay=0.1))
    for job in jobs:
        workshop.train(job, Nobody())
    workshop.train(job_in(tmp_path / "w2", splits, one, "cnn-4-w2"), Nobody())
    assert compiled == ["cnn_4"] * 3 + ["cnn_4_w2"]
    assert files(jobs[0]) == files(jobs[2])
    assert files(jobs[0]) != files(jobs[1])


class Killed(BaseException):
    """Stands for the end of the process."""


class Killer(Nobody):
    def epoch(self, row: EpochRow) -> None:
        raise Killed


@dataclass
class Resumed(Nobody):
    epochs: list[int] = field(default_factory=list[int])

    def resumed(self, curve: Any) -> None:
        self.epochs = [row.epoch for row in curve]


def test_a_killed_job_goes_on_and_others_that_share_its_step_do_not_notice(
    tmp_path: Path, splits: Path, recipe: Recipe, backend: int
) -> None:
    whole = job_in(tmp_path / "whole", splits, recipe)
    killed, other = (job_in(tmp_path / "killed", splits, recipe, seed=seed) for seed in (0, 1))
    workshop = Workshop(start)
    workshop.train(whole, Nobody())
    workshop.train(job_in(tmp_path / "whole", splits, recipe, seed=1), Nobody())
    with pytest.raises(Killed):
        workshop.train(killed, Killer())
    assert not is_there(killed.results)
    workshop.train(other, Nobody())
    watcher = Resumed()
    workshop.train(killed, watcher)
    assert watcher.epochs == [1]
    assert files(killed) == files(whole)
    assert files(other) == files(job_in(tmp_path / "whole", splits, recipe, seed=1))


def test_a_job_that_another_process_is_at_is_refused(
    tmp_path: Path, splits: Path, recipe: Recipe, backend: int
) -> None:
    job, witness = job_in(tmp_path, splits, recipe), Witness()
    workshop = Workshop(start)
    with pytest.raises(Killed):
        workshop.train(job, Killer())
    (left,) = job.checkpoints.glob("*.npz")
    with (
        Checkpoint(job.checkpoints, left.stem).held("the other", pytest.fail),
        pytest.raises(UserError, match=rf"{job.key} is being trained already"),
    ):
        workshop.train(job, witness)
    assert witness.told == []
    assert not is_there(job.results)
