"""The same networks in PyTorch, as its own users write them."""

from __future__ import annotations

from typing import Any

from torch import nn  # pyright: ignore[reportMissingImports]  (lives in an environment of its own)
from torch.nn import functional  # pyright: ignore[reportMissingImports]

from benchmarks.peers.protocol import Task


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
