"""How data sets are read and cut, and that the cuts stay what they are."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from resblock.core.seeds import generator
from resblock.core.splits import (
    DatasetDescription,
    Split,
    SplitName,
    read_description,
    read_split,
)
from resblock.data import cifar10
from resblock.data.collection import in_memory
from resblock.data.digits import read as read_digits
from resblock.data.download import Packaged
from resblock.data.splits import stratified, write_splits
from resblock.data.table import DATASETS, Dataset, find_dataset, prepare
from resblock.params import ParamsError, Preparation

Cut = dict[SplitName, Split]


def preparation(**choices: float | str) -> Preparation:
    return Preparation.model_validate(
        {"test_fraction": 0.2, "validation_fraction": 0.1, "split_seed": 0, **choices}, strict=True
    )


def numbered(labels: np.ndarray) -> Split:
    """Images that carry their own number, so that a cut shows which of them it took."""
    numbers = np.arange(len(labels))
    images = np.stack([numbers // 256, numbers % 256], axis=-1).astype(np.uint8).reshape(-1, 1, 2, 1)
    return Split(images, labels)


def numbers_in(split: Split) -> list[int]:
    return [int(high) * 256 + int(low) for high, low in split.images.reshape(-1, 2)]


LABELS = generator(0, "labels").permutation(np.repeat(np.arange(3, dtype=np.int32), [500, 300, 45]))
TEST = numbered(np.arange(3, dtype=np.int32).repeat(7))


def dataset(test: Split | None) -> Dataset:
    """A data set of 845 numbered images, with an official test set or without."""
    return Dataset(
        "fabricated", Packaged("none", {}), lambda files, wishes: in_memory(numbered(LABELS), test, ("a", "b", "c"))
    )


def cut(test: Split | None, **choices: float | str) -> Cut:
    return prepare(dataset(test), Path("nowhere"), preparation(**choices))


def test_every_image_lies_in_one_split_with_its_own_label() -> None:
    splits = cut(None)
    numbers = [number for split in splits.values() for number in numbers_in(split)]
    assert sorted(numbers) == list(range(845))
    for split in splits.values():
        assert split.labels.tolist() == LABELS[numbers_in(split)].tolist()


def test_classes_keep_their_shares() -> None:
    splits = cut(None)
    counts = {name: np.bincount(split.labels, minlength=3) for name, split in splits.items()}
    rest = np.array([500, 300, 45]) - counts["test"]
    assert np.abs(counts["test"] - 0.2 * np.array([500, 300, 45])).max() <= 1
    assert np.abs(counts["validation"] - 0.1 * rest).max() <= 1


@given(
    st.lists(st.integers(20, 60), min_size=2, max_size=6),
    st.floats(0.1, 0.9),
    st.integers(0, 2**32 - 1),
)
def test_stratified_cuts_hold_for_any_classes(counts: list[int], fraction: float, seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    rest, part = stratified(labels, fraction, seed)
    assert sorted([*rest, *part]) == list(range(len(labels)))
    assert np.all(np.diff(rest) > 0)
    assert np.all(np.diff(part) > 0)
    assert len(part) == math.ceil(fraction * len(labels))
    proportion = np.array(counts) * len(part) / len(labels)
    assert np.abs(np.bincount(labels[part], minlength=len(counts)) - proportion).max() < 1


def test_a_cut_follows_from_its_seed() -> None:
    first, again, other = (cut(None, split_seed=seed) for seed in (0, 0, 1))
    for name in first:
        assert np.array_equal(first[name].images, again[name].images)
        assert not np.array_equal(first[name].images, other[name].images)


def test_an_official_test_set_stays_as_it_is() -> None:
    splits = cut(TEST, test_fraction="official")
    assert np.array_equal(splits["test"].images, TEST.images)
    assert np.array_equal(splits["test"].labels, TEST.labels)
    assert len(splits["validation"].labels) == 85  # a tenth of 845, rounded up
    assert sorted(numbers_in(splits["train"]) + numbers_in(splits["validation"])) == list(range(845))


@pytest.mark.parametrize(
    ("test", "choices", "message"),
    [
        (
            TEST,
            {"test_fraction": 0.2},
            "data.fabricated.test_fraction: got 0.2, must be official: fabricated ships a test set",
        ),
        (
            None,
            {"test_fraction": "official"},
            "data.fabricated.test_fraction: got 'official', must be a fraction in (0, 1): fabricated ships no test set",
        ),
        (
            None,
            {"test_fraction": 0.001},
            "data.fabricated: test_fraction 0.001 of ",
        ),
    ],
    ids=["a fraction of an official test set", "official without a test set", "fewer images than classes"],
)
def test_a_cut_that_cannot_be_names_its_key(test: Split | None, choices: dict[str, float | str], message: str) -> None:
    with pytest.raises(ParamsError) as caught:
        cut(test, **choices)
    assert str(caught.value).startswith(message)


def test_an_unknown_dataset_names_those_there_are() -> None:
    with pytest.raises(
        ParamsError,
        match=r"unknown data set 'mnist': there are digits, cifar10, cifar100, and sources/mnist is not there",
    ):
        find_dataset("mnist")


def test_digits_are_those_of_scikit_learn(digits_folder: Path) -> None:
    everything, test = read_digits(digits_folder)
    library = load_digits()
    assert test is None
    assert everything.images.shape == (1797, 8, 8, 1)
    assert everything.images.dtype == np.uint8
    assert everything.labels.dtype == np.int32
    assert np.array_equal(everything.labels, library.target)
    assert np.abs(everything.images[..., 0] - library.images * 255 / 16).max() <= 0.5
    assert everything.images.max() == 255


def test_digits_are_cut_as_params_yaml_says(digits: Cut) -> None:
    sizes = {name: len(split.labels) for name, split in digits.items()}
    assert sizes == {"train": 1293, "validation": 144, "test": 360}  # 360 of 1,797; 144 of the other 1,437
    # The classes' sizes as scikit-learn's documentation lists them.
    counts = np.sum([np.bincount(split.labels) for split in digits.values()], axis=0)
    assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_cifar10_records_are_a_label_and_three_planes(tmp_path: Path) -> None:
    record = np.zeros(3073, np.uint8)
    record[0] = 6
    for channel, row, column, value in ((0, 0, 1, 10), (1, 2, 3, 20), (2, 31, 31, 30)):
        record[1 + 1024 * channel + 32 * row + column] = value
    for name in cifar10.TRAIN_FILES:
        record.tofile(tmp_path / name)
    np.concatenate([record, record]).tofile(tmp_path / cifar10.TEST_FILE)
    train, test = cifar10.read(tmp_path)
    assert train.images.shape == (5, 32, 32, 3)
    assert test.images.shape == (2, 32, 32, 3)
    assert test.labels.tolist() == [6, 6]
    image = np.zeros((32, 32, 3), np.uint8)  # height, width, channel
    image[0, 1, 0], image[2, 3, 1], image[31, 31, 2] = 10, 20, 30
    assert all(np.array_equal(found, image) for found in (*train.images, *test.images))


def test_cifar10_keeps_its_official_test_set(tmp_path: Path) -> None:
    records = generator(0, "records").integers(0, 256, (100, 3073)).astype(np.uint8)
    records[:, 0] = np.arange(100) % 10
    for number, name in enumerate((*cifar10.TRAIN_FILES, cifar10.TEST_FILE)):
        labelled = np.column_stack([records[:, 0], np.roll(records[:, 1:], number, axis=1)])
        labelled.tofile(tmp_path / name)
    splits = prepare(DATASETS["cifar10"], tmp_path, preparation(test_fraction="official"))
    assert {name: len(split.labels) for name, split in splits.items()} == {"train": 450, "validation": 50, "test": 100}
    assert np.bincount(splits["validation"].labels).tolist() == [5] * 10
    _, test = cifar10.read(tmp_path)
    assert np.array_equal(splits["test"].images, test.images)
    assert np.array_equal(splits["test"].labels, test.labels)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Cut, str], DatasetDescription]:
    def write(splits: Cut, place: str) -> DatasetDescription:
        return write_splits(tmp_path / place, splits, name="digits", classes=tuple("0123456789"), source="a package")

    return write


def test_written_splits_come_back(
    few_digits: Cut, write: Callable[[Cut, str], DatasetDescription], tmp_path: Path
) -> None:
    written = write(few_digits, "splits")
    assert read_description(tmp_path / "splits") == written
    assert written.image_shape == (8, 8, 1)
    assert written.sizes == {"train": 250, "validation": 100, "test": 100}
    for name, split in few_digits.items():
        found = read_split(tmp_path / "splits", name)
        assert found.images.dtype == np.uint8
        assert found.labels.dtype == np.int32
        assert np.array_equal(found.images, split.images)
        assert np.array_equal(found.labels, split.labels)


def test_equal_splits_give_equal_files(
    few_digits: Cut, write: Callable[[Cut, str], DatasetDescription], tmp_path: Path
) -> None:
    for place in ("one", "two"):
        write(few_digits, place)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(names) == 7  # two arrays a split and the description
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("part", ["images", "labels"])
@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_a_digest_changes_with_one_value(
    name: SplitName, part: str, few_digits: Cut, write: Callable[[Cut, str], DatasetDescription]
) -> None:
    before = write(few_digits, "before")
    images, labels = few_digits[name].images.copy(), few_digits[name].labels.copy()
    (images if part == "images" else labels).flat[-1] ^= 1
    after = write({**few_digits, name: Split(images, labels)}, "after")
    assert after.digest != before.digest
    assert [split for split in before.digests if before.digests[split] != after.digests[split]] == [name]
