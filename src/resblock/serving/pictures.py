"""PNG and JPEG files of any size and mode as a network wants them.

A picture is turned upright by its EXIF orientation, put onto white where it is transparent, brought to grey or RGB in
8 bits, cut to the network's aspect ratio around its centre, and reduced by area averages (as the UCI digits were, from
32x32 bitmaps to 8x8 counts). A picture that has the network's size and mode already goes in as it is.
"""

from __future__ import annotations

import struct
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("PNG", "JPEG")
DARK, LIGHT = 64, 192  # quarters of 0 … 255: what a background must stay below or above to be called so


class PictureError(Exception):
    """A file that is no picture a network can answer for; the text says why."""


def read_picture(source: Path | BinaryIO, image_shape: tuple[int, int, int], *, invert: bool = False) -> np.ndarray:
    """Read the file `source` as uint8 of `image_shape` (height, width, channel), with 1 or 3 channels.

    `invert` makes dark strokes on light paper light on dark. Raises PictureError for a file that cannot be read, is
    neither PNG nor JPEG, is broken or animated, or has too many pixels to be safe.
    """
    height, width, channels = image_shape
    if channels not in (1, 3):
        raise PictureError(f"the network wants {channels} channels; a picture gives 1 (grey) or 3 (RGB)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged EXIF data: the pixels are what counts
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(source, formats=FORMATS) as file:
                if file.format == "PNG" and getattr(file, "is_animated", False):
                    raise PictureError("is animated; save the one frame that is meant")
                picture = _flatten(ImageOps.exif_transpose(file)).convert("L" if channels == 1 else "RGB")
    except UnidentifiedImageError:
        raise PictureError(f"is no {' or '.join(FORMATS)} picture") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise PictureError(f"has more than {Image.MAX_IMAGE_PIXELS:,} pixels; make it smaller first") from None
    except OSError as error:
        raise PictureError(error.strerror or f"is broken ({error})") from None
    except (SyntaxError, ValueError, struct.error) as error:  # Pillow's answers to damaged chunks and headers
        raise PictureError(f"is broken ({error})") from None
    if picture.size != (width, height):
        picture = ImageOps.fit(picture, (width, height), method=Image.Resampling.BOX)
    pixels = np.asarray(picture, np.uint8).reshape(image_shape)
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


def _flatten(picture: Image.Image) -> Image.Image:
    """Bring deep greys to 8 bits, and what is transparent onto white."""
    if picture.mode.startswith("I"):  # 16 bits, which Pillow would clip instead of scaling
        picture = Image.fromarray(np.rint(np.asarray(picture, np.float64) / 257).astype(np.uint8))
    if not picture.has_transparency_data:
        return picture
    upper = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", upper.size, "white"), upper)
