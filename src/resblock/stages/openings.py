"""What MLflow can show of a stage before it has run: everything that follows from its manifest alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resblock import paths
from resblock.files import read_json
from resblock.report.style import COLORS
from resblock.stages.manifests import code_digest
from resblock.tracking.result import Context, DataInput, Result

NOTES = {
    "download": "The raw files of `{dataset}` as published, verified by SHA-256. They come from: {source}",
    "preprocess": "The images of `{dataset}`, cut into train, validation and test, stratified and seeded.",
    "train": (
        "`{variant}` trained on `{dataset}` from seed {seed}: {recipe[epochs]} epochs, {recipe[optimizer]}, learning "
        "rate {recipe[learning_rate]} ({recipe[schedule]}), batches of {recipe[batch_size]}. Test figures come from "
        "`evaluate@{dataset}`. To make it again: `dvc repro {stage}`"
    ),
    "evaluate": "Every training of the study on `{dataset}`, scored on train, validation and test images: `scores.csv`",
    "report": "The study on `{dataset}` as one page: `index.html` among the artifacts.",
}
TRAINED_BY = (
    "dataset",
    "variant",
    "family",
    "depth",
    "seed",
    "threads",
)  # of a training's manifest; the recipe besides
CONTEXTS: Mapping[str, Context] = {"train": "training", "validation": "validation", "test": "test"}
READ_BY: Mapping[str, tuple[str, ...]] = {"train": ("train", "validation"), "evaluate": ("train", "validation", "test")}


def opening_of(manifest: Mapping[str, Any]) -> Result:
    """Return the result that `manifest` announces, without what it will turn out to be."""
    stage = str(manifest["stage"]).partition("@")[0]
    tags = {"resblock.code": manifest["code"]}
    if "data" in manifest:
        tags["resblock.data"] = manifest["data"]
    if stage == "train":
        tags["mlflow.runColor"] = COLORS[manifest["family"]]
    return Result(
        name=manifest["stage"],
        dataset=manifest["dataset"],
        key=manifest["key"],
        params=_params(stage, manifest),
        tags=tags,
        note=NOTES[stage].format(**manifest),
        inputs=_inputs(stage, manifest),
        code_is_here=manifest["code"] == code_digest(stage),
    )


def _params(stage: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
    if stage == "train":
        return {**{name: manifest[name] for name in TRAINED_BY}, **manifest["recipe"]}
    if stage == "download":
        return {"source": manifest["source"]}
    if stage == "preprocess":
        return dict(manifest["preparation"])
    return {name: manifest[name] for name in ("variants", "seeds")}


def _inputs(stage: str, manifest: Mapping[str, Any]) -> tuple[DataInput, ...]:
    """Return the splits that a stage reads, provided that those described here are the ones it was made from."""
    file = paths.manifest("preprocess", manifest["dataset"])
    described = read_json(file) if stage in READ_BY and file.is_file() else {}
    if described.get("data") != manifest.get("data"):
        return ()
    return tuple(
        DataInput(
            name=f"{manifest['dataset']}-{split}",
            digest=described["digests"][split],
            context=CONTEXTS[split],
            source=described["source"],
            profile={
                "images": described["sizes"][split],
                "classes": len(described["classes"]),
                "image_shape": described["image_shape"],
            },
        )
        for split in READ_BY.get(stage, ())
    )
