"""Stage ``preprocess``: raw files to train, validation and test arrays."""

from __future__ import annotations

from dataclasses import asdict

from resblock import paths
from resblock.core.files import write_json
from resblock.data.splits import write_splits
from resblock.data.table import find_dataset, prepare
from resblock.params import read_params
from resblock.stages import manifests
from resblock.stages.results import result_of
from resblock.stages.terminal import say
from resblock.stages.tracked import tracked


def run(dataset_name: str) -> None:
    """Cut a data set into its three splits."""
    preparation = read_params(paths.PARAMS).preparation(dataset_name)
    dataset, folder = find_dataset(dataset_name), paths.splits(dataset_name)
    manifest = manifests.of_preprocess(dataset, preparation)
    with tracked(manifest) as tracker:
        splits = prepare(dataset, paths.raw(dataset.name), preparation)
        described = write_splits(folder, splits, name=dataset.name, classes=dataset.classes, source=str(dataset.source))
        manifest |= {**asdict(described), "data": described.digest}
        write_json(paths.manifest("preprocess", dataset.name), manifest)
        say(f"{folder}: " + ", ".join(f"{size:,} {name}" for name, size in described.sizes.items()) + " images")
        tracker.complete(lambda: result_of(manifest))
