"""Arrays as Keras and MedMNIST ship them, and archives that are something else."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resblock.core.errors import UserError
from resblock.data import arrays
from resblock.data.collection import ReadError
from tests.own import collect, cut, images_of, pixels, put

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 6, 6, 3), dtype=np.uint8)
LABELS = np.arange(40) % 4


def save(folder: Path, **content: Any) -> Path:
    np.savez_compressed(folder / "set.npz", **content)
    return folder / "set.npz"


@pytest.fixture
def read_refused(tmp_path: Path) -> Any:
    """Hold that arrays are refused with a message that names the file."""

    def refused(match: str, **content: Any) -> None:
        path = save(tmp_path, **content)
        with pytest.raises(ReadError, match=match) as caught:
            collect(path, format="arrays")
        assert "set.npz" in str(caught.value)

    return refused


def test_keras_arrays_are_read_with_their_test_set(tmp_path: Path) -> None:
    path = save(tmp_path, x_train=IMAGES[:30], y_train=LABELS[:30], x_test=IMAGES[30:], y_test=LABELS[30:])
    collection = collect(path, format="arrays")
    assert collection.classes == ("0", "1", "2", "3")
    assert collection.ships == {"train", "test"}
    assert collection.image_shape == (6, 6, 3)
    assert np.array_equal(np.stack(list(images_of(collection))), IMAGES)
    assert np.array_equal(collection.labels, LABELS)
    assert cut(path, format="arrays", validation_fraction=0.2)[0].sizes == {"train": 24, "validation": 6, "test": 10}


def test_medmnist_arrays_are_read_with_all_three_splits(tmp_path: Path) -> None:
    labels = (LABELS + 5).reshape(-1, 1).astype(np.uint8)  # a column, not from 0
    content: dict[str, np.ndarray] = {}
    for split, part in (("train", slice(0, 20)), ("val", slice(20, 30)), ("test", slice(30, 40))):
        content |= {f"{split}_images": IMAGES[part, :, :, 0], f"{split}_labels": labels[part]}
    path = save(tmp_path, **content)
    described, _, splits = cut(path, format="arrays", classes=["a", "b", "c", "d"])
    assert described.sizes == {"train": 20, "validation": 10, "test": 10}
    assert described.classes == ("a", "b", "c", "d")
    assert described.image_shape == (6, 6, 1)
    assert np.array_equal(splits["validation"].images[..., 0], IMAGES[20:30, :, :, 0])
    assert np.array_equal(splits["test"].labels, LABELS[30:])


def test_arrays_are_read_in_parts_and_resized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "AT_ONCE", 250)  # two images
    path = save(tmp_path, x_train=IMAGES, y_train=LABELS)
    assert np.array_equal(np.stack(list(images_of(collect(path, format="arrays")))), IMAGES)
    assert next(images_of(collect(path, format="arrays", size=12, channels=1))).shape == (12, 12, 1)


def test_numbers_with_and_without_a_sign_stay_whole(tmp_path: Path) -> None:
    """NumPy joins the two as floating-point numbers: classes were called 0.0 and 1.0."""
    large = LABELS.astype(np.uint64) + 2**60
    path = save(
        tmp_path, x_train=IMAGES[:30], y_train=large[:30], x_test=IMAGES[30:], y_test=large[30:].astype(np.int64)
    )
    assert collect(path, format="arrays").classes == tuple(str(2**60 + number) for number in range(4))


def test_words_may_be_labels(tmp_path: Path) -> None:
    path = save(tmp_path, x_train=IMAGES, y_train=np.array(["cat", "dog"] * 20))
    assert collect(path, format="arrays").classes == ("cat", "dog")


def test_what_does_not_fit_is_refused(read_refused: Any) -> None:
    read_refused("expected x_train and y_train", images=IMAGES, labels=LABELS)
    read_refused("expected x_train and y_train", x_test=IMAGES, y_test=LABELS)
    read_refused(r"expected one array of train images and one of labels", x_train=IMAGES)
    read_refused(
        r"x_train.npy is float32 \(40, 6, 6, 3\); expected uint8", x_train=IMAGES / np.float32(1), y_train=LABELS
    )
    read_refused(r"x_train.npy is uint8 \(40, 6, 6, 2\); expected", x_train=IMAGES[..., :2], y_train=LABELS)
    read_refused(r"x_train.npy is uint8 \(40, 0, 6, 3\); expected", x_train=IMAGES[:, :0], y_train=LABELS)
    read_refused(r"expected a whole number or a word for each of 40 images", x_train=IMAGES, y_train=LABELS[:39])
    read_refused(r"expected a whole number or a word", x_train=IMAGES, y_train=np.ones((40, 14), int))
    read_refused(r"holds Python objects", x_train=IMAGES, y_train=np.array([{}] * 40, dtype=object))


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04cut"])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ReadError, match=r"set\.npz: cannot be read"):
        collect(put(tmp_path / "set.npz", content), format="arrays")


def test_a_cut_archive_is_refused(tmp_path: Path) -> None:
    whole = save(tmp_path, x_train=IMAGES, y_train=LABELS).read_bytes()
    with pytest.raises(ReadError, match=r"set\.npz: cannot be read"):
        collect(put(tmp_path / "set.npz", whole[: len(whole) // 2]), format="arrays")


def test_damaged_pixels_leave_nothing_behind(tmp_path: Path) -> None:
    path = save(tmp_path, x_train=IMAGES, y_train=LABELS)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 3] ^= 255
    path.write_bytes(damaged)
    with pytest.raises(ReadError, match=r"set\.npz: cannot be read"):
        cut(path, format="arrays")
    assert list((tmp_path / "splits-set.npz").glob("*")) == []


def test_an_archive_that_unpacks_to_what_no_pictures_do_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "SAFE", 100_000)
    path = save(tmp_path, x_train=np.zeros((2000, 16, 16), np.uint8), y_train=np.arange(2000) % 2)
    with pytest.raises(ReadError, match=r"x_train.npy unpacks from [\d,]+ bytes to 512,128; no pictures do that"):
        collect(path, format="arrays")


def test_a_header_that_lies_about_its_length_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.npz", "w") as archive:
        for name, shape in (("x_train", (10**9, 100, 100)), ("y_train", (10**9,))):
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with pytest.raises(ReadError, match="does not hold what its header says"):
        collect(tmp_path / "set.npz", format="arrays")


def test_several_archives_are_one_too_many(tmp_path: Path) -> None:
    for name in ("one", "two"):
        np.savez(tmp_path / f"{name}.npz", x_train=IMAGES)
    with pytest.raises(ReadError, match=r"expected one \.npz, found 2"):
        collect(tmp_path, format="arrays")


def test_words_in_bytes_are_words(tmp_path: Path) -> None:
    images = np.stack([pixels(number) for number in range(6)])
    np.savez(tmp_path / "my.npz", x_train=images, y_train=np.array([b"cat", b"dog"] * 3))
    assert collect(tmp_path / "my.npz", format="arrays").classes == ("cat", "dog")


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_archive_is_told_of(tmp_path: Path, seed: int) -> None:
    images = np.stack([pixels(number) for number in range(20)])
    np.savez_compressed(tmp_path / "my.npz", x_train=images, y_train=np.arange(20) % 2)
    content, dice = bytearray((tmp_path / "my.npz").read_bytes()), np.random.default_rng(seed)
    for place in dice.integers(0, len(content), 3):
        content[place] ^= int(dice.integers(1, 256))
    (tmp_path / "my.npz").write_bytes(bytes(content))
    try:
        list(collect(tmp_path / "my.npz", format="arrays").pictures())
    except UserError as error:
        assert "my.npz" in str(error)


def test_a_header_that_is_no_header_is_told_of(tmp_path: Path) -> None:
    images = np.stack([pixels(number) for number in range(6)])
    np.savez(tmp_path / "my.npz", x_train=images, y_train=np.arange(6) % 2)
    content = (tmp_path / "my.npz").read_bytes().replace(b"'shape': (6, 8, 8, 3)", b"'shape': (6, (8, 8, 3")
    with zipfile.ZipFile(tmp_path / "my.npz", "w") as archive:
        archive.writestr("x_train.npy", content[content.index(b"\x93NUMPY") :])
    with pytest.raises(ReadError, match="cannot be read"):
        collect(tmp_path / "my.npz", format="arrays")
