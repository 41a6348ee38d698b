"""What a network is made of, as data: everything that follows from its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from resblock.core.spec import FAMILIES, ModelSpec

Shortcut = Literal["none", "padded", "projected", "all-projected"]

STEM_WIDTH = 16  # a wider network's stem is none the wider (Zagoruyko & Komodakis 2016, table 1)
LAST_SURVIVAL = 0.5  # of the last block (Huang et al. 2016, section 4)


@dataclass(frozen=True)
class Entry:
    """How a network's first convolution takes in the image."""

    kernel_size: int
    stride: int
    pooled: bool  # 3x3 max pooling of stride 2 after it


def entry(image_shape: tuple[int, int, int]) -> Entry:
    """Return the first convolution for images of `image_shape`, (height, width, channel).

    The networks are made for 32x32 pixels; for larger images this convolution reduces them, so that the first stage
    works at 24 to 56 pixels (at a quarter of the longer side, where that is above 224). Above 96 pixels it is He et al.
    2015's for ImageNet (table 1).
    """
    side = max(image_shape[:2])
    if side <= 48:
        return Entry(kernel_size=3, stride=1, pooled=False)
    if side <= 96:
        return Entry(kernel_size=3, stride=2, pooled=False)
    return Entry(kernel_size=7, stride=2, pooled=True)


@dataclass(frozen=True)
class Stem:
    """The convolution between the image and the first stage."""

    filters: int
    entry: Entry


@dataclass(frozen=True)
class Place:
    """Where in a network a block stands, and what is asked of it."""

    name: str
    filters: int
    stride: int
    entry: Entry | None  # where no stem stands before it
    pooled_before: bool  # 2x2 max pooling before it halves the resolution
    pooled_after: bool  # or after it
    opens_stage: bool
    survival: float  # probability that stochastic depth keeps its residual branch


@dataclass(frozen=True)
class Architecture:
    """A network from the image to the logits, before it is built."""

    stem: Stem | None  # a CNN has none: its first convolution takes in the image
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


def design(spec: ModelSpec, image_shape: tuple[int, int, int]) -> Architecture:
    """Return the architecture of `spec` for images of `image_shape`, (height, width, channel).

    He et al. 2015, section 4.2: a stem, three stages of blocks, a head.
    """
    family = FAMILIES[spec.family]
    return Architecture(
        stem=Stem(STEM_WIDTH, entry(image_shape)) if family.staged else None,
        block=family.block,
        places=_places(spec, image_shape),
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


def _places(spec: ModelSpec, image_shape: tuple[int, int, int]) -> tuple[Place, ...]:
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
                entry=None if family.staged or number else entry(image_shape),
                pooled_before=halves and pools,
                pooled_after=not family.staged and index == spec.blocks - 1,
                opens_stage=index == 0,
                survival=1 - (number + 1) / total * (1 - LAST_SURVIVAL),  # Huang et al. 2016, equation 4
            )
        )
    return tuple(places)
