"""A network in training with PyTorch, eager or compiled, either memory layout, float32 or bfloat16 autocast."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]  (lives in an environment of its own)
from torch.nn import functional  # pyright: ignore[reportMissingImports]

from benchmarks.peers.batches import read_images
from benchmarks.peers.protocol import Task
from benchmarks.peers.torch_network import make_model

# How torch.optim.Adam may go over the parameters; which is fastest depends on the machine and on the network.
ADAM_WAYS: dict[str, dict[str, bool]] = {
    "loop": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}
TRIALS, TRIAL_STEPS = 3, 4


class Training:
    """The task's network, its optimiser and its images, which stay uint8 until their batch."""

    def __init__(self, task: Task) -> None:
        torch.set_num_threads(task.threads)
        torch.manual_seed(task.seed)
        torch.backends.cudnn.benchmark = True  # convolutions by the fastest kernel for their shapes
        self.task = task
        self._layout = torch.channels_last if task.layout == "channels-last" else torch.contiguous_format
        self.model = make_model(task).to(task.device).to(memory_format=self._layout)
        self._forward = torch.compile(self.model, dynamic=False) if task.compiled else self.model
        self.images, self.labels = self.place(*read_images(task))
        self._optimizers = {way: self._adam(way) for way in ADAM_WAYS}
        self.adam = "fused"

    @property
    def optimizer(self) -> Any:
        """The optimiser that steps are taken with."""
        return self._optimizers[self.adam]

    def place(self, images: np.ndarray, labels: np.ndarray) -> tuple[Any, Any]:
        """Return `images`, uint8 (n, channel, height, width), and labels as tensors where the network computes."""
        placed = torch.from_numpy(images).permute(0, 3, 1, 2).to(self.task.device)
        if self._layout is torch.contiguous_format:
            placed = placed.contiguous()
        return placed, torch.from_numpy(labels).long().to(self.task.device)

    def logits(self, images: Any, full: int, *, augmented: bool) -> Any:
        """Return float32 logits (batch, class) of uint8 images; a batch that is not `full` is not compiled for."""
        x = images.float().div_(255)
        if augmented:
            for axis in (3, 2):  # a mirror image left to right, then top to bottom, each by a coin for each image
                coins = torch.rand(len(x), 1, 1, 1, device=self.task.device) < 0.5
                x = torch.where(coins, x.flip(axis), x)
        x = x.contiguous(memory_format=self._layout)
        forward = self._forward if len(x) == full else self.model
        with torch.autocast(self.task.device, torch.bfloat16, enabled=self.task.precision == "mixed_bfloat16"):
            return forward(x).float()

    def step(self, batch: np.ndarray) -> Any:
        """Take one step on the images at `batch`, int32 (batch,); return their summed loss and correct predictions."""
        chosen = torch.from_numpy(batch).to(self.task.device, non_blocking=True)
        labels = self.labels[chosen]
        logits = self.logits(self.images[chosen], self.task.batch_size, augmented=True)
        loss = functional.cross_entropy(logits, labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        correct = (logits.detach().argmax(dim=1) == labels).sum()
        return torch.stack([loss.detach() * len(labels), correct.float()])

    def choose_adam(self, take_step: Callable[[], object]) -> None:
        """Try each way that Adam may go over the parameters and keep the fastest: PyTorch is to be at its best."""
        seconds = dict.fromkeys(ADAM_WAYS, float("inf"))
        for trial in range(TRIALS + 1):
            for way in ADAM_WAYS:
                self.adam = way
                took = self.seconds(lambda: [take_step() for _ in range(TRIAL_STEPS)])
                if trial:  # the first pass makes kernels and states
                    seconds[way] = min(seconds[way], took)
        self.adam = min(seconds, key=lambda way: seconds[way])
        self._optimizers = {self.adam: self.optimizer}

    def compile_seconds(self, work: Callable[[], object]) -> float:
        """Do `work` twice and return how much longer the first time took, if anything is compiled."""
        first, second = self.seconds(work), self.seconds(work)
        return max(0.0, first - second) if self.task.compiled else 0.0

    def seconds(self, work: Callable[[], object]) -> float:
        """Return what `work` takes, down to the last weight."""
        self.finish()
        began = time.perf_counter()
        work()
        self.finish()
        return time.perf_counter() - began

    def finish(self) -> None:
        """Wait for the device."""
        if self.task.device == "cuda":
            torch.cuda.synchronize()

    def facts(self) -> dict[str, Any]:
        """Return what `Turns.ready` says of this peer."""
        return {
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            "versions": {"torch": torch.__version__},
            "adam": self.adam,
            "card": torch.cuda.get_device_name() if self.task.device == "cuda" else "",
        }

    def _adam(self, way: str) -> Any:
        # Keras' Adam adds 1e-7 where PyTorch's default adds 1e-8.
        return torch.optim.Adam(self.model.parameters(), lr=self.task.learning_rate, eps=1e-7, **ADAM_WAYS[way])
