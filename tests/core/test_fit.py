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
from scipy.special import softmax
from sklearn.metrics import accuracy_score, log_loss

from resblock.core.backends import backend
from resblock.core.backends.protocol import Steps
from resblock.core.model.network import build_network
from resblock.core.recipe import Recipe
from resblock.core.seeds import generator
from resblock.core.spec import ModelSpec
from resblock.core.splits import Split, SplitName
from resblock.core.training.checkpoint import Checkpoint
from resblock.core.training.fit import fit
from resblock.core.training.run import METRICS, Cost, EpochRow, Run, read_run, write_run
from resblock.core.training.statistics import reestimated, reestimation_images
from resblock.core.training.trainer import Trainer
from resblock.core.training.watcher import Nobody, Watcher

pytestmark = pytest.mark.usefixtures("backend")

MakeRecipe = Callable[..., Recipe]
MANIFEST = {"stage": "train@digits", "key": "abc"}


@dataclass
class Room:
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
        watcher: Watcher | None = None,
        new_process: bool = True,
        steps: Steps | None = None,
    ) -> tuple[Run, Cost]:
        if new_process:
            keras.utils.clear_session()  # Keras numbers its variables' names through a process
        trainer = Trainer(ModelSpec.parse(name), self.splits["train"], classes=10, recipe=recipe, seed=seed)
        trainer.steps = steps or trainer.steps
        return fit(
            trainer,
            seed,
            self.splits["validation"],
            MANIFEST,
            Checkpoint(folder or self.make_folder(), "abc"),
            threads=1,
            watcher=watcher or Nobody(),
        )

    def files(self, run: Run) -> dict[str, bytes]:
        """Return what `run` leaves on disk."""
        folder = self.make_folder()
        write_run(folder, run)
        return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def room(few_digits: dict[SplitName, Split], tmp_path_factory: pytest.TempPathFactory) -> Room:
    return Room(few_digits, lambda: tmp_path_factory.mktemp("training"))


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
def lively(room: Room, make_recipe: MakeRecipe, backend: int) -> tuple[Run, Cost]:
    """A training of three epochs that nothing interrupts."""
    return room.train("residual-8", make_recipe(**LIVELY))


class Killed(BaseException):
    """Stands for the end of the process."""


@dataclass
class Witness(Nobody):
    """Sees a training's course and may end it."""

    kill_at: tuple[int, int] | None = None  # epoch, step; step 0: when the epoch has been told
    steps: list[tuple[int, int, int]] = field(default_factory=list[tuple[int, int, int]])
    rows: list[EpochRow] = field(default_factory=list[EpochRow])
    resumptions: list[list[EpochRow]] = field(default_factory=list[list[EpochRow]])
    warnings: list[str] = field(default_factory=list[str])

    def step(self, epoch: int, done: int, steps: int) -> None:
        self.steps.append((epoch, done, steps))
        if (epoch, done) == self.kill_at:
            raise Killed

    def epoch(self, row: EpochRow) -> None:
        self.rows.append(row)
        if (row.epoch, 0) == self.kill_at:
            raise Killed

    def resumed(self, curve: Sequence[EpochRow]) -> None:
        self.resumptions.append(list(curve))

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def test_one_seed_gives_byte_identical_files(lively: tuple[Run, Cost], room: Room, make_recipe: MakeRecipe) -> None:
    again, _ = room.train("residual-8", make_recipe(**LIVELY))
    assert room.files(again) == room.files(lively[0])


def test_another_seed_gives_another_run(lively: tuple[Run, Cost], room: Room, make_recipe: MakeRecipe) -> None:
    other, _ = room.train("residual-8", make_recipe(**{**LIVELY, "epochs": 1}), seed=1)
    assert other.curve[0].loss != lively[0].curve[0].loss


@pytest.fixture
def single_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each call take one step, where it would take as many as half a second does."""
    monkeypatch.setattr("resblock.core.backends.tensorflow.CALL_SECONDS", 0.0)


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
    kill_at: tuple[int, int], lively: tuple[Run, Cost], room: Room, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = make_recipe(**LIVELY)
    with pytest.raises(Killed):
        room.train("residual-8", recipe, folder=tmp_path, watcher=Witness(kill_at))
    witness = Witness()
    resumed, cost = room.train("residual-8", recipe, folder=tmp_path, watcher=witness)
    assert room.files(resumed) == room.files(lively[0])
    finished = kill_at[0] - (kill_at[1] > 0)
    assert witness.resumptions == [list(lively[0].curve[:finished])]
    assert [row.epoch for row in witness.rows] == list(range(finished + 1, 4))
    assert witness.warnings == []
    assert len(cost.epoch_seconds) == 3


@pytest.mark.parametrize("name", ["residual-8-nobn-sd", pytest.param("cnn-4", marks=pytest.mark.slow)])
def test_killed_adam_run_resumes_bit_for_bit(name: str, room: Room, make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(schedule="cosine", crop_padding=1)
    whole, _ = room.train(name, recipe)
    with pytest.raises(Killed):
        room.train(name, recipe, folder=tmp_path, watcher=Witness((1, 0)))
    witness = Witness()
    resumed, _ = room.train(name, recipe, folder=tmp_path, watcher=witness)
    assert len(witness.resumptions) == 1
    assert room.files(resumed) == room.files(whole)


def test_a_training_resumes_in_the_process_that_began_it(room: Room, make_recipe: MakeRecipe, tmp_path: Path) -> None:
    witness = Witness()
    for epochs in (1, 2):
        recipe = make_recipe(epochs=epochs, crop_padding=1)
        room.train("cnn-4", recipe, folder=tmp_path, watcher=witness, new_process=False)
    assert witness.warnings == []
    assert len(witness.resumptions) == 1


def test_a_finished_training_told_again_gives_the_same_run(room: Room, make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(epochs=1)
    first, _ = room.train("cnn-4", recipe, folder=tmp_path)
    witness = Witness()
    again, _ = room.train("cnn-4", recipe, folder=tmp_path, watcher=witness)
    assert witness.steps == []
    assert room.files(again) == room.files(first)


def test_a_checkpoint_of_another_network_is_told_and_not_used(
    room: Room, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = make_recipe(epochs=1)
    room.train("plain-8", recipe, folder=tmp_path)
    witness = Witness()
    run, _ = room.train("cnn-4", recipe, folder=tmp_path, watcher=witness)
    assert witness.resumptions == []
    assert len(witness.warnings) == 1
    assert room.files(run) == room.files(room.train("cnn-4", recipe)[0])


@pytest.mark.usefixtures("single_steps")
def test_a_watcher_sees_every_step_and_every_epoch(room: Room, make_recipe: MakeRecipe) -> None:
    witness = Witness()
    run, _ = room.train("cnn-4", make_recipe(), watcher=witness)
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
    digits: dict[SplitName, Split], room: Room, make_recipe: MakeRecipe
) -> None:
    whole = Room(digits, room.make_folder)
    run, _ = whole.train("cnn-4", make_recipe(epochs=6))
    losses = [row.loss for row in run.curve]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] < 2 * math.log(10)
    assert run.curve[-1].validation_accuracy > 0.8  # chance: 0.1
    assert run.curve[-1].validation_loss < run.curve[0].validation_loss


def test_reestimated_figures_differ_only_where_there_are_statistics(
    lively: tuple[Run, Cost], room: Room, make_recipe: MakeRecipe
) -> None:
    baseline, _ = room.train("cnn-4", make_recipe(epochs=1))
    for row in baseline.curve:
        assert row.validation_loss == row.validation_loss_reestimated
        assert row.validation_accuracy == row.validation_accuracy_reestimated
    for row in lively[0].curve:
        assert row.validation_loss != row.validation_loss_reestimated


@pytest.mark.parametrize("name", ["residual-8", "cnn-4"])
def test_the_training_sample_is_scored_at_the_weights_of_the_epochs_end(
    name: str, room: Room, make_recipe: MakeRecipe
) -> None:
    """Statistics re-estimated, nothing augmented: the numbers by hand, from what the run leaves."""
    recipe = make_recipe(epochs=1, horizontal_flip=True, crop_padding=1, reestimate_images=64)
    run, _ = room.train(name, recipe, seed=3)
    network = build_network(ModelSpec.parse(name), (8, 8, 1), 10, recipe, seed=3)
    network.load(run.weights)
    train = room.splits["train"]
    chosen = np.sort(generator(3, "training sample").permutation(250)[:64])  # 100 for validation, 64 to re-estimate
    images = reestimation_images(train, 64, seed=3)
    with reestimated(network.model, backend().inference(network.model), images, recipe.batch_size, seed=3):
        logits = keras.ops.convert_to_numpy(network.model(train.images[chosen], training=False))
    labels = train.labels[chosen]
    expected = log_loss(labels, softmax(logits.astype(np.float64), axis=1), labels=range(10))
    assert run.curve[0].train_loss_reestimated == pytest.approx(expected, rel=1e-5)
    assert run.curve[0].train_accuracy_reestimated == accuracy_score(labels, logits.argmax(axis=1))
    assert run.curve[0].train_loss_reestimated != run.curve[0].loss


def test_bfloat16_trains_close_to_float32(lively: tuple[Run, Cost], room: Room, make_recipe: MakeRecipe) -> None:
    mixed, _ = room.train("residual-8", make_recipe(**LIVELY, precision="mixed_bfloat16"))
    for row, full in zip(mixed.curve, lively[0].curve, strict=True):
        assert row.loss == pytest.approx(full.loss, rel=0.1)
        assert row.loss != full.loss
    assert {array.dtype for array in mixed.weights.values()} == {np.dtype(np.float32)}


def test_a_diverged_run_is_told_as_one_and_never_as_zero(room: Room, make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(epochs=3, optimizer="sgd", learning_rate=1e30)
    run, _ = room.train("residual-8", recipe, folder=tmp_path / "checkpoint")
    assert run.status == "diverged"
    assert len(run.curve) < 3
    assert not math.isfinite(run.curve[-1].loss)
    write_run(tmp_path / "run", run)
    found = read_run(tmp_path / "run")
    assert found.status == "diverged"
    assert math.isnan(found.curve[-1].validation_loss)
    assert math.isnan(found.curve[-1].validation_accuracy)
    assert '"validation_accuracy": null' in (tmp_path / "run" / METRICS).read_text()
    again, _ = room.train("residual-8", recipe, folder=tmp_path / "checkpoint")
    assert room.files(again) == room.files(run)


@dataclass
class Recorder:
    """Stands in for compiled steps: notes what it is shown; each image has a loss of 2.5 and a quarter of a hit."""

    batches: list[list[int]] = field(default_factory=list[list[int]])

    def train(self, batches: Sequence[np.ndarray], moved: Callable[[int], None]) -> np.ndarray:
        self.batches += [[int(index) for index in batch] for batch in batches]
        moved(len(batches))
        return np.array([[2.5 * len(batch), len(batch) / 4] for batch in batches])


@pytest.fixture
def record(room: Room) -> Callable[..., tuple[list[list[int]], Run]]:
    """Train on a recorder; return the batches it was shown and the run."""

    def record(name: str, recipe: Recipe, **choices: Any) -> tuple[list[list[int]], Run]:
        recorder = Recorder()
        run, _ = room.train(name, recipe, steps=recorder, **choices)
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
