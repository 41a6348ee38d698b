"""Test images made worse in five ways at five severities.

These are our own small corruptions, seeded, and mild enough to mean something on 8x8 digits too. They are in the spirit
of Hendrycks & Dietterich 2019, but they are not CIFAR-10-C, and numbers of the two must not be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from resblock.core.backends.batches import small_batches
from resblock.core.seeds import generator, sample
from resblock.core.splits import Split

SEVERITIES = (1, 2, 3, 4, 5)
SEED = 0

# By severity. Levels are fractions of the full range of a pixel.
NOISE = (0.02, 0.04, 0.08, 0.12, 0.18)  # standard deviation
BLUR = (0.4, 0.55, 0.7, 0.85, 1.0)  # standard deviation in pixels: what a 3x3 kernel sees, whatever the image's size
CONTRAST = (0.7, 0.5, 0.35, 0.2, 0.1)  # share of each pixel's distance from the image's mean that stays
BRIGHTNESS = (0.1, 0.2, 0.3, 0.4, 0.5)  # added
PIXELATE = (0.75, 0.6, 0.5, 0.4, 0.25)  # share of the height and width that stays


@dataclass(frozen=True)
class Robustness:
    """One training's accuracy on images of one corruption and severity, batch-norm statistics re-estimated."""

    variant: str
    seed: int
    corruption: str  # or "none", at severity 0: the same images untouched
    severity: int
    images: int
    accuracy: float


@dataclass(frozen=True)
class Corrupted:
    """The same test images in every corruption and severity, the untouched ones first; made part by part."""

    chosen: Split

    @property
    def names(self) -> list[tuple[str, int]]:
        """Every corruption and severity."""
        return [("none", 0), *((name, severity) for name in CORRUPTIONS for severity in SEVERITIES)]

    def images(self, name: str, severity: int) -> Iterator[np.ndarray]:
        """Yield the images in one corruption and severity, uint8 (n, height, width, channel), some at a time."""
        random = generator(SEED, "corruption", name, severity)
        for part in small_batches(self.chosen.images):
            if name == "none":
                yield part
                continue
            changed = CORRUPTIONS[name](part / 255, severity - 1, random)
            # Many a level ends on a half, and goes to the even one whatever the last bits of a sum say.
            yield np.rint(np.round(255 * np.clip(changed, 0, 1), 6)).astype(np.uint8)

    def score(self, variant: str, seed: int, name: str, severity: int, logits: np.ndarray) -> Robustness:
        """Return the row of one corruption and severity from its logits, float (n, class)."""
        labels = self.chosen.labels
        share = float((logits.argmax(axis=-1) == labels).mean())
        return Robustness(variant, seed, name, severity, len(labels), share)


def corrupt(test: Split, limit: int) -> Corrupted:
    """Return at most `limit` images of `test`, chosen by seed, to be made worse."""
    return Corrupted(test.take(sample(len(test.labels), limit, SEED, "robustness")))


def apply(name: str, severity: int, images: np.ndarray) -> np.ndarray:
    """Return `images`, uint8 (n, height, width, channel), after one corruption at a severity of 1 to 5."""
    return np.concatenate(list(Corrupted(Split(images, np.zeros(len(images), np.int32))).images(name, severity)))


# Each takes float images in [0, 1], (n, height, width, channel), and the severity's place, from 0.
Change = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]


def _noise(images: np.ndarray, place: int, random: np.random.Generator) -> np.ndarray:
    return images + NOISE[place] * random.standard_normal(images.shape)


def _blur(images: np.ndarray, place: int, random: np.random.Generator) -> np.ndarray:
    return ndimage.gaussian_filter(images, (0, BLUR[place], BLUR[place], 0), mode="nearest")


def _contrast(images: np.ndarray, place: int, random: np.random.Generator) -> np.ndarray:
    mean = images.mean(axis=(1, 2, 3), keepdims=True)
    return mean + CONTRAST[place] * (images - mean)


def _brightness(images: np.ndarray, place: int, random: np.random.Generator) -> np.ndarray:
    return images + BRIGHTNESS[place]


def _pixelate(images: np.ndarray, place: int, random: np.random.Generator) -> np.ndarray:
    _, height, width, _ = images.shape
    rows, columns = (_coarsen(size, max(1, round(PIXELATE[place] * size))) for size in (height, width))
    return np.einsum("yh,xw,nhwc->nyxc", rows, columns, images, optimize=True)  # one axis after the other


def _coarsen(size: int, blocks: int) -> np.ndarray:
    """Return the matrix, float (size, size), that averages a line of pixels over `blocks` equal parts and back.

    A pixel that an edge cuts takes its share of both parts, so that 8 pixels in 5 parts are coarser, not shifted.
    """
    edges = np.linspace(0, size, blocks + 1)
    starts = np.arange(size)
    overlap = np.minimum(edges[1:, None], starts + 1) - np.maximum(edges[:-1, None], starts)
    shares = np.maximum(overlap, 0)  # (block, pixel): how much of the pixel lies in the block
    return shares.T @ shares * blocks / size


CORRUPTIONS: dict[str, Change] = {
    "noise": _noise,
    "blur": _blur,
    "contrast": _contrast,
    "brightness": _brightness,
    "pixelate": _pixelate,
}


def mean_by_severity(rows: Sequence[Robustness]) -> dict[tuple[str, int, int], float]:
    """Return accuracy by (variant, seed, severity), the mean over corruptions; severity 0 is the untouched images."""
    groups: dict[tuple[str, int, int], list[float]] = {}
    for row in rows:
        groups.setdefault((row.variant, row.seed, row.severity), []).append(row.accuracy)
    return {key: float(np.mean(values)) for key, values in groups.items()}
