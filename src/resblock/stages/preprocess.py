"""Stage ``preprocess``: raw files to train, validation and test arrays."""

from __future__ import annotations

from resblock import paths
from resblock.data.splits import DESCRIPTION, write_splits
from resblock.data.table import find_dataset, prepare
from resblock.params import read_params
from resblock.stages.terminal import say
from resblock.stages.tracked import tracked


def run(dataset_name: str) -> None:
    """Cut a data set into its three splits."""
    preparation = read_params(paths.PARAMS).preparation(dataset_name)
    dataset, folder = find_dataset(dataset_name), paths.splits(dataset_name)
    with tracked("preprocess", dataset.name, preparation.model_dump()) as tracker:
        splits = prepare(dataset, paths.raw(dataset.name), preparation)
        described = write_splits(folder, splits, name=dataset.name, classes=dataset.classes, source=str(dataset.source))
        say(f"{folder}: " + ", ".join(f"{size:,} {name}" for name, size in described.sizes.items()) + " images")
        tracker.metrics({f"{name}_images": size for name, size in described.sizes.items()})
        tracker.tags({"resblock.data": described.digest})
        tracker.artifact(folder / DESCRIPTION)
