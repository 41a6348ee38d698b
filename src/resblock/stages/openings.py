"""What MLflow can show of a stage before it has run: everything that follows from its manifest alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resblock import paths
from resblock.core.files import read_json
from resblock.report.palette import COLORS
from resblock.stages.manifests import code_digest, name_of
from resblock.tracking.result import STUDY_TAG, Context, DataInput, Result

NOTES = {
    "download": "The raw files of `{dataset}` as published, verified by SHA-256. They come from: {source}",
    "preprocess": "The images of `{dataset}`, cut into train, validation and test, stratified and seeded.",
    "train": (
        "`{variant}` trained on `{dataset}` from seed {seed} by the recipe `{recipe_name}`: {recipe[epochs]} epochs, "
        "{recipe[optimizer]}, learning rate {recipe[learning_rate]} ({recipe[schedule]}), batches of "
        "{recipe[batch_size]}. Test figures come with its evaluation. To make it again: `dvc repro {name}`"
    ),
    "probe": "What the initial weights of networks do to gradients on `{dataset}`: `gradients.csv`, `shattering.csv`",
    "evaluate": (
        "`{variant}`, trained on `{dataset}` from seed {seed} by the recipe `{recipe_name}`, on train, validation and "
        "test images: `score.csv`, and closer looks beside it. Its test figures stand on the run of the training, too."
    ),
    "report": "The study on `{dataset}` as one page: `index.html` among the artifacts.",
}
OF_A_TRAINING = ("dataset", "variant", "family", "depth", "seed", "threads")  # of its manifest; the recipe besides
CONTEXTS: Mapping[str, Context] = {"train": "training", "validation": "validation", "test": "test"}
READ_BY: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "validation"),
    "probe": ("train",),
    "evaluate": ("train", "validation", "test"),
}


def opening_of(manifest: Mapping[str, Any]) -> Result:
    """Return the result that `manifest` announces, without what it will turn out to be."""
    stage = str(manifest["stage"]).partition("@")[0]
    tags = {"resblock.code": manifest["code"]}
    if "data" in manifest:
        tags["resblock.data"] = manifest["data"]
    name = name_of(manifest)
    if stage in ("train", "evaluate"):
        tags["resblock.recipe"] = manifest["recipe_name"]
        tags["mlflow.runColor"] = COLORS[manifest["family"]]
    if stage == "train":
        tags[STUDY_TAG] = "true"  # whoever trains it wants to see it; `resblock sync` asks params.yaml
    return Result(
        name=name,
        dataset=manifest["dataset"],
        key=manifest["key"],
        formerly=tuple(seen["key"] for seen in manifest.get("verified", ())),
        params=_params(stage, manifest),
        tags=tags,
        note=NOTES[stage].format(**{**manifest, "name": name}),
        inputs=_inputs(stage, manifest),
        code_is_here=manifest["code"] == code_digest(stage),
    )


def _params(stage: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
    if stage in ("train", "evaluate"):
        chosen = {name: manifest[name] for name in OF_A_TRAINING}
        return {
            **chosen,
            "recipe": manifest["recipe_name"],
            **manifest["recipe" if stage == "train" else "examination"],
        }
    if stage == "download":
        return {"source": manifest["source"]}
    if stage == "preprocess":
        return dict(manifest["preparation"])
    return {name: manifest[name] for name in ("variants", "seeds")}


def _inputs(stage: str, manifest: Mapping[str, Any]) -> tuple[DataInput, ...]:
    """Return the splits that a stage reads, provided that those described here are the ones it was made from."""
    if stage not in READ_BY:
        return ()
    try:
        described = read_json(paths.manifest("preprocess", manifest["dataset"]))
    except (OSError, ValueError):  # absent or damaged: a stage runs without, and sync names what is damaged
        return ()
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
        for split in READ_BY[stage]
    )
