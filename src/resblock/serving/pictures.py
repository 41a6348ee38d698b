"""The pictures that `predict` is asked about: PNG and JPEG, and whether their ground is the other way round."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np

from resblock.data import pictures
from resblock.data.pictures import PictureError

__all__ = ["PictureError", "looks_inverted", "read_picture"]

FORMATS = ("PNG", "JPEG")
DARK, LIGHT = 64, 192  # quarters of 0 … 255: what a background must stay below or above to be called so


def read_picture(source: Path | BinaryIO, image_shape: tuple[int, int, int], *, invert: bool = False) -> np.ndarray:
    """Read the file `source` as the images of a data set are read; see `resblock.data.pictures`.

    `invert` makes dark strokes on light paper light on dark. Raises PictureError for a file that cannot be read, is
    neither PNG nor JPEG, is broken or animated, or has too many pixels to be safe.
    """
    file = source if isinstance(source, Path) else source.read()
    pixels = pictures.read_picture(file, image_shape, formats=FORMATS, first_frame=False)
    return 255 - pixels if invert else pixels


def looks_inverted(picture: np.ndarray, examples: np.ndarray) -> bool:
    """Return whether `picture` has a light background where grey `examples` have a dark one, or the other way round.

    `picture` is uint8 (height, width, 1), `examples` uint8 (n, height, width, 1). Colour pictures never look inverted.
    """
    if picture.shape[-1] != 1 or not len(examples):
        return False
    usual = float(np.median([_background(example) for example in examples]))
    here = _background(picture)
    return (usual < DARK and here > LIGHT) or (usual > LIGHT and here < DARK)


def _background(picture: np.ndarray) -> float:
    """Return the median of the outermost pixels, where strokes are rare."""
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    return float(np.median(border))
