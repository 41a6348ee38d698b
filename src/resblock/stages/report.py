"""Stage ``report``: the page, its figures and tables."""

from __future__ import annotations

from resblock import paths
from resblock.params import read_params
from resblock.report.material import read_material
from resblock.report.publish import PAGE, publish
from resblock.stages.terminal import say
from resblock.stages.tracked import tracked
from resblock.tracking.stage import flatten


def run(dataset_name: str) -> None:
    """Draw and write the report of a data set."""
    study = read_params(paths.PARAMS).study
    folder = paths.report(dataset_name)
    material = read_material(dataset_name, study.keys(dataset_name))
    with tracked(
        "report", dataset_name, study.model_dump(include={"variants", "seeds"}), data_digest=material.dataset.digest
    ) as tracker:
        sections = publish(folder, material)
        say(f"{folder / PAGE}: {sum(len(section.pictures) for section in sections)} pictures")
        tracker.metrics(flatten(material.study.metrics()["residual_minus_plain"], "residual_minus_plain."))
        tracker.artifact(folder)
