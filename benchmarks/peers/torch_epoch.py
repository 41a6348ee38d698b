"""The same training in PyTorch, a whole epoch a turn: steps, and what a study measures and keeps after them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch  # pyright: ignore[reportMissingImports]  (lives in an environment of its own)
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]

from benchmarks.peers.batches import epoch_batches, read_images
from benchmarks.peers.protocol import Epoch, Parts, Task, Turns
from benchmarks.peers.torch_training import Training

MEASURED = 250  # images a forward pass without gradients; divides what a whole epoch looks at


class EpochTraining:
    """A training, and the images that its epochs look at besides."""

    def __init__(self, task: Task, epoch: Epoch, folder: Path) -> None:
        self.training = Training(task)
        self._validation = self.training.place(*read_images(task, "validation"))
        order = torch.randperm(epoch.training)  # both choices stay the same from epoch to epoch
        statistics, sample = (order[:count].sort().values for count in (epoch.reestimation, epoch.sample))
        self._statistics_images = self.training.images[statistics]
        self._sample = self.training.images[sample], self.training.labels[sample]
        self._path = folder / "checkpoint.pt"
        self._curve: list[dict[str, float]] = []

    def warm_up(self) -> float:
        """Meet everything that an epoch does, on a few images; return the seconds that compiling took."""
        training = self.training
        batch = epoch_batches(training.task, len(training.labels), 0)[0]
        seconds = training.compile_seconds(lambda: training.step(batch))
        training.choose_adam(lambda: training.step(batch))
        images, labels = self._validation
        seconds += training.compile_seconds(lambda: self._measure(images[:MEASURED], labels[:MEASURED]))
        seconds += training.compile_seconds(lambda: self._reestimate(self._statistics_images[: len(batch)]))
        self._save()
        return seconds

    def run(self, number: int) -> Parts:
        """Train epoch `number`, do what comes after it, and return what each part took."""
        parts, row = Parts(), {"epoch": float(number)}
        with parts.timed("train"):
            row["loss"], row["accuracy"] = self._train(number)
        with parts.timed("validate"):
            row["validation_loss"], row["validation_accuracy"] = self._measure(*self._validation)
        with self._statistics_kept():
            with parts.timed("reestimate"):
                self._reestimate(self._statistics_images)
            with parts.timed("validate_reestimated"):
                row["validation_loss_reestimated"], row["validation_accuracy_reestimated"] = self._measure(
                    *self._validation
                )
            with parts.timed("sample"):
                row["sample_loss"], row["sample_accuracy"] = self._measure(*self._sample)
        self._curve.append(row)
        with parts.timed("checkpoint"):
            self._save()
        with parts.timed("log"):
            print(json.dumps(row), flush=True)
        return parts

    def _train(self, number: int) -> tuple[float, float]:
        self.training.model.train()
        images = len(self.training.labels)
        sums = torch.zeros(2)
        for batch in epoch_batches(self.training.task, images, number):
            sums += self.training.step(batch)
        loss, correct = (sums / images).tolist()
        return loss, correct

    @torch.inference_mode()
    def _measure(self, images: Any, labels: Any) -> tuple[float, float]:
        """Return mean loss and accuracy without augmentation."""
        self.training.model.eval()
        parts = [self.training.logits(batch, MEASURED, augmented=False) for batch in images.split(MEASURED)]
        logits = torch.cat(parts)
        correct = (logits.argmax(dim=1) == labels).float().mean()
        return functional.cross_entropy(logits, labels).item(), correct.item()

    @torch.inference_mode()
    def _reestimate(self, images: Any) -> None:
        """Put statistics of `images` where those as trained are: Wu & Johnson 2021, section 3.

        The mean of the batches' means, and the mean of their variances with the variance between their means.
        """
        norms = self._norms()
        self.training.model.train()
        batch_size = self.training.task.batch_size
        sums = [(torch.zeros_like(norm.running_mean), torch.zeros_like(norm.running_var)) for norm in norms]
        for batch in images.split(batch_size) if norms else ():
            for norm in norms:  # an average that starts at zero is momentum times the batch's own
                norm.running_mean.zero_()
                norm.running_var.zero_()
            self.training.logits(batch, batch_size, augmented=True)
            share = len(batch) / len(images)
            for norm, (means, squares) in zip(norms, sums, strict=True):
                mean, variance = norm.running_mean / norm.momentum, norm.running_var / norm.momentum
                means += share * mean
                squares += share * (variance + mean**2)
        for norm, (means, squares) in zip(norms, sums, strict=True):
            norm.running_mean.copy_(means)
            norm.running_var.copy_(squares - means**2)

    @contextmanager
    def _statistics_kept(self) -> Generator[None]:
        """Put statistics as trained back after the block."""
        kept = [(buffer, buffer.clone()) for buffer in self.training.model.buffers()]
        yield
        for buffer, value in kept:
            buffer.copy_(value)

    def _norms(self) -> list[Any]:
        return [module for module in self.training.model.modules() if isinstance(module, nn.BatchNorm2d)]

    def _save(self) -> None:
        """Write all that the next epoch needs, whole or not at all, down to the disk."""
        state = {
            "model": self.training.model.state_dict(),
            "optimizer": self.training.optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "curve": self._curve,
        }
        partial = self._path.with_suffix(".partial")
        with partial.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self._path)


def main() -> None:
    """Train as the task in the first argument says, in turns."""
    turns, task = Turns(), Task.from_json(sys.argv[1])
    if task.epoch is None:
        raise SystemExit("this peer trains whole epochs: its task must say of how many images")
    with TemporaryDirectory() as folder:
        epochs = EpochTraining(task, task.epoch, Path(folder))
        compile_seconds = epochs.warm_up()
        turns.ready(**epochs.training.facts(), compile_seconds=compile_seconds)
        number = 0
        while True:
            turns.begin()
            number += 1
            turns.end(epochs.run(number))


if __name__ == "__main__":
    main()
