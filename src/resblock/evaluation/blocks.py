"""What single blocks do in a trained network: rows of how strongly they respond, and of what is lost without them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Response:
    """How strongly a block speaks (He et al. 2015, Figure 7).

    The standard deviation, over test images, pixels and channels, of what comes out of its last batch normalisation,
    before addition and ReLU; in pre-activation networks, whose blocks end with a convolution, of what that adds.
    """

    variant: str
    seed: int
    block: str
    position: int  # convolutions from the image to its end
    deviation: float


@dataclass(frozen=True)
class Lesion:
    """Accuracy on test images after blocks were removed, without retraining (Veit et al. 2016).

    Statistics are re-estimated with all blocks in place. A block that is removed passes on its input: a residual one
    by its shortcut, a plain one as its residual twin's shortcut would.
    """

    variant: str
    seed: int
    removed: int  # how many blocks; 0: the whole network on the same images
    draw: int  # which of the random choices of so many; for one block, its number from 0
    blocks: str  # their names, joined by +
    images: int
    accuracy: float
