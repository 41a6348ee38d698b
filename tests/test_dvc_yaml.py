"""dvc.yaml says of each stage all that decides its result, and nothing that only watches."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.test_house import imports_of

ROOT = Path(__file__).resolve().parent.parent
STAGES: dict[str, Any] = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]

# They carry or show values and decide none: a better message must not retrain for hours.
WATCHING = ("errors", "params", "paths", "serving", "signals", "startup", "tracking", "stages", "cli", "pipeline")
# What a stage only shows, besides: the training's curve picture for MLflow.
SHOWN_BY = {"train": ("report", "evaluation")}
# What a stage's module reads of params.yaml, by how it asks.
READS = {
    r"\.recipe\(": ("train.{dataset}",),
    r"\.probing\(": ("probes.{dataset}",),
    r"\.examination\(": ("evaluation.{dataset}",),
    r"\.preparation\(": ("data.{dataset}",),
    r"\.study\b": ("study.",),
    r"\.ablation\b": ("ablation",),
    r"\.ablation_keys\(": ("ablation.variants", "study.seeds"),
    r"\.recipe\([^)]*, ": ("recipes.",),  # by name
}
MODULES = {"ablate": "train"}  # one module, two stages
# The data set's own recipe has no name, and stage train reads no other.
NOT_READ = {"train": {"recipes."}}


def module_path(module: str) -> Path:
    place = ROOT / "src" / Path(*module.split("."))
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def deciding_modules(stage: str) -> set[str]:
    """Follow the stage's imports through every room that is not among those who watch."""
    stage = MODULES.get(stage, stage)
    skipped = WATCHING + SHOWN_BY.get(stage, ())
    found: set[str] = set()
    waiting = list(imports_of(module_path(f"resblock.stages.{stage}")))
    while waiting:
        module = waiting.pop()
        if module.split(".")[1] in skipped or module in found:
            continue
        found.add(module)
        waiting += imports_of(module_path(module))
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_deps_cover_what_a_stage_imports(stage: str) -> None:
    deps = [ROOT / dep for dep in STAGES[stage]["deps"] if dep.startswith("src/")]
    modules = deciding_modules(stage)
    assert modules
    for module in modules:
        path = module_path(module)
        assert any(path == dep or dep in path.parents for dep in deps), f"{stage} lacks {path.relative_to(ROOT)}"


@pytest.mark.parametrize("stage", STAGES)
def test_deps_name_no_room_that_a_stage_does_not_import(stage: str) -> None:
    paths = {module_path(module) for module in deciding_modules(stage)}
    for dep in STAGES[stage]["deps"]:
        if dep.startswith("src/"):
            place = ROOT / dep
            assert place.exists(), dep
            assert any(path == place or place in path.parents for path in paths), f"{stage} names {dep} in vain"


@pytest.mark.parametrize("stage", STAGES)
def test_params_cover_the_sections_that_a_stage_reads(stage: str) -> None:
    source = (ROOT / "src/resblock/stages" / f"{MODULES.get(stage, stage)}.py").read_text()
    params = STAGES[stage].get("params", [])
    dataset = "${item.dataset}" if "dataset" in STAGES[stage]["matrix"] else "${ablation.dataset}"
    asked = [section for call, sections in READS.items() if re.search(call, source) for section in sections]
    read = {section.format(dataset=dataset) for section in asked} - NOT_READ.get(stage, set())
    for section in read:
        assert any(param.startswith(section) for param in params), f"{stage} reads {section}"
    for param in params:
        assert any(param.startswith(section) for section in read), f"{stage} names {param} in vain"


def test_a_training_knows_nothing_of_the_study() -> None:
    for stage in ("train", "ablate"):
        assert not any(param.startswith(("study", "ablation")) for param in STAGES[stage]["params"])


def test_an_ablation_is_trained_as_the_study_is() -> None:
    assert STAGES["ablate"]["deps"][1:] == STAGES["train"]["deps"][1:]
    assert STAGES["ablate"]["cmd"].startswith("resblock train ${ablation.dataset} ${item.variant} ${item.seed} ")


def test_code_that_watches_is_no_dependency() -> None:
    for stage, description in STAGES.items():
        for dep in description["deps"]:
            if dep.startswith("src/"):
                room = Path(dep).relative_to("src/resblock").parts[0].removesuffix(".py")
                assert room not in WATCHING, f"{stage} depends on {dep}"
