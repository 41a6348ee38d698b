"""Trainings: repeatable, resumable, paired, and honest about their ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from resblock.core.errors import UserError
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.splits import Split, SplitName
from resblock.core.training.checkpoint import Checkpoint
from resblock.core.training.fit import Observers, fit
from resblock.core.training.run import METRICS, Cost, EpochRow, Run, read_run, write_run
from resblock.params import Recipe

pytestmark = pytest.mark.usefixtures("backend")

MakeRecipe = Callable[..., Recipe]
MANIFEST = {"stage": "train@digits", "key": "abc"}


@dataclass
class Trainer:
    """Trains on few digits, each training in a folder of its own unless one is named."""

    splits: dict[SplitName, Split]
    make_folder: Callable[[], Path]

    def train(
        self,
        name: str,
        recipe: Recipe,
        *,
        seed: int = 0,
        folder: Path | None = None,
        observers: Observers | None = None,
        new_process: bool = True,
    ) -> tuple[Run, Cost]:
        if new_process:
            keras.utils.clear_session()  # Keras numbers its variables' names through a process
        return fit(
            RunKey("digits", ModelSpec.parse(name), seed),
            self.splits["train"],
            self.splits["validation"],
            classes=10,
            recipe=recipe,
            manifest=MANIFEST,
            checkpoint=Checkpoint(folder or self.make_folder(), "abc"),
            threads=1,
            observers=observers,
        )

    def files(self, run: Run) -> dict[str, bytes]:
        """Return what `run` leaves on disk."""
        folder = self.make_folder()
        write_run(folder, run)
        return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def trainer(few_digits: dict[SplitName, Split], tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    return Trainer(few_digits, lambda: tmp_path_factory.mktemp("training"))


# Everything random and everything that depends on the step.
LIVELY: dict[str, Any] = {
    "epochs": 3,
    "optimizer": "sgd",
    "learning_rate": 0.1,
    "schedule": "onecycle",
    "weight_decay": 1e-4,
    "horizontal_flip": True,
    "vertical_flip": True,
    "crop_padding": 1,
}


@pytest.fixture(scope="module")
def lively(trainer: Trainer, make_recipe: MakeRecipe, backend: int) -> tuple[Run, Cost]:
    """A training of three epochs that nothing interrupts."""
    return trainer.train("residual-8", make_recipe(**LIVELY))


class Killed(BaseException):
    """Stands for the end of the process."""


@dataclass
class Witness:
    """Sees a training's course and may end it."""

    kill_at: tuple[int, int] | None = None  # epoch, step; step 0: when the epoch has been told
    steps: list[tuple[int, int, int]] = field(default_factory=list[tuple[int, int, int]])
    rows: list[EpochRow] = field(default_factory=list[EpochRow])
    resumed: list[list[EpochRow]] = field(default_factory=list[list[EpochRow]])
    warnings: list[str] = field(default_factory=list[str])

    @property
    def observers(self) -> Observers:
        return Observers(self._step, self._epoch, self._resumed, self.warnings.append)

    def _step(self, epoch: int, step: int, steps: int) -> None:
        self.steps.append((epoch, step, steps))
        if (epoch, step) == self.kill_at:
            raise Killed

    def _epoch(self, row: EpochRow) -> None:
        self.rows.append(row)
        if (row.epoch, 0) == self.kill_at:
            raise Killed

    def _resumed(self, curve: Sequence[EpochRow]) -> None:
        self.resumed.append(list(curve))


def test_one_seed_gives_byte_identical_files(
    lively: tuple[Run, Cost], trainer: Trainer, make_recipe: MakeRecipe
) -> None:
    again, _ = trainer.train("residual-8", make_recipe(**LIVELY))
    assert trainer.files(again) == trainer.files(lively[0])


def test_another_seed_gives_another_run(lively: tuple[Run, Cost], trainer: Trainer, make_recipe: MakeRecipe) -> None:
    other, _ = trainer.train("residual-8", make_recipe(**{**LIVELY, "epochs": 1}), seed=1)
    assert other.curve[0].loss != lively[0].curve[0].loss


@pytest.fixture
def single_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each call of the engine take one step, where it would take as many as half a second does."""
    monkeypatch.setattr("resblock.core.training.tensorflow_engine.CALL_SECONDS", 0.0)


@pytest.mark.usefixtures("single_steps")
@pytest.mark.parametrize(
    "kill_at",
    [
        pytest.param((1, 0), id="after 1 epoch"),
        pytest.param((2, 0), id="after 2", marks=pytest.mark.slow),
        pytest.param((3, 2), id="within the 3rd"),
    ],
)
def test_killed_run_resumes_bit_for_bit(
    kill_at: tuple[int, int], lively: tuple[Run, Cost], trainer: Trainer, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = make_recipe(**LIVELY)
    with pytest.raises(Killed):
        trainer.train("residual-8", recipe, folder=tmp_path, observers=Witness(kill_at).observers)
    witness = Witness()
    resumed, cost = trainer.train("residual-8", recipe, folder=tmp_path, observers=witness.observers)
    assert trainer.files(resumed) == trainer.files(lively[0])
    finished = kill_at[0] - (kill_at[1] > 0)
    assert witness.resumed == [list(lively[0].curve[:finished])]
    assert [row.epoch for row in witness.rows] == list(range(finished + 1, 4))
    assert witness.warnings == []
    assert len(cost.epoch_seconds) == 3


@pytest.mark.parametrize("name", ["residual-8-nobn-sd", pytest.param("cnn-4", marks=pytest.mark.slow)])
def test_killed_adam_run_resumes_bit_for_bit(
    name: str, trainer: Trainer, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = make_recipe(schedule="cosine", crop_padding=1)
    whole, _ = trainer.train(name, recipe)
    with pytest.raises(Killed):
        trainer.train(name, recipe, folder=tmp_path, observers=Witness((1, 0)).observers)
    witness = Witness()
    resumed, _ = trainer.train(name, recipe, folder=tmp_path, observers=witness.observers)
    assert len(witness.resumed) == 1
    assert trainer.files(resumed) == trainer.files(whole)


def test_a_training_resumes_in_the_process_that_began_it(
    trainer: Trainer, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    witness = Witness()
    for epochs in (1, 2):
        recipe = make_recipe(epochs=epochs, crop_padding=1)
        trainer.train("cnn-4", recipe, folder=tmp_path, observers=witness.observers, new_process=False)
    assert witness.warnings == []
    assert len(witness.resumed) == 1


def test_a_finished_training_told_again_gives_the_same_run(
    trainer: Trainer, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = make_recipe(epochs=1)
    first, _ = trainer.train("cnn-4", recipe, folder=tmp_path)
    witness = Witness()
    again, _ = trainer.train("cnn-4", recipe, folder=tmp_path, observers=witness.observers)
    assert witness.steps == []
    assert trainer.files(again) == trainer.files(first)


def test_a_checkpoint_of_another_network_is_told_and_not_used(
    trainer: Trainer, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = make_recipe(epochs=1)
    trainer.train("plain-8", recipe, folder=tmp_path)
    witness = Witness()
    run, _ = trainer.train("cnn-4", recipe, folder=tmp_path, observers=witness.observers)
    assert witness.resumed == []
    assert len(witness.warnings) == 1
    assert trainer.files(run) == trainer.files(trainer.train("cnn-4", recipe)[0])


@pytest.mark.usefixtures("single_steps")
def test_observers_see_every_step_and_every_epoch(trainer: Trainer, make_recipe: MakeRecipe) -> None:
    witness = Witness()
    run, _ = trainer.train("cnn-4", make_recipe(), observers=witness.observers)
    assert witness.steps == [(epoch, step, 4) for epoch in (1, 2) for step in (1, 2, 3, 4)]  # 250 images, 64 a step
    assert witness.rows == list(run.curve)
    assert [row.epoch for row in run.curve] == [1, 2]
    assert witness.warnings == []


def test_a_run_carries_its_manifest_and_its_cost(lively: tuple[Run, Cost]) -> None:
    run, cost = lively
    assert run.manifest == MANIFEST
    assert run.status == "finished"
    assert cost.parameters == 97_216 - 21_926 - 9 * 2 * 16  # He et al.'s count for one channel instead of three
    assert sum(array.size for name, array in run.weights.items() if "moving" not in name) == cost.parameters
    assert len(cost.epoch_seconds) == 3
    assert cost.seconds > 0
    assert cost.images_per_second > 250 / max(cost.epoch_seconds)
    assert cost.threads == 1
    assert {"keras", "tensorflow", "numpy"} <= set(cost.versions)


def test_training_lowers_the_loss_on_real_digits(
    digits: dict[SplitName, Split], trainer: Trainer, make_recipe: MakeRecipe
) -> None:
    whole = Trainer(digits, trainer.make_folder)
    run, _ = whole.train("cnn-4", make_recipe(epochs=6))
    losses = [row.loss for row in run.curve]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] < 2 * math.log(10)
    assert run.curve[-1].validation_accuracy > 0.8  # chance: 0.1
    assert run.curve[-1].validation_loss < run.curve[0].validation_loss


def test_reestimated_figures_differ_only_where_there_are_statistics(
    lively: tuple[Run, Cost], trainer: Trainer, make_recipe: MakeRecipe
) -> None:
    baseline, _ = trainer.train("cnn-4", make_recipe(epochs=1))
    for row in baseline.curve:
        assert row.validation_loss == row.validation_loss_reestimated
        assert row.validation_accuracy == row.validation_accuracy_reestimated
    for row in lively[0].curve:
        assert row.validation_loss != row.validation_loss_reestimated


def test_bfloat16_trains_close_to_float32(lively: tuple[Run, Cost], trainer: Trainer, make_recipe: MakeRecipe) -> None:
    mixed, _ = trainer.train("residual-8", make_recipe(**LIVELY, precision="mixed_bfloat16"))
    for row, full in zip(mixed.curve, lively[0].curve, strict=True):
        assert row.loss == pytest.approx(full.loss, rel=0.1)
        assert row.loss != full.loss
    assert {array.dtype for array in mixed.weights.values()} == {np.dtype(np.float32)}


def test_a_diverged_run_is_told_as_one_and_never_as_zero(
    trainer: Trainer, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = make_recipe(epochs=3, optimizer="sgd", learning_rate=1e30)
    run, _ = trainer.train("residual-8", recipe, folder=tmp_path / "checkpoint")
    assert run.status == "diverged"
    assert len(run.curve) < 3
    assert not math.isfinite(run.curve[-1].loss)
    write_run(tmp_path / "run", run)
    found = read_run(tmp_path / "run")
    assert found.status == "diverged"
    assert math.isnan(found.curve[-1].validation_loss)
    assert math.isnan(found.curve[-1].validation_accuracy)
    assert '"validation_accuracy": null' in (tmp_path / "run" / METRICS).read_text()
    again, _ = trainer.train("residual-8", recipe, folder=tmp_path / "checkpoint")
    assert trainer.files(again) == trainer.files(run)


def test_a_batch_larger_than_the_training_set_names_its_key(trainer: Trainer, make_recipe: MakeRecipe) -> None:
    with pytest.raises(UserError, match=r"train\.digits\.batch_size: got 251, must be at most 250, .*\(params\.yaml\)"):
        trainer.train("cnn-4", make_recipe(batch_size=251))


@dataclass
class Recorder:
    """Stands in for the engine: notes what it is shown, and gives each image a loss of 2.5 and a quarter of a hit."""

    batches: list[list[int]] = field(default_factory=list[list[int]])

    def train(self, batches: Sequence[np.ndarray], moved: Callable[[int], None]) -> np.ndarray:
        self.batches += [[int(index) for index in batch] for batch in batches]
        moved(len(batches))
        return np.array([[2.5 * len(batch), len(batch) / 4] for batch in batches])


@pytest.fixture
def record(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[list[list[int]], Run]]:
    """Train on a recorder; return the batches it was shown and the run."""

    def record(name: str, recipe: Recipe, **choices: Any) -> tuple[list[list[int]], Run]:
        recorder = Recorder()
        monkeypatch.setattr("resblock.core.training.trainer.make_engine", lambda *_: recorder)
        run, _ = trainer.train(name, recipe, **choices)
        return recorder.batches, run

    return record


Record = Callable[..., tuple[list[list[int]], Run]]


def test_each_epoch_shows_every_image_once_in_an_order_of_its_own(record: Record, make_recipe: MakeRecipe) -> None:
    batches, _ = record("cnn-4", make_recipe())
    assert [len(batch) for batch in batches] == [64, 64, 64, 58] * 2
    first, second = ([index for batch in epoch for index in batch] for epoch in (batches[:4], batches[4:]))
    assert sorted(first) == sorted(second) == list(range(250))
    assert first != second
    assert first != sorted(first)


def test_twins_see_the_same_batches(record: Record, make_recipe: MakeRecipe) -> None:
    plain, residual = (record(f"{family}-8", make_recipe(), seed=3)[0] for family in ("plain", "residual"))
    assert plain == residual


def test_the_order_follows_from_the_seed(record: Record, make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(epochs=1)
    first, again, other = (record("cnn-4", recipe, seed=seed)[0] for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_an_epochs_figures_are_means_over_its_images(record: Record, make_recipe: MakeRecipe) -> None:
    _, run = record("cnn-4", make_recipe())
    assert [(row.loss, row.accuracy) for row in run.curve] == [(2.5, 0.25)] * 2


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.2, 0.2]),
        # Steps 3 and 7 of 8, counted from 0.
        ("step", [0.2, 0.002]),
        ("cosine", [0.1 * (1 + math.cos(math.pi * 3 / 8)), 0.1 * (1 + math.cos(math.pi * 7 / 8))]),
        # Two steps up (30 % of 8, rounded), six steps down.
        ("onecycle", [0.1 * (1 + math.cos(math.pi * 1 / 6)), 0.1 * (1 + math.cos(math.pi * 5 / 6))]),
    ],
)
def test_the_curve_tells_the_rate_of_each_epochs_last_step(
    schedule: str, expected: list[float], record: Record, make_recipe: MakeRecipe
) -> None:
    _, run = record("cnn-4", make_recipe(schedule=schedule, learning_rate=0.2))
    assert [row.learning_rate for row in run.curve] == pytest.approx(expected, rel=1e-5)
