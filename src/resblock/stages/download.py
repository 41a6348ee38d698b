"""Stage ``download``: raw files, verified."""

from __future__ import annotations

from resblock import paths
from resblock.core.files import write_json
from resblock.data.download import evidence, fetch, held, outcome
from resblock.data.table import find_dataset
from resblock.stages import manifests
from resblock.stages.results import result_of
from resblock.stages.terminal import counting_bar, say
from resblock.stages.tracked import tracked


def run(dataset_name: str) -> None:
    """Bring the raw files of a data set onto this machine, unless they are here and right.

    A person's own files stay where they are, and are listed with their digests.
    """
    dataset = find_dataset(dataset_name)
    folder = paths.raw(dataset.name)
    manifest = manifests.of_download(dataset)
    with tracked(manifest) as tracker:
        with counting_bar(dataset.name) as progress:
            fetched = fetch(dataset.source, folder, say, progress)
        manifest["files"], manifest["verified_by"] = held(dataset.source, folder), evidence(dataset.source, folder)
        manifest["bytes"] = sum((folder / name).stat().st_size for name in dataset.source.names)
        write_json(paths.manifest("download", dataset.name), manifest)
        say(f"{folder}: {outcome(dataset.source, folder, fetched=fetched)}")
        tracker.complete(lambda: result_of(manifest))
