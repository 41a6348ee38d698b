"""One content in every format gives the same splits; CIFAR-100's records; formats that nobody has heard of."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from resblock.core.files import write_json
from resblock.core.splits import Split, SplitName
from resblock.data import cifar10, cifar100
from resblock.data.collection import Collection, Files, Numbered, ReadError, Seen, Wishes
from resblock.data.cutting import divide
from resblock.data.download import RECORD, named
from resblock.data.preparing import write_collection
from resblock.data.review import read_review, write_review
from resblock.data.splits import write_splits
from resblock.data.table import DATASETS, READERS, find_dataset
from resblock.params import ParamsError
from tests.own import collect, cut, encoded, fill, preparation, put


@pytest.fixture
def few_cifar(tmp_path: Path) -> Path:
    """A folder of CIFAR-10's structure with 60 training images and 20 for the test."""
    folder = tmp_path / "cifar"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number, name in enumerate((*cifar10.TRAIN_FILES, cifar10.TEST_FILE)):
        count = 20 if name == cifar10.TEST_FILE else 40
        records = rng.integers(0, 256, (count, cifar10.RECORD), dtype=np.uint8)
        records[:, 0] = (np.arange(count) * 3 + number) % 10
        records.tofile(folder / name)
    return folder


def test_one_content_gives_the_same_splits_in_every_format(few_cifar: Path, tmp_path: Path) -> None:
    expected = cut(few_cifar, format="cifar10", test_fraction="official")[0]
    train, test = cifar10.read(few_cifar)
    content: dict[str, np.ndarray] = {}
    for name, split in (("train", train), ("test", test)):
        content |= {f"x_{name}": split.images, f"y_{name}": split.labels}
        rows: list[dict[str, object]] = []
        for number, (image, label) in enumerate(zip(split.images, split.labels, strict=True)):
            png = encoded(image)
            put(tmp_path / "png" / name / cifar10.CLASSES[label] / f"{number:05d}.png", png)
            rows.append({"image": {"bytes": png, "path": None}, "label": int(label)})
        (tmp_path / "hub").mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "hub" / f"{name}-0.parquet")
    np.savez(tmp_path / "keras.npz", allow_pickle=False, **content)
    assert expected.sizes == {"train": 180, "validation": 20, "test": 20}
    assert cut(tmp_path / "png", format="folder")[0].digests == expected.digests
    assert cut(tmp_path / "keras.npz", format="arrays")[0].digests == expected.digests
    assert cut(tmp_path / "hub", format="parquet")[0].digests == expected.digests
    assert cut(tmp_path / "png", format="folder")[0].classes == expected.classes == cifar10.CLASSES


@pytest.mark.parametrize("wish", [{"size": 64}, {"channels": 1}])
def test_files_that_are_taken_as_they_are_can_have_no_other_size_or_channels(
    few_cifar: Path, wish: dict[str, int]
) -> None:
    """Both were accepted and changed nothing."""
    with pytest.raises(ParamsError, match=r"these files are taken as they are, 32x32 pixels of 3 channels"):
        collect(few_cifar, format="cifar10", **wish)
    assert collect(few_cifar, format="cifar10", size=32, channels=3).image_shape == (32, 32, 3)


def make_cifar100(folder: Path) -> Path:
    """Write files of CIFAR-100's structure, its images one colour each."""
    for name, per_class in cifar100.PER_CLASS.items():
        fine = np.tile(np.arange(100, dtype=np.uint8), per_class)
        records = np.zeros((len(fine), cifar100.RECORD), np.uint8)
        records[:, 0], records[:, 1], records[:, 2:1026] = fine // 5, fine, fine[:, None]
        records[:, 1026] = np.arange(len(fine)) % 251
        put(folder / name, records.tobytes())
    put(folder / "fine_label_names.txt", "\n".join(f"fine{number:02d}" for number in range(100)).encode())
    put(folder / "coarse_label_names.txt", "\n".join(f"coarse{number:02d}" for number in range(20)).encode() + b"\n")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = make_cifar100(tmp_path_factory.mktemp("made") / "cifar100")
    yield folder
    for path in folder.iterdir():  # 180 MB
        path.unlink()


def test_cifar100_has_fine_labels_and_coarse_ones(made: Path) -> None:
    assert cifar100.structure_faults(made) == []
    fine, coarse = collect(made, format="cifar100"), collect(made, format="cifar100", label="coarse")
    assert (len(fine.classes), fine.classes[7]) == (100, "fine07")
    assert (len(coarse.classes), coarse.classes[3]) == (20, "coarse03")
    assert np.array_equal(coarse.labels, fine.labels // 5)
    assert np.bincount(fine.labels[fine.parts == 0]).tolist() == [500] * 100
    assert np.bincount(fine.labels[fine.parts == 2]).tolist() == [100] * 100
    picture = next(fine.pictures())
    assert isinstance(picture, Seen)
    assert picture.pixels.shape == (32, 32, 3)
    with pytest.raises(ReadError, match="label: got 'rough', must be fine or coarse"):
        collect(made, format="cifar100", label="rough")


def test_what_is_not_built_as_cifar100_says_in_what(made: Path, tmp_path: Path) -> None:
    for path in made.iterdir():
        (tmp_path / path.name).hardlink_to(path)
    test = bytearray((made / "test.bin").read_bytes())
    test[1] = 99
    (tmp_path / "test.bin").unlink()
    put(tmp_path / "test.bin", bytes(test))
    assert cifar100.structure_faults(tmp_path) == ["test.bin does not hold 100 images of each of 100 classes"]
    put(tmp_path / "test.bin", bytes(test[:-1]))
    assert cifar100.structure_faults(tmp_path) == ["test.bin has 30,739,999 bytes, expected 30,740,000"]
    with pytest.raises(ReadError, match=r"test\.bin: has 30,739,999 bytes, which is no whole number of records"):
        collect(tmp_path, format="cifar100")


def test_a_re_packed_cifar100_is_called_so(made: Path, tmp_path: Path) -> None:
    source = DATASETS["cifar100"].source
    source.fetch(tmp_path / "data/raw/cifar100", str(made), lambda _: None)
    assert named(source, tmp_path / "data/raw/cifar100") == f"{source}, re-packed (verified by its structure)"
    by_md5 = {"by": "md5 of the archive", "files": {}}
    write_json(tmp_path / "data/raw/cifar100" / RECORD, by_md5)
    assert named(source, tmp_path / "data/raw/cifar100") == str(source)
    shutil.rmtree(tmp_path / "data")  # 180 MB


def test_cifar100_is_known_by_its_published_md5() -> None:
    source = DATASETS["cifar100"].source
    assert getattr(source, "md5", "") == "03b5dce01913d631647c71ecec9e9cb8"  # Krizhevsky's page


def test_a_made_up_format_needs_a_reader_and_no_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file of lines: a word and a grey."""

    def read(files: Files, wishes: Wishes) -> Collection:
        lines = files.path(files.ending(".greys")[0]).read_text().split("\n")
        words, greys = zip(*(line.split() for line in lines), strict=True)
        classes = tuple(sorted(set(words)))
        images = [np.full((4, 4, 1), int(grey), np.uint8) for grey in greys]
        labels = np.array([classes.index(word) for word in words], np.int32)
        parts = np.zeros(len(labels), np.int8)
        names = Numbered([(len(labels), "line ")])
        return Collection(classes, labels, parts, (4, 4, 1), lambda: (Seen(i, (4, 4)) for i in images), names)

    monkeypatch.setitem(READERS, "greys", read)
    put(tmp_path / "my.greys", "\n".join(f"{'ab'[number % 2]} {number}" for number in range(60)).encode())
    described, review, splits = cut(tmp_path / "my.greys", format="greys")
    assert described.sizes == {"train": 43, "validation": 5, "test": 12}
    assert described.classes == ("a", "b")
    assert all((split.images[:, 0, 0, 0] % 2 == split.labels).all() for split in splits.values())
    assert review.image_shape == (4, 4, 1)


def test_an_unknown_format_names_those_there_are(tmp_path: Path) -> None:
    fill(tmp_path / "mine", "a", "b")
    with pytest.raises(
        ParamsError, match=r"data\.mine\.format: got 'tfrecord', must be one of folder, arrays, parquet"
    ):
        collect(tmp_path / "mine", format="tfrecord")


def test_a_source_in_its_place_is_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParamsError, match="unknown data set 'mine'"):
        find_dataset("mine")
    fill(tmp_path / "sources/mine", "a", "b")
    assert str(find_dataset("mine").source) == "sources/mine"


def test_splits_that_are_written_as_pictures_come_are_the_same_files(
    few_digits: dict[SplitName, Split], tmp_path: Path
) -> None:
    write_splits(tmp_path / "one", few_digits, name="d", classes=tuple("0123456789"), source="x")
    for name, split in few_digits.items():
        for kind, array in (("images", split.images), ("labels", split.labels)):
            np.save(tmp_path / "expected.npy", array)
            assert (tmp_path / f"one/{name}_{kind}.npy").read_bytes() == (tmp_path / "expected.npy").read_bytes()


def test_auto_takes_what_is_official_and_cuts_the_rest() -> None:
    labels, ships = np.arange(100, dtype=np.int32) % 2, np.zeros(100, np.int8)
    sizes = {name: len(indices) for name, indices in divide(labels, ships, preparation(), "x").items()}
    assert sizes == {"train": 72, "validation": 8, "test": 20}
    ships[50:] = 2
    assert divide(labels, ships, preparation(), "x")["test"].tolist() == list(range(50, 100))
    ships[40:50] = 1
    assert divide(labels, ships, preparation(), "x")["validation"].tolist() == list(range(40, 50))
    with pytest.raises(ParamsError, match=r"validation_fraction: got 0\.1, must be official: x ships a validation set"):
        divide(labels, ships, preparation(validation_fraction=0.1), "x")


def test_classes_may_be_named_if_there_are_as_many(tmp_path: Path) -> None:
    fill(tmp_path / "mine", "a", "b")
    assert collect(tmp_path / "mine", classes=["first", "second"]).classes == ("first", "second")
    with pytest.raises(ReadError, match="classes: got 3 names, the data have 2 classes: 'a', 'b'"):
        collect(tmp_path / "mine", classes=["first", "second", "third"])


def test_a_review_comes_back(tmp_path: Path) -> None:
    fill(tmp_path / "mine", "a", "b")
    put(tmp_path / "mine/a/bad.png", b"bad")
    review = cut(tmp_path / "mine", on_error="skip")[1]
    write_review(tmp_path / "review.json", review)
    assert read_review(tmp_path / "review.json") == review


def test_a_full_disk_leaves_no_half_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "mine", "a", "b")
    collection = collect(tmp_path / "mine")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("resblock.data.splits.os.fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_collection(tmp_path / "splits", collection, preparation(), name="mine", source="x")
    assert str(caught.value.filename).endswith("_images.npy")
    assert list((tmp_path / "splits").iterdir()) == []


def test_progress_reaches_the_end(tmp_path: Path) -> None:
    fill(tmp_path / "mine", "a", "b")
    seen: list[tuple[int, int]] = []
    collection = collect(tmp_path / "mine")
    write_collection(
        tmp_path / "splits",
        collection,
        preparation(),
        name="m",
        source="x",
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(0, 20), (20, 20)]
