"""What is trained, and its names: one grammar for DVC axes, folders, MLflow runs, labels and arguments."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, cast

from resblock.core.recipe import BASE

STAGES = 3  # resolutions: full, half, quarter of what the stem leaves (He et al. 2015, section 4.2)
ORDER = ("nobn", "projection", "allprojection", "maxpool", "w", "sd")  # of a name's parts behind the depth

Modifier = Literal["nobn", "projection", "allprojection", "maxpool", "sd"]


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
        """Return the possible depths around `depth`, the smaller first; `depth` alone where it is possible."""
        if self.blocks(depth):
            return (depth,)
        n = max(1, (depth - self.offset) // self.step)
        below, above = self.step * n + self.offset, self.step * (n + 1) + self.offset
        return (below, above) if depth > below else (below,)

    def __str__(self) -> str:
        return f"{self.step}n+{self.offset}"


@dataclass(frozen=True)
class Family:
    """What networks of a family have in common. A further family is one entry below and one block function."""

    about: str
    depths: DepthRule
    block: str  # what it repeats: a name in `resblock.core.model.blocks.BLOCKS`
    widths: tuple[int, int, int] = (16, 32, 64)  # filters in each stage (He et al. 2015, section 4.2)
    normalized: bool = True  # has batch normalisation
    shortcut: bool = True  # adds a block's input to its output
    preactivated: bool = False  # normalises before its convolutions: nothing after the stem, but after the last block
    staged: bool = True  # has a stem, strides between stages and global average pooling; else it pools and flattens
    twin: str | None = None  # the family that differs in the shortcut alone


FAMILIES: dict[str, Family] = {
    "cnn": Family(
        "convolutions and 2x2 max pooling, the paper's baseline",
        DepthRule(STAGES, 1),  # n convolutions a stage, one dense layer
        block="convolution",
        widths=(32, 64, 128),
        normalized=False,
        shortcut=False,
        staged=False,
    ),
    "plain": Family(
        "the residual network without the addition",
        DepthRule(2 * STAGES, 2),  # n blocks of two convolutions a stage, besides the stem and the dense layer
        block="basic",
        shortcut=False,
        twin="residual",
    ),
    "residual": Family(
        "He et al. 2015, parameter-free shortcuts (option A)", DepthRule(2 * STAGES, 2), block="basic", twin="plain"
    ),
    "preact": Family(
        "He et al. 2016, full pre-activation", DepthRule(2 * STAGES, 2), block="preactivated", preactivated=True
    ),
    "bottleneck": Family(
        "He et al. 2016, pre-activation bottlenecks", DepthRule(3 * STAGES, 2), block="bottleneck", preactivated=True
    ),
}


@dataclass(frozen=True)
class ModifierRule:
    """What a modifier changes, and what a family must have for that."""

    about: str
    needs: Literal["normalized", "shortcut", "staged"]  # of a family
    otherwise: str  # why it fits no other family, after "a <family> network"

    def fits(self, family: str) -> bool:
        """Return whether it changes something in `family`."""
        return bool(getattr(FAMILIES[family], self.needs))


MODIFIER_RULES: dict[Modifier, ModifierRule] = {
    "nobn": ModifierRule(
        "no batch normalisation; a residual branch starts at zero (SkipInit, De & Smith 2020)",
        "normalized",
        "has no batch normalisation to leave out",
    ),
    "projection": ModifierRule(
        "a 1x1 convolution as shortcut where the shape changes (option B)", "shortcut", "has no shortcut"
    ),
    "allprojection": ModifierRule("a 1x1 convolution as every shortcut (option C)", "shortcut", "has no shortcut"),
    "maxpool": ModifierRule("2x2 max pooling between stages instead of strides", "staged", "pools already"),
    "sd": ModifierRule(
        "stochastic depth, survival falling to 0.5 (Huang et al. 2016)",
        "shortcut",
        "has no residual branch to drop",
    ),
}
WIDTH_ABOUT = "twice the filters in every stage; any whole number from 2 (Zagoruyko & Komodakis 2016)"


@dataclass(frozen=True)
class ModelSpec:
    """A network of the study: a family, the number of its weight layers on the longest path, and what is modified.

    Raises ValueError at birth for a depth or a modifier the family does not have, naming the nearest possible networks.
    """

    family: str  # a name in FAMILIES
    depth: int
    modifiers: frozenset[Modifier] = frozenset()
    width: int = 1  # factor on the filters of every stage

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ValueError(f"unknown family {self.family!r}; families are {', '.join(FAMILIES)}")
        reasons = self._impossibilities()
        if reasons:
            nearest = " and ".join(spec.name for spec in self._nearest())
            raise ValueError(f"{self.name}: {'; '.join(reasons)}; nearest: {nearest}")

    @classmethod
    def parse(cls, name: str) -> ModelSpec:
        """Return the spec that `name` stands for, for instance ``residual-20`` or ``plain-56-nobn``."""
        family, _, rest = name.partition("-")
        depth, *parts = rest.split("-")
        if family not in FAMILIES or not re.fullmatch("[0-9]+", depth):
            raise ValueError(
                f"{name!r} is no variant; write <family>-<depth>[-<modifier>…] with a family of "
                f"{', '.join(FAMILIES)}, for instance residual-20"
            )
        widths = [part for part in parts if re.fullmatch("w[0-9]+", part)]
        modifiers = [part for part in parts if part not in widths]
        for part in modifiers:
            if part not in MODIFIER_RULES:
                raise ValueError(f"{name}: {_unknown(part)}")
        if len(widths) > 1:
            raise ValueError(f"{name}: {' and '.join(widths)} exclude each other; choose one")
        width = int(widths[0][1:]) if widths else 1
        spec = cls(family, int(depth), frozenset(cast("list[Modifier]", modifiers)), width)
        if name != spec.name:  # one network, one name: 020 would share the files of 20
            raise ValueError(f"{name}: write {spec.name}")
        return spec

    @property
    def name(self) -> str:
        """The variant's one name; `parse` is its inverse."""
        parts: dict[str, str] = {modifier: modifier for modifier in self.modifiers}
        if self.width != 1:
            parts["w"] = f"w{self.width}"
        return "-".join((self.family, str(self.depth), *(parts[part] for part in ORDER if part in parts)))

    @cached_property
    def blocks(self) -> int:
        """Blocks (convolutions, for `cnn`) in each of the three stages."""
        blocks = FAMILIES[self.family].depths.blocks(self.depth)
        assert blocks is not None  # held by __post_init__
        return blocks

    @property
    def normalized(self) -> bool:
        """Whether the network has batch normalisation."""
        return FAMILIES[self.family].normalized and "nobn" not in self.modifiers

    @property
    def twin(self) -> ModelSpec | None:
        """The network that differs in the shortcut alone: plain and residual are each other's.

        None where the other lacks a modifier: a plain net has no shortcut to project. A pre-activation network less
        its addition is a plain net in another order, and no family of its own.
        """
        other = FAMILIES[self.family].twin
        if other is None or not all(MODIFIER_RULES[modifier].fits(other) for modifier in self.modifiers):
            return None
        return ModelSpec(other, self.depth, self.modifiers, self.width)

    def __str__(self) -> str:
        return self.name

    def _impossibilities(self) -> list[str]:
        """Say why there is no such network; nothing where there is."""
        reasons = [
            f"a {self.family} network {MODIFIER_RULES[modifier].otherwise} (-{modifier})"
            for modifier in self._misfits(self.family)
        ]
        if len(self._projections) > 1:
            reasons.append(f"{' and '.join(self._projections)} exclude each other")
        if self.width < 1:
            reasons.append("width must be a whole number from 1")
        rule = FAMILIES[self.family].depths
        if rule.blocks(self.depth) is None:
            reasons.append(f"depth must be {rule}, n >= 1")
        return reasons

    def _nearest(self) -> list[ModelSpec]:
        """Return the possible networks around: less what does not fit, or the first family where it does."""
        families = [self.family]
        if self._misfits(self.family):
            families.append(next(family for family in FAMILIES if not self._misfits(family)))
        kept = [self.modifiers - {other} for other in reversed(self._projections)]
        return [
            ModelSpec(family, depth, modifiers, max(1, self.width))
            for family in families
            for modifiers in dict.fromkeys(
                each - set(self._misfits(family)) for each in (kept if len(kept) > 1 else [self.modifiers])
            )
            for depth in FAMILIES[family].depths.nearest(self.depth)
        ]

    def _misfits(self, family: str) -> list[Modifier]:
        """Return the modifiers that change nothing in `family`."""
        return [m for m, rule in MODIFIER_RULES.items() if m in self.modifiers and not rule.fits(family)]

    @property
    def _projections(self) -> list[Modifier]:
        options: tuple[Modifier, ...] = ("projection", "allprojection")
        return [modifier for modifier in options if modifier in self.modifiers]


def _unknown(part: str) -> str:
    known = [part if part != "w" else "w2" for part in ORDER]
    near = difflib.get_close_matches(part, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"unknown modifier {part!r}{hint}; modifiers are {', '.join(known)} (or any width from 2)"


@dataclass(frozen=True)
class RunKey:
    """One training: a data set, a network, a seed (32 bits, unsigned), and what differs from the data set's recipe."""

    dataset: str
    spec: ModelSpec
    seed: int
    recipe: str = BASE

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed: got {self.seed}, must lie in [0, 2^32)")

    def __str__(self) -> str:
        """Return what tells it from all others, for instance ``digits-base-residual-20-0``."""
        return f"{self.dataset}-{self.recipe}-{self.spec}-{self.seed}"
