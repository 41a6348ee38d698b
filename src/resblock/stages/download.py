"""Stage ``download``: raw files, verified."""

from __future__ import annotations

from resblock import paths
from resblock.core.files import write_json
from resblock.data.download import fetch
from resblock.data.table import find_dataset
from resblock.stages import manifests
from resblock.stages.results import result_of
from resblock.stages.terminal import say
from resblock.stages.tracked import tracked


def run(dataset_name: str) -> None:
    """Bring the raw files of a data set onto this machine, unless they are here and right."""
    dataset = find_dataset(dataset_name)
    folder = paths.raw(dataset.name)
    manifest = manifests.of_download(dataset)
    with tracked(manifest) as tracker:
        fetched = fetch(dataset.source, folder, say)
        sizes = [(folder / name).stat().st_size for name in dataset.source.digests]
        manifest["bytes"] = sum(sizes)
        write_json(paths.manifest("download", dataset.name), manifest)
        say(f"{folder}: {len(sizes)} files {'fetched and verified' if fetched else 'here already, verified'}")
        tracker.complete(lambda: result_of(manifest))
