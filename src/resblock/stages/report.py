"""Stage ``report``: the page, its figures and tables."""

from __future__ import annotations

from resblock import paths
from resblock.core.errors import UserError
from resblock.core.files import write_json
from resblock.params import read_params
from resblock.report.links import write_links
from resblock.report.material import read_material
from resblock.report.publish import publish
from resblock.report.template import PAGE
from resblock.stages import manifests
from resblock.stages.asked import asked, damaged_file
from resblock.stages.models import register
from resblock.stages.results import result_of
from resblock.stages.terminal import say, warn
from resblock.stages.tracked import tracked
from resblock.startup import uncollected


def run(dataset_name: str) -> None:
    """Draw and write the report of a data set."""
    params = read_params(paths.PARAMS)
    folder, keys = paths.report(dataset_name), params.keys(dataset_name)
    material = read_material(dataset_name, [asked(params, key) for key in keys])
    manifest = manifests.of_report(dataset_name, params.study, keys, data_digest=material.dataset.digest)
    for sentence in material.left_out:
        warn(f"left out: {sentence}")
    if words := next(filter(None, map(damaged_file, keys)), None):
        raise UserError(words)
    with tracked(manifest) as tracker:
        with uncollected():  # or it looks at all that Matplotlib makes, again and again: a fifth of the time
            sections = publish(folder, material)
        write_json(paths.manifest("report", dataset_name), manifest)
        say(f"{folder / PAGE}: {sum(len(section.pictures) for section in sections)} pictures")
        tracker.complete(lambda: result_of(manifest))
        register(tracker, dataset_name)
        write_links(folder, dataset_name, *tracker.live_runs())
