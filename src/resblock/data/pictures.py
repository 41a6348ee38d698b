"""Picture files of any size and mode as a network wants them: the one decoder, for data sets and for predictions.

A picture is turned upright by its EXIF orientation, put onto white where it is transparent, brought to grey or RGB in
8 bits, cut to the wanted aspect ratio around its centre, and resized by area averages (as the UCI digits were, from
32x32 bitmaps to 8x8 counts). A picture that has the wanted size and mode already goes in as it is.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
DEEPEST = 65_535  # the lightest of 16-bit greys
PHOTOMETRIC = 262  # the tag of a TIFF whose value 0 says that white is 0; Pillow heeds it with 8 bits alone


class PictureError(Exception):
    """A file that is no picture a network can answer for; the text says why."""


def read_picture(
    file: Path | bytes,
    image_shape: tuple[int, int, int],
    *,
    formats: Sequence[str] = FORMATS,
    first_frame: bool = True,
) -> np.ndarray:
    """Read `file`, a path or its content, as uint8 of `image_shape` (height, width, channel), with 1 or 3 channels.

    Of an animation the first frame counts; without `first_frame` it is refused. Raises PictureError for what cannot be
    read, is of none of `formats`, is broken, or has too many pixels to be safe.
    """
    return read_seen(file, image_shape, formats=formats, first_frame=first_frame)[0]


def read_seen(
    file: Path | bytes,
    image_shape: tuple[int, int, int],
    *,
    formats: Sequence[str] = FORMATS,
    first_frame: bool = True,
) -> tuple[np.ndarray, tuple[int, int]]:
    """Return what `read_picture` does, and the width and height that the picture had when it was upright."""
    channels = image_shape[2]
    if channels not in (1, 3):
        raise PictureError(f"the network wants {channels} channels; a picture gives 1 (grey) or 3 (RGB)")
    with _opened(file, formats) as picture:
        if not first_frame and picture.format == "PNG" and getattr(picture, "is_animated", False):
            raise PictureError("is animated; save the one frame that is meant")
        upright = ImageOps.exif_transpose(picture)
        white_is_zero = getattr(picture, "tag_v2", {}).get(PHOTOMETRIC) == 0
        flat = _flatten(upright, white_is_zero=white_is_zero)
        return fitted(flat.convert("L" if channels == 1 else "RGB"), image_shape), upright.size


def fitted(picture: Image.Image, image_shape: tuple[int, int, int]) -> np.ndarray:
    """Return a grey or RGB picture, cut and resized, as uint8 of `image_shape` (height, width, channel)."""
    height, width, _ = image_shape
    if picture.size != (width, height):
        picture = ImageOps.fit(picture, (width, height), method=Image.Resampling.BOX)
    return np.asarray(picture, np.uint8).reshape(image_shape)


def resized(pixels: np.ndarray, image_shape: tuple[int, int, int]) -> np.ndarray:
    """Return pixels, uint8 (height, width) or (height, width, 1 or 3), as a picture file of them would be read."""
    if pixels.shape == image_shape:
        return pixels
    picture = Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)
    return fitted(picture.convert("L" if image_shape[2] == 1 else "RGB"), image_shape)


def look_at(file: Path | bytes) -> tuple[int, int, bool]:
    """Return width, height and whether there is colour, from a picture's header alone. Raises PictureError."""
    with _opened(file, FORMATS) as picture:
        turned = picture.getexif().get(0x0112, 1) in (5, 6, 7, 8)  # the orientations that swap the sides
        width, height = reversed(picture.size) if turned else picture.size
        return width, height, not picture.mode.startswith(("1", "L", "I", "F"))


@contextmanager
def _opened(file: Path | bytes, formats: Sequence[str]) -> Generator[Image.Image]:
    """Open a picture for the block; what Pillow says to damage there becomes a PictureError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged EXIF data: the pixels are what counts
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file, formats=tuple(formats)) as picture:
                yield picture
    except UnidentifiedImageError:
        named = f"{', '.join(formats[:-1])} or {formats[-1]}"
        raise PictureError(f"is no {named} picture") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise PictureError(f"has more than {Image.MAX_IMAGE_PIXELS:,} pixels; make it smaller first") from None
    except OSError as error:
        raise PictureError(error.strerror or f"is broken ({error})") from None
    except (SyntaxError, ValueError, TypeError, IndexError, struct.error) as error:  # Pillow's answers to damage
        raise PictureError(f"is broken ({error})") from None


def _flatten(picture: Image.Image, *, white_is_zero: bool = False) -> Image.Image:
    """Bring deep greys to 8 bits, and what is transparent onto white."""
    if picture.mode.startswith("I"):  # 16 bits, which Pillow would clip instead of scaling
        greys = np.asarray(picture)
        if greys.min() < 0 or greys.max() > DEEPEST:
            raise PictureError("has greys of 32 bits; save it with 8 or 16")
        greys = greys.astype(np.uint32)
        if white_is_zero:
            greys = DEEPEST - greys
        if isinstance(clear := picture.info.get("transparency"), int):
            greys[greys == clear] = DEEPEST
        picture = Image.fromarray(((greys + 128) // 257).astype(np.uint8))  # to the nearest: 257 is 65535 / 255
    if picture.mode == "F":
        raise PictureError("has floating-point greys, whose white nobody knows; save it with 8 or 16 bits")
    if not picture.has_transparency_data:
        return picture
    upper = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", upper.size, "white"), upper)
