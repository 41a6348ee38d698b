"""The data sets of the study: a further one is one more entry here, never a branch in a stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from resblock.core.splits import Split, SplitName
from resblock.data import cifar10, digits
from resblock.data.download import Archive, Packaged, Source
from resblock.data.splits import stratified
from resblock.params import ParamsError, Preparation


@dataclass(frozen=True)
class Dataset:
    """Where a data set comes from and how its files are read."""

    name: str
    classes: tuple[str, ...]
    source: Source
    read: Callable[[Path], tuple[Split, Split | None]]  # folder to training set and, if there is one, official test set


DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            name="digits",
            classes=tuple("0123456789"),
            source=Packaged(
                package="sklearn.datasets.data",
                digests={digits.FILE: "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"},
            ),
            read=digits.read,
        ),
        Dataset(
            name="cifar10",
            classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
            source=Archive(
                url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
                folder="cifar-10-batches-bin",
                digests={
                    "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
                    "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
                    "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
                    "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
                    "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
                    "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
                },
            ),
            read=cifar10.read,
        ),
    )
}


def find_dataset(name: str) -> Dataset:
    """Return the entry called `name`. Raises ParamsError naming those there are."""
    try:
        return DATASETS[name]
    except KeyError:
        raise ParamsError(f"unknown data set {name!r}; there are {', '.join(DATASETS)}") from None


def prepare(dataset: Dataset, folder: Path, preparation: Preparation) -> dict[SplitName, Split]:
    """Read the raw files in `folder` and cut them: stratified, seeded, an official test set kept as it is.

    Raises ParamsError where test_fraction does not fit what the data set ships, or a class is too small for the cut.
    """
    everything, test = dataset.read(folder)
    key = f"data.{dataset.name}"
    fraction, seed = preparation.test_fraction, preparation.split_seed
    try:
        if test is not None and fraction != "official":
            raise ParamsError(f"{key}.test_fraction: got {fraction}, must be official: {dataset.name} ships a test set")
        if test is None:
            if fraction == "official":
                wanted = f"must be a fraction in (0, 1): {dataset.name} ships no test set"
                raise ParamsError(f"{key}.test_fraction: got 'official', {wanted}")
            rest, part = stratified(everything.labels, fraction, seed)
            everything, test = everything.take(rest), everything.take(part)
        train, validation = stratified(everything.labels, preparation.validation_fraction, seed)
    except ParamsError:
        raise
    except ValueError as error:
        raise ParamsError(f"{key}: cannot be split as asked: {error}") from None
    return {"train": everything.take(train), "validation": everything.take(validation), "test": test}
