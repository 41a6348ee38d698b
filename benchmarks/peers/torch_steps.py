"""The same network and training in PyTorch: eager or compiled, either memory layout, float32 or bfloat16 autocast."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import torch  # pyright: ignore[reportMissingImports]  (lives in an environment of its own)
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]

from benchmarks.peers.batches import batch_indices, read_images
from benchmarks.peers.protocol import Task, Turns

# How torch.optim.Adam may go over the parameters; which is fastest depends on the machine and on the network.
ADAM_WAYS: dict[str, dict[str, bool]] = {
    "loop": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}
TRIALS, TRIAL_STEPS = 3, 4


class Block(nn.Module):
    """He et al. 2015: two convolutions and the parameter-free shortcut around them."""

    def __init__(self, channels: int, filters: int, stride: int, task: Task) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, filters, 3, stride, 1, bias=False)
        self.norm1 = _norm(filters, task)
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.norm2 = _norm(filters, task)
        self.stride, self.missing = stride, filters - channels

    def forward(self, x: Any) -> Any:
        y = functional.relu(self.norm1(self.conv1(x)), inplace=True)
        y = self.norm2(self.conv2(y))
        if self.stride > 1:
            x = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.missing))
        return functional.relu(y + x, inplace=True)


def make_model(task: Task) -> Any:
    """Return the task's network for float images (batch, channel, 32, 32)."""
    family, depth = task.network.split("-")
    return _convolutional(int(depth)) if family == "cnn" else _residual(int(depth), task)


def main() -> None:
    """Train as the task in the first argument says, in turns."""
    turns, task = Turns(), Task.from_json(sys.argv[1])
    torch.set_num_threads(task.threads)
    torch.manual_seed(task.seed)
    torch.backends.cudnn.benchmark = True  # convolutions by the fastest kernel for their shapes
    model = make_model(task).to(task.device)
    if task.layout == "channels-last":
        model = model.to(memory_format=torch.channels_last)
    take_step = _stepper(model, task)
    way = _fastest_adam(model, take_step, task)
    optimizer = _adam(model, way, task)

    def train() -> None:
        for _ in range(task.steps):
            take_step(optimizer)
        _finish(task)

    train()
    turns.ready(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        versions={"torch": torch.__version__},
        adam=way,
        card=torch.cuda.get_device_name() if task.device == "cuda" else "",
    )
    while True:
        turns.begin()
        train()
        turns.end()


def _stepper(model: Any, task: Task) -> Callable[[Any], None]:
    """Return a function that takes one step with the optimiser given; images stay uint8 until their batch."""
    arrays = read_images(task)
    indices = batch_indices(task, len(arrays[1]))
    images = torch.from_numpy(arrays[0]).permute(0, 3, 1, 2).to(task.device)
    if task.layout != "channels-last":
        images = images.contiguous()
    labels = torch.from_numpy(arrays[1]).long().to(task.device)
    forward = torch.compile(model) if task.compiled else model
    layout = torch.channels_last if task.layout == "channels-last" else torch.contiguous_format

    def take_step(optimizer: Any) -> None:
        chosen = torch.from_numpy(next(indices)).to(task.device, non_blocking=True)
        x = images[chosen].float().div_(255)
        for axis in (3, 2):  # a mirror image left to right, then top to bottom, each by a coin for each image
            coins = torch.rand(len(x), 1, 1, 1, device=task.device) < 0.5
            x = torch.where(coins, x.flip(axis), x)
        x = x.contiguous(memory_format=layout)
        with torch.autocast(task.device, torch.bfloat16, enabled=task.precision == "mixed_bfloat16"):
            logits = forward(x)
        loss = functional.cross_entropy(logits.float(), labels[chosen])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return take_step


def _fastest_adam(model: Any, take_step: Callable[[Any], None], task: Task) -> str:
    """Try each way that Adam may go over the parameters and return the fastest: PyTorch is to be at its best."""
    optimizers = {way: _adam(model, way, task) for way in ADAM_WAYS}
    seconds = dict.fromkeys(ADAM_WAYS, float("inf"))
    for trial in range(TRIALS + 1):
        for way, optimizer in optimizers.items():
            _finish(task)
            began = time.perf_counter()
            for _ in range(TRIAL_STEPS):
                take_step(optimizer)
            _finish(task)
            if trial:  # the first pass makes kernels and states
                seconds[way] = min(seconds[way], time.perf_counter() - began)
    return min(seconds, key=lambda way: seconds[way])


def _adam(model: Any, way: str, task: Task) -> Any:
    # Keras' Adam adds 1e-7 where PyTorch's default adds 1e-8.
    return torch.optim.Adam(model.parameters(), lr=task.learning_rate, eps=1e-7, **ADAM_WAYS[way])


def _finish(task: Task) -> None:
    if task.device == "cuda":
        torch.cuda.synchronize()


def _norm(channels: int, task: Task) -> Any:
    return nn.BatchNorm2d(channels, eps=task.epsilon, momentum=1 - task.momentum)


def _convolutional(depth: int) -> Any:
    parts: list[Any] = []
    channels = 3
    for filters in (32, 64, 128):
        for _ in range((depth - 1) // 3):
            parts += [nn.Conv2d(channels, filters, 3, 1, 1), nn.ReLU(inplace=True)]
            channels = filters
        parts.append(nn.MaxPool2d(2))
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(channels * 4 * 4, 10))


def _residual(depth: int, task: Task) -> Any:
    parts: list[Any] = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), _norm(16, task), nn.ReLU(inplace=True)]
    channels = 16
    for stage, filters in enumerate((16, 32, 64)):
        for block in range((depth - 2) // 6):
            parts.append(Block(channels, filters, 2 if stage and not block else 1, task))
            channels = filters
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


if __name__ == "__main__":
    main()
