"""Folders of pictures: how classes and splits are told apart, what is left aside, what is refused."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resblock.core.errors import UserError
from resblock.core.files import read_json
from resblock.data import decoding
from resblock.data.collection import ReadError
from resblock.data.decoding import Encoded, decoded
from resblock.data.listing import LISTING, Own
from resblock.data.review import read_review, write_review
from tests.own import collect, cut, encoded, fill, images_of, pixels, put


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of the user's, empty."""
    (tmp_path / "mine").mkdir()
    return tmp_path / "mine"


def test_folders_are_classes_in_the_order_of_their_names(root: Path) -> None:
    fill(root, "b", "a", each=3)
    collection = collect(root, size=8)
    assert collection.classes == ("a", "b")
    assert collection.names == ["a/000.png", "b/000.png", "a/001.png", "b/001.png", "a/002.png", "b/002.png"]
    assert collection.labels.tolist() == [0, 1] * 3
    assert collection.ships == {"train"}
    assert np.array_equal(next(images_of(collection)), pixels(1000))


@pytest.mark.parametrize("word", ["val", "validation", "valid", "VAL"])
def test_folders_called_as_splits_are_splits(root: Path, word: str) -> None:
    for number, split in enumerate(("train", word, "test")):
        fill(root, f"{split}/a", f"{split}/b", each=4, first=10_000 * number)
    collection = collect(root, size=8)
    assert collection.classes == ("a", "b")
    assert collection.ships == {"train", "validation", "test"}
    described, _, splits = cut(root, size=8)
    assert described.sizes == {"train": 8, "validation": 8, "test": 8}
    assert np.array_equal(splits["test"].images[0], pixels(20_000))


def test_a_class_may_be_called_train(root: Path) -> None:
    fill(root, "train", "plane", "ship")
    assert collect(root).classes == ("plane", "ship", "train")
    fill(root, "test")
    assert collect(root).classes == ("plane", "ship", "test", "train")


def test_classes_called_train_and_test_alone_are_classes(root: Path) -> None:
    fill(root, "train", "test")
    found = collect(root)
    assert found.classes == ("test", "train")
    assert "'test' and 'train' are read as classes" in found.notes[0]


def test_splits_beside_other_folders_are_refused(root: Path) -> None:
    fill(root, "train/a", "train/b", "test/a", "test/b", "extra")
    with pytest.raises(ReadError, match=r"test, train look like splits, but 'extra' beside them do not"):
        collect(root)


def test_nested_folders_belong_to_their_class(root: Path) -> None:
    fill(root, "a/deep/deeper", "a/other", "b")
    collection = collect(root, size=8)
    assert collection.classes == ("a", "b")
    assert np.bincount(collection.labels).tolist() == [20, 10]


def test_what_systems_leave_in_folders_is_passed_over(root: Path) -> None:
    fill(root, "a", "b")
    for name in (".DS_Store", "a/Thumbs.db", "b/desktop.ini", "__MACOSX/a/x.png", ".hidden/x.png", "a/._000.png"):
        put(root / name, b"junk")
    put(root / "a/notes.txt", b"words")
    put(root / "loose.png", encoded(pixels(0)))
    collection = collect(root, size=8)
    assert collection.classes == ("a", "b")
    assert len(collection.labels) == 20
    assert collection.notes == (
        "1 file that is no picture was left aside",
        "1 picture that lies in no folder of a class was left aside",
    )


def test_endings_count_in_either_case(root: Path) -> None:
    fill(root, "a", "b", each=2)
    put(root / "a/UPPER.PNG", encoded(pixels(5)))
    put(root / "b/photo.JPeG", encoded(pixels(6), "JPEG"))
    assert len(collect(root).labels) == 6


NAMES = ["with space", 'quo"te', "it's", "new\nline", "naïve", "שלום", "日本", "$x$", "-rf", "a,b", "%s{}", "tab\there"]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_a_class(root: Path, name: str) -> None:
    fill(root, name, "other", each=15)
    put(root / name / f"{name}.png", encoded(pixels(77)))
    described, review, splits = cut(root, size=8)
    assert set(described.classes) == {name, "other"}
    assert sum(described.sizes.values()) == 31
    assert any(np.array_equal(image, pixels(77)) for split in splits.values() for image in split.images)
    assert review.classes == described.classes
    write_review(root.parent / "review.json", review)
    assert read_review(root.parent / "review.json") == review
    assert "notes" not in read_json(root.parent / "review.json")  # none, and `dvc plots show` fails at an empty list


def test_a_name_that_is_no_text_is_told_of(root: Path) -> None:
    fill(root, "a", "b")
    bad = os.fsencode(root / "a") + b"/\xff.png"
    Path(os.fsdecode(bad)).write_bytes(encoded(pixels(1)))
    with pytest.raises(ReadError, match="has a name that is no UTF-8"):
        cut(root, size=8)
    assert sum(cut(root, size=8, on_error="skip")[0].sizes.values()) == 20


UNREADABLE = {
    "truncated": (encoded(pixels(1, 40))[:200], "is broken"),
    "empty": (b"", "is empty"),
    "text": (b"no picture", "is no PNG"),
    "half a jpeg": (encoded(pixels(1, 40), "JPEG")[:300], "is broken"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_an_unreadable_picture_is_listed_and_refused_or_skipped_and_counted(root: Path, kind: str) -> None:
    content, reason = UNREADABLE[kind]
    fill(root, "a", "b")
    put(root / "a/bad.png", content)
    with pytest.raises(ReadError) as caught:
        cut(root, size=8)
    assert str(caught.value).startswith("data.mine: 1 picture cannot be read\n  'a/bad.png' ")
    assert reason in str(caught.value)
    assert "set data.mine.on_error: skip" in str(caught.value)
    assert list((root.parent / "splits-mine").iterdir()) == []  # nothing half-written
    described, review, _ = cut(root, size=8, on_error="skip")
    assert sum(described.sizes.values()) == 20
    assert list(review.skipped) == ["a/bad.png"]
    assert any("1 picture could not be read and was skipped: a/bad.png" in each for each in review.warnings())


def test_a_skipped_picture_leaves_the_splits_as_if_it_were_not_there(root: Path) -> None:
    fill(root, "a", "b")
    without = cut(root, size=8)[0]
    put(root / "a/005x.png", b"bad")
    assert cut(root, size=8, on_error="skip")[0].digests == without.digests


def png_of(width: int, height: int) -> bytes:
    """Return a PNG that says it has so many pixels and holds none of them."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        total = zlib.crc32(kind + content)
        return len(content).to_bytes(4, "big") + kind + content + total.to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_a_picture_of_fifty_thousand_pixels_a_side_is_refused_unopened(root: Path) -> None:
    fill(root, "a", "b")
    put(root / "b/bomb.png", png_of(50_000, 50_000))
    with pytest.raises(ReadError, match=r"'b/bomb.png' has more than [\d,]+ pixels; make it smaller first"):
        cut(root, size=8)


def test_links_that_leave_the_folder_are_refused_and_others_followed(root: Path) -> None:
    fill(root, "a", "b")
    put(root.parent / "secret.png", encoded(pixels(9)))
    (root / "a/inside.png").symlink_to(root / "b/000.png")
    (root / "b/folder").symlink_to(root / "a")
    assert len(collect(root).labels) == 21
    (root / "a/outside.png").symlink_to(root.parent / "secret.png")
    with pytest.raises(ReadError, match=r"'a/outside.png' is a link that leaves the folder"):
        cut(root, size=8)
    (root / "a/outside.png").unlink()
    (root / "a/gone.png").symlink_to(root / "nowhere.png")
    with pytest.raises(ReadError, match=r"'a/gone.png' is a link to nothing"):
        cut(root, size=8)


def test_a_folder_without_permission_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(root, "a", "b")
    scan = os.scandir

    def locked(path: Path) -> object:
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr("resblock.data.listing.os.scandir", locked)  # root may look into any
    with pytest.raises(ReadError, match=r"mine/b: cannot be looked into \(Permission denied\)"):
        collect(root)


@pytest.mark.parametrize("there", ["nothing", "loose pictures", "no pictures"])
def test_a_folder_without_classes_is_refused(root: Path, there: str) -> None:
    if there == "loose pictures":
        put(root / "x.png", encoded(pixels(0)))
    if there == "no pictures":
        put(root / "a/words.txt", b"words")
    with pytest.raises(ReadError, match="no pictures in folders that name their classes; expected"):
        collect(root)


def test_one_class_is_refused(root: Path) -> None:
    fill(root, "a")
    with pytest.raises(ReadError, match="there is one class only"):
        cut(root)


def test_two_hundred_classes_of_one_picture_are_refused(root: Path) -> None:
    fill(root, *(f"class-{number:03d}" for number in range(200)), each=1)
    told = r"data\.mine: 200 of 200 classes have fewer than 3 images \('class-000', .* …\), and each needs one for"
    with pytest.raises(UserError, match=told):
        cut(root)


def test_a_small_honest_set_is_cut_so_that_each_class_is_in_every_split(root: Path) -> None:
    """Eight classes of ten: a tenth of what is left after the test would be seven pictures to validate by."""
    fill(root, *(f"class-{number}" for number in range(8)), each=10)
    _, review, _ = cut(root, size=8)
    assert {name: min(counts) for name, counts in review.counts.items()} == {"train": 7, "validation": 1, "test": 2}


def test_a_class_that_is_a_link_out_of_the_folder_is_told_of(root: Path) -> None:
    fill(root, "a", "b", each=15)
    fill(root.parent / "elsewhere", "c", each=15)
    (root / "c").symlink_to(root.parent / "elsewhere/c")
    _, review, _ = cut(root, size=8)
    assert review.classes == ("a", "b")
    assert "'c' is a link that leaves the folder, and was left aside" in review.warnings()


def test_a_skipped_name_shows_no_control_letters(root: Path) -> None:
    fill(root, "a", "b", each=15)
    put(root / "a/bro\nken\x1b[31m.png", b"no picture")
    _, review, _ = cut(root, size=8, on_error="skip")
    (told,) = [each for each in review.warnings() if "skipped" in each]
    assert told.isprintable()


def test_a_class_too_small_to_be_tested_is_refused(root: Path) -> None:
    fill(root, "a", "b", each=30)
    fill(root, "few", each=4, first=5000)
    with pytest.raises(ReadError, match=r"1 class is too small to have a test picture: 'few'"):
        cut(root, test_fraction=0.05)


def test_equal_pictures_are_counted_and_a_test_set_of_copies_is_refused(root: Path) -> None:
    for number, split in enumerate(("train", "test")):
        fill(root, f"{split}/a", f"{split}/b", each=10, first=10_000 * number)
    for number in (0, 1):
        put(root / f"test/a/copy{number}.png", encoded(pixels(number)))
    put(root / "test/b/other.png", encoded(pixels(2)))  # of class a in training
    _, review, _ = cut(root, size=8)
    assert review.repeated["test"] == 3
    assert review.contradictory == 1
    assert any("3 of the test images (13.0 %) equal a training image" in each for each in review.warnings())
    for number in range(3, 10):
        for label, first in (("a", 0), ("b", 1000)):
            put(root / f"test/{label}/again{number}.png", encoded(pixels(first + number)))
            (root / f"test/{label}/{number:03d}.png").unlink()
    with pytest.raises(ReadError, match=r"test images equal training images to the pixel, so accuracy .* memory"):
        cut(root, size=8)


def test_a_test_set_of_validation_images_is_refused(root: Path) -> None:
    fill(root, "train/a", "train/b")
    fill(root, "val/a", "val/b", first=5000)
    fill(root, "test/a", "test/b", first=9000)
    put(root / "test/a/copy.png", encoded(pixels(5000)))
    put(root / "test/a/again.png", encoded(pixels(9000)))
    review = cut(root, size=8)[1]
    assert (review.shared, review.repeated_within, review.repeated["test"]) == (1, 1, 0)
    assert "1 test image equals a validation image to the pixel; networks are chosen by those" in review.warnings()
    assert any(each.startswith("1 image equals another of the same split") for each in review.warnings())
    fill(root, "test/a", "test/b", first=5000)
    with pytest.raises(ReadError, match=r"test images equal validation images to the pixel, by which networks"):
        cut(root, size=8)


def test_a_class_of_which_nothing_can_be_read_is_named(root: Path) -> None:
    fill(root, "a", "b")
    for path in (root / "a").iterdir():
        path.write_text("no picture")
    with pytest.raises(ReadError, match="no picture of 'a' can be read"):
        cut(root, size=8, on_error="skip")


def test_wild_imbalance_is_told_of(root: Path) -> None:
    fill(root, "many", each=110)
    fill(root, "few", each=10, first=5000)
    review = cut(root, size=8)[1]
    assert review.imbalance > 10
    assert any("always names the largest is right on 91.7 %" in each for each in review.warnings())


def test_pictures_of_several_sizes_are_cut_to_one(root: Path) -> None:
    for number in range(20):
        tall, wide = 40 + number, 90 - number
        put(root / f"{'ab'[number % 2]}/{number:02d}.jpg", encoded(pixels(number, 90)[:tall, :wide], "JPEG"))
        put(root / f"{'ab'[number % 2]}/n{number:02d}.png", encoded(pixels(100 + number, 30)))
    described, review, _ = cut(root, size=32)
    assert described.image_shape == (32, 32, 3)
    assert (review.smallest, review.largest, review.enlarged) == ((30, 30), (71, 59), 20)


def test_what_is_not_said_follows_from_the_pictures(root: Path) -> None:
    fill(root, "a", "b")
    assert collect(root).image_shape == (8, 8, 3)
    for number in range(10):
        put(root / f"a/{number:03d}.png", encoded(pixels(number, 50)))
    assert collect(root).image_shape == (64, 64, 3)
    wide = root.parent / "wide"
    for number in range(20):
        put(wide / f"{'ab'[number % 2]}/{number}.png", encoded(pixels(number, 40)[:30]))
    assert collect(wide).image_shape == (30, 30, 3)  # none needs to be enlarged
    assert collect(root, size=20, channels=1).image_shape == (20, 20, 1)


def test_grey_pictures_stay_grey(root: Path) -> None:
    for number in range(20):
        put(root / f"{'ab'[number % 2]}/{number:02d}.png", encoded(pixels(number, 8, 1)))
    collection = collect(root)
    assert collection.image_shape == (8, 8, 1)
    assert np.array_equal(next(images_of(collection)), pixels(0, 8, 1))


def test_the_first_frame_of_an_animation_counts(root: Path) -> None:
    fill(root, "a", "b", each=2)
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(root / "a/000.gif", save_all=True, append_images=frames[1:])
    collection = collect(root, size=8)
    shown = dict(zip(collection.names, images_of(collection), strict=True))
    assert shown["a/000.gif"][0, 0].tolist() == [255, 0, 0]


def test_any_number_of_processes_gives_the_same_bytes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "AT_ONCE", 3)
    pictures = [Encoded(encoded(pixels(number, 12), "JPEG")) for number in range(40)]
    pictures[7] = Encoded(b"bad")
    one = list(decoded(pictures, len(pictures), (8, 8, 3), processes=1))
    two = list(decoded(pictures, len(pictures), (8, 8, 3), processes=2))
    assert [type(each) for each in one] == [type(each) for each in two]
    for first, second in zip(one, two, strict=True):
        assert np.array_equal(first[0], second[0])


def test_the_list_changes_with_content_and_names_and_not_with_a_touch(root: Path) -> None:
    fill(root, "a", "b", each=2)
    seen = [Own(root).digests[LISTING]]
    os.utime(root / "a/000.png", (1, 1))
    assert Own(root).digests[LISTING] == seen[0]
    put(root / "a/000.png", encoded(pixels(99)))
    seen.append(Own(root).digests[LISTING])
    (root / "a/001.png").rename(root / "a/renamed.png")
    seen.append(Own(root).digests[LISTING])
    put(root / "b/added.png", encoded(pixels(98)))
    seen.append(Own(root).digests[LISTING])
    assert len(set(seen)) == 4


def test_a_picture_that_changed_after_it_was_listed_is_told_of(root: Path) -> None:
    fill(root, "a", "b")
    collection = collect(root, size=8)
    put(root / "a/000.png", encoded(pixels(99)))
    with pytest.raises(ReadError, match=r"a/000\.png: has changed since it was listed; run the same command again"):
        list(collection.pictures())


def test_a_missing_or_dangling_source_says_what_to_do(root: Path) -> None:
    with pytest.raises(ReadError, match=r"nowhere: is not there; `resblock data add nowhere PATH` links"):
        collect(root / "nowhere")
    (root / "link").symlink_to("/nowhere/at/all")
    with pytest.raises(ReadError, match=r"links to /nowhere/at/all, which is not there"):
        collect(root / "link")


def test_training_and_validation_folders_without_a_test_are_splits(root: Path) -> None:
    fill(root, "train/ant", "train/bee", each=20)
    fill(root, "val/ant", "val/bee", each=5, first=5000)
    described, _, _ = cut(root, size=8)
    assert described.classes == ("ant", "bee")
    assert described.sizes == {"train": 32, "validation": 10, "test": 8}


def test_a_test_folder_without_classes_is_left_aside_and_told_of(root: Path) -> None:
    fill(root, "train/ant", "train/bee", each=20)
    fill(root, "test", each=7, first=5000)
    described, review, _ = cut(root, size=8)
    assert described.classes == ("ant", "bee")
    assert sum(described.sizes.values()) == 40
    assert "7 pictures that lie in no folder of a class were left aside" in review.notes


def test_a_single_picture_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="is one file; name the folder that holds a folder for each class"):
        collect(put(tmp_path / "one.png", encoded(pixels(1))))
    with pytest.raises(ReadError, match=r"mine\.zip: is an archive; unpack it, and name the folder"):
        collect(put(tmp_path / "mine.zip", b"PK"))
