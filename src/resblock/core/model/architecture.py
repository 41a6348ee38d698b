"""What a network is made of, as data: everything that follows from its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from resblock.core.spec import FAMILIES, ModelSpec

Shortcut = Literal["none", "padded", "projected", "all-projected"]

STEM_WIDTH = 16  # a wider network's stem is none the wider (Zagoruyko & Komodakis 2016, table 1)
LAST_SURVIVAL = 0.5  # of the last block (Huang et al. 2016, section 4)


@dataclass(frozen=True)
class Stem:
    """The convolution between the image and the first stage."""

    filters: int
    kernel_size: int = 3
    stride: int = 1


@dataclass(frozen=True)
class Place:
    """Where in a network a block stands, and what is asked of it."""

    name: str
    filters: int
    stride: int
    pooled_before: bool  # 2x2 max pooling before it halves the resolution
    pooled_after: bool  # or after it
    opens_stage: bool
    survival: float  # probability that stochastic depth keeps its residual branch


@dataclass(frozen=True)
class Architecture:
    """A network from the image to the logits, before it is built."""

    stem: Stem | None  # a CNN has none: its first convolution sees the image
    block: str  # what stands at each place: a name in `resblock.core.model.blocks.BLOCKS`
    places: tuple[Place, ...]  # from the image to the logits
    shortcut: Shortcut
    normalized: bool  # has batch normalisation
    preactivated: bool  # normalises before its convolutions
    stochastic: bool  # drops residual branches at random in training
    head: Literal["average", "flatten"]  # what turns the last feature maps into one vector

    @property
    def adds(self) -> bool:
        """Whether a block's input is added to its output: the thing under study."""
        return self.shortcut != "none"


def design(spec: ModelSpec) -> Architecture:
    """Return the architecture of `spec` (He et al. 2015, section 4.2: a stem, three stages of blocks, a head)."""
    family = FAMILIES[spec.family]
    return Architecture(
        stem=Stem(STEM_WIDTH) if family.staged else None,
        block=family.block,
        places=_places(spec),
        shortcut=_shortcut(spec) if family.shortcut else "none",
        normalized=spec.normalized,
        preactivated=family.preactivated,
        stochastic="sd" in spec.modifiers,
        head="average" if family.staged else "flatten",
    )


def _shortcut(spec: ModelSpec) -> Shortcut:
    """Return which of He et al. 2015's shortcuts is taken (section 3.3: options A, B and C)."""
    if "allprojection" in spec.modifiers:
        return "all-projected"
    return "projected" if "projection" in spec.modifiers else "padded"


def _places(spec: ModelSpec) -> tuple[Place, ...]:
    family = FAMILIES[spec.family]
    total = len(family.widths) * spec.blocks
    word = "block" if family.staged else "conv"
    places: list[Place] = []
    for number in range(total):
        stage, index = divmod(number, spec.blocks)
        halves = family.staged and stage > 0 and index == 0
        pools = "maxpool" in spec.modifiers
        places.append(
            Place(
                name=f"stage{stage + 1}_{word}{index + 1}",
                filters=family.widths[stage] * spec.width,
                stride=2 if halves and not pools else 1,
                pooled_before=halves and pools,
                pooled_after=not family.staged and index == spec.blocks - 1,
                opens_stage=index == 0,
                survival=1 - (number + 1) / total * (1 - LAST_SURVIVAL),  # Huang et al. 2016, equation 4
            )
        )
    return tuple(places)
