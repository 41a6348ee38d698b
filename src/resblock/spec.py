"""What is trained, and its names: one grammar for DVC axes, folders, MLflow runs, labels and arguments."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

Family = Literal["cnn", "plain", "residual"]
FAMILIES: tuple[Family, ...] = get_args(Family)

STAGES = 3  # resolutions: full, half, quarter (He et al. 2015, section 4.2)


@dataclass(frozen=True)
class DepthRule:
    """Which depths a family has: ``step * n + offset`` and n a whole number from 1."""

    step: int
    offset: int

    def blocks(self, depth: int) -> int | None:
        """Return n for `depth`, or None where no n fits."""
        n, rest = divmod(depth - self.offset, self.step)
        return n if rest == 0 and n >= 1 else None

    def nearest(self, depth: int) -> tuple[int, ...]:
        """Return the possible depths around `depth`, the smaller first."""
        n = max(1, (depth - self.offset) // self.step)
        below, above = self.step * n + self.offset, self.step * (n + 1) + self.offset
        return (below, above) if depth > below else (below,)

    def __str__(self) -> str:
        return f"{self.step}n+{self.offset}"


DEPTH_RULES: dict[Family, DepthRule] = {
    "cnn": DepthRule(step=STAGES, offset=1),  # n convolutions a stage, one dense layer
    "plain": DepthRule(step=2 * STAGES, offset=2),  # He et al. 2015: n blocks of two convolutions a stage
    "residual": DepthRule(step=2 * STAGES, offset=2),
}


@dataclass(frozen=True)
class ModelSpec:
    """A network of the study: a family and the number of its weight layers on the longest path.

    Raises ValueError at birth for a depth the family does not have, naming the nearest ones.
    """

    family: Family
    depth: int

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ValueError(f"unknown family {self.family!r}; families are {', '.join(FAMILIES)}")
        rule = DEPTH_RULES[self.family]
        if rule.blocks(self.depth) is None:
            nearest = " and ".join(f"{self.family}-{depth}" for depth in rule.nearest(self.depth))
            raise ValueError(f"{self.name}: depth must be {rule}, n >= 1; nearest: {nearest}")

    @classmethod
    def parse(cls, name: str) -> ModelSpec:
        """Return the spec that `name` stands for, for instance ``residual-20``."""
        family, separator, depth = name.partition("-")
        if family not in FAMILIES or not separator or not depth.isascii() or not depth.isdigit():
            raise ValueError(
                f"{name!r} is no variant; write <family>-<depth> with a family of {', '.join(FAMILIES)}, "
                "for instance residual-20"
            )
        if depth != str(int(depth)):  # one network, one name: 020 would share the files of 20
            raise ValueError(f"{name}: write {family}-{int(depth)}")
        return cls(family, int(depth))

    @property
    def name(self) -> str:
        """The variant's one name; `parse` is its inverse."""
        return f"{self.family}-{self.depth}"

    @cached_property
    def blocks(self) -> int:
        """Blocks (convolutions, for `cnn`) in each of the three stages."""
        blocks = DEPTH_RULES[self.family].blocks(self.depth)
        assert blocks is not None  # held by __post_init__
        return blocks

    @property
    def twin(self) -> ModelSpec | None:
        """The network that differs in the shortcut alone: plain and residual are each other's."""
        other: dict[Family, Family] = {"plain": "residual", "residual": "plain"}
        return ModelSpec(other[self.family], self.depth) if self.family in other else None

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class RunKey:
    """One training: a data set, a network and a seed (32 bits, unsigned)."""

    dataset: str
    spec: ModelSpec
    seed: int

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed: got {self.seed}, must lie in [0, 2^32)")

    @property
    def stage(self) -> str:
        """The name DVC gives this training, for instance ``train@cifar10-residual-20-0``."""
        return f"train@{self}"

    def __str__(self) -> str:
        return f"{self.dataset}-{self.spec}-{self.seed}"
