"""PNG and JPEG files of every size and mode become what a network takes; others say why they do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from resblock.core.splits import Split, SplitName
from resblock.data.pictures import read_seen
from resblock.serving.pictures import PictureError, looks_inverted, read_picture

GREY, COLOUR = (8, 8, 1), (32, 32, 3)


def saved(folder: Path, picture: Image.Image, name: str = "picture.png", **options: Any) -> Path:
    picture.save(folder / name, **options)
    return folder / name


def uniform(
    folder: Path, picture: Image.Image, name: str = "picture.png", shape: tuple[int, int, int] = GREY
) -> list[int]:
    """Return the one pixel that a picture of one colour consists of."""
    pixels = read_picture(saved(folder, picture, name), shape).reshape(-1, shape[-1])
    assert (pixels == pixels[0]).all()
    return pixels[0].tolist()


def test_a_picture_of_the_networks_size_and_mode_goes_in_as_it_is(
    tmp_path: Path, digits: dict[SplitName, Split]
) -> None:
    image = digits["test"].images[0]
    assert np.array_equal(read_picture(saved(tmp_path, Image.fromarray(image[:, :, 0])), GREY), image)
    colours = np.random.default_rng(0).integers(0, 256, COLOUR, dtype=np.uint8)
    assert np.array_equal(read_picture(saved(tmp_path, Image.fromarray(colours)), COLOUR), colours)


@pytest.mark.parametrize(
    ("mode", "colour", "grey"),
    [
        ("L", 100, 100),
        ("1", 1, 255),
        ("P", 0, 0),
        ("RGB", (255, 255, 255), 255),
        ("RGB", (255, 0, 0), 76),  # ITU-R 601: 0.299 of red
        ("RGBA", (0, 0, 0, 255), 0),
        ("RGBA", (0, 0, 0, 0), 255),  # transparent: the white behind it
        ("RGBA", (0, 0, 0, 51), 204),  # a fifth of black on white
        ("LA", (0, 0), 255),
        ("I;16", 65535, 255),
        ("I;16", 257 * 7, 7),
        ("I;16", 300, 1),  # 300 / 257; clipping would make it white
    ],
)
def test_png_modes_become_grey(tmp_path: Path, mode: str, colour: int | tuple[int, ...], grey: int) -> None:
    assert uniform(tmp_path, Image.new(mode, (20, 30), colour)) == [grey]


@pytest.mark.parametrize(
    ("mode", "colour", "rgb"),
    [
        ("L", 100, [100, 100, 100]),
        ("RGBA", (10, 20, 30, 255), [10, 20, 30]),
        ("RGBA", (10, 20, 30, 0), [255, 255, 255]),
        ("I;16", 257 * 9, [9, 9, 9]),
    ],
)
def test_png_modes_become_colour(tmp_path: Path, mode: str, colour: int | tuple[int, ...], rgb: list[int]) -> None:
    assert uniform(tmp_path, Image.new(mode, (50, 40), colour), shape=COLOUR) == rgb


def test_a_palette_with_a_transparent_colour_shows_white_there(tmp_path: Path) -> None:
    picture = Image.new("P", (8, 8), 1)
    picture.putpalette([0, 0, 0, 200, 0, 0])
    assert read_picture(saved(tmp_path, picture, transparency=1), COLOUR)[0, 0].tolist() == [255, 255, 255]
    assert read_picture(saved(tmp_path, picture), COLOUR)[0, 0].tolist() == [200, 0, 0]


@pytest.mark.parametrize(("ink", "rgb"), [((0, 0, 0, 0), 255), ((0, 0, 0, 255), 0)])
def test_cmyk_jpeg_is_ink_on_white(tmp_path: Path, ink: tuple[int, ...], rgb: int) -> None:
    assert uniform(tmp_path, Image.new("CMYK", (40, 40), ink), "picture.jpg", COLOUR) == [rgb] * 3


def test_a_phones_picture_is_turned_upright(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8), np.uint8)
    pixels[0] = 255  # the top row, as the sensor saw it
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise: the top becomes the right side
    picture = read_picture(saved(tmp_path, Image.fromarray(pixels), exif=exif), GREY)
    assert (picture[:, -1, 0] == 255).all()
    assert (picture[:, :-1, 0] == 0).all()


def test_a_jpeg_with_further_pictures_in_it_counts_as_its_first(tmp_path: Path) -> None:
    first, second = (Image.new("RGB", (16, 16), grey) for grey in ("white", "black"))
    path = saved(tmp_path, first, "picture.jpg", format="MPO", save_all=True, append_images=[second])
    assert (read_picture(path, COLOUR) == 255).all()


@pytest.mark.parametrize("turned", [False, True], ids=["wide", "tall"])
def test_a_long_picture_is_cut_around_its_centre(tmp_path: Path, turned: bool) -> None:
    pixels = np.zeros((16, 48), np.uint8)
    pixels[:, 16:32] = 255
    assert (read_picture(saved(tmp_path, Image.fromarray(pixels.T if turned else pixels)), GREY) == 255).all()


def test_a_larger_picture_is_reduced_by_area_averages(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    expected = pixels.reshape(8, 4, 8, 4).mean(axis=(1, 3))  # as 32x32 bitmaps became the digits
    picture = read_picture(saved(tmp_path, Image.fromarray(pixels)), GREY)[:, :, 0]
    assert np.abs(picture - expected).max() <= 1


@given(
    width=st.integers(1, 70),
    height=st.integers(1, 70),
    mode=st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]),
    shape=st.sampled_from([GREY, COLOUR, (5, 9, 3)]),
)
def test_any_size_and_mode_fits(
    tmp_path_factory: pytest.TempPathFactory, width: int, height: int, mode: str, shape: tuple[int, int, int]
) -> None:
    path = saved(tmp_path_factory.getbasetemp(), Image.new(mode, (width, height)))
    picture = read_picture(path, shape)
    assert (picture.shape, picture.dtype) == (shape, np.uint8)


def test_dark_on_light_can_be_turned_around(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.new("L", (8, 8), 200))
    assert (read_picture(path, GREY, invert=True) == 55).all()


def test_only_a_picture_with_the_other_background_looks_inverted(digits: dict[SplitName, Split]) -> None:
    examples, picture = digits["train"].images[:50], digits["test"].images[0]
    assert not looks_inverted(picture, examples)
    assert looks_inverted(255 - picture, examples)
    assert looks_inverted(picture, 255 - examples)
    assert not looks_inverted(np.full(GREY, 128, np.uint8), examples)
    assert not looks_inverted(255 - picture, examples[:0])
    assert not looks_inverted(np.full(COLOUR, 255, np.uint8), np.zeros((3, *COLOUR), np.uint8))


def test_what_is_no_picture_says_so(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    bitmap = saved(tmp_path, Image.new("L", (8, 8)), "picture.bmp")
    for path in (tmp_path / "text.png", tmp_path / "empty.png", bitmap):
        with pytest.raises(PictureError, match="is no PNG or JPEG picture"):
            read_picture(path, GREY)


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="No such file"):
        read_picture(tmp_path / "missing.png", GREY)
    with pytest.raises(PictureError, match="Is a directory"):
        read_picture(tmp_path, GREY)


@pytest.mark.parametrize("name", ["picture.png", "picture.jpg"])
def test_a_broken_file_says_so_wherever_it_breaks(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    whole = saved(tmp_path, Image.fromarray(noise), name).read_bytes()
    for kept in (12, len(whole) // 4, len(whole) // 2, len(whole) * 9 // 10):
        (tmp_path / name).write_bytes(whole[:kept])
        with pytest.raises(PictureError, match=r"is broken|is no PNG or JPEG"):
            read_picture(tmp_path / name, GREY)


def test_damage_never_leads_to_another_error(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    random = np.random.default_rng(1)
    for name in ("picture.png", "picture.jpg"):
        whole = bytearray(saved(tmp_path, Image.fromarray(noise), name).read_bytes())
        for _ in range(200):
            damaged = whole.copy()
            for place in random.integers(0, len(whole), 3):
                damaged[place] = random.integers(0, 256)
            (tmp_path / name).write_bytes(damaged)
            try:
                assert read_picture(tmp_path / name, COLOUR).shape == COLOUR
            except PictureError as error:
                assert str(error)


def test_an_animation_is_refused(tmp_path: Path) -> None:
    frames = [Image.new("L", (8, 8), grey) for grey in (0, 100)]
    path = saved(tmp_path, frames[0], save_all=True, append_images=frames[1:])
    with pytest.raises(PictureError, match="is animated"):
        read_picture(path, GREY)


@pytest.mark.parametrize("side", [11, 20], ids=["more than safe", "more than twice that"])
def test_a_picture_too_large_to_be_safe_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: int) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(PictureError, match="more than 100 pixels"):
        read_picture(saved(tmp_path, Image.new("L", (side, side))), GREY)


def test_a_network_that_wants_other_channels_is_no_taker_of_pictures(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="4 channels"):
        read_picture(saved(tmp_path, Image.new("L", (8, 8))), (8, 8, 4))


def test_deep_greys_whose_white_is_zero_are_turned_round(tmp_path: Path) -> None:
    greys = np.linspace(0, 65_535, 64).round().astype(np.uint16).reshape(8, 8)
    Image.fromarray(greys).save(tmp_path / "plain.tif")
    Image.fromarray(65_535 - greys).save(tmp_path / "turned.tif", tiffinfo={262: 0})
    plain, turned = (read_seen(tmp_path / name, (8, 8, 1))[0] for name in ("plain.tif", "turned.tif"))
    assert np.array_equal(plain[..., 0], np.rint(greys / 257))
    assert np.array_equal(turned, plain)


def test_a_deep_grey_that_is_transparent_is_white(tmp_path: Path) -> None:
    greys = np.full((8, 8), 300 * 100, np.uint16)
    greys[2:4] = 1234
    Image.fromarray(greys).save(tmp_path / "clear.png", transparency=1234)
    seen = read_picture(tmp_path / "clear.png", (8, 8, 1))[..., 0]
    assert (seen[2:4] == 255).all()
    assert (seen[4:] == round(30_000 / 257)).all()
