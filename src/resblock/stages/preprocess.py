"""Stage ``preprocess``: raw files to train, validation and test arrays."""

from __future__ import annotations

from dataclasses import asdict

from resblock import paths
from resblock.core.files import write_json
from resblock.data.download import held, named
from resblock.data.preparing import write_collection
from resblock.data.review import write_review
from resblock.data.table import find_dataset
from resblock.params import read_params
from resblock.stages import manifests
from resblock.stages.results import result_of
from resblock.stages.terminal import counting_bar, say, warn
from resblock.stages.tracked import tracked


def run(dataset_name: str) -> None:
    """Cut a data set into its three splits, and say what its owner must know of it."""
    preparation = read_params(paths.PARAMS).preparation(dataset_name)
    dataset, folder = find_dataset(dataset_name), paths.splits(dataset_name)
    raw = paths.raw(dataset_name)
    source = named(dataset.source, raw)
    manifest = manifests.of_preprocess(dataset, preparation, held(dataset.source, raw))
    with tracked(manifest) as tracker, counting_bar(dataset_name) as progress:
        collection = dataset.collect(raw, preparation)
        described, review = write_collection(
            folder, collection, preparation, name=dataset_name, source=source, progress=progress
        )
        write_review(paths.review(dataset_name), review)
        manifest |= {**asdict(described), "data": described.digest}
        write_json(paths.manifest("preprocess", dataset_name), manifest)
        for sentence in review.warnings():
            warn(f"{dataset_name}: {sentence}")
        say(f"{folder}: " + ", ".join(f"{size:,} {name}" for name, size in described.sizes.items()) + " images")
        tracker.complete(lambda: result_of(manifest))
