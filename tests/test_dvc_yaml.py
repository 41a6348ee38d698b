"""dvc.yaml says of each stage all that decides its result, and nothing that only watches."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from ruamel.yaml import YAML

from resblock.core.recipe import Recipe
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.splits import DatasetDescription, Split, SplitName
from resblock.params import Ablation, Examination, Preparation, Probing, Study, read_params
from resblock.paths import PARAMS
from resblock.stages import download, evaluate, manifests, preprocess, probe, report, train
from tests.recording import RecordingParams
from tests.test_house import imports_of

ROOT = Path(__file__).resolve().parent.parent
STAGES: dict[str, Any] = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]

# They carry or show values and decide none: a better message must not retrain for hours.
WATCHING = (
    "params",
    "defaults",
    "paths",
    "costs",
    "serving",
    "signals",
    "damage",
    "startup",
    "tracking",
    "stages",
    "cli",
    "data_commands",
    "diff",
    "running",
    "catalogue",
)
# What a stage only shows, besides: the training's curve picture for MLflow.
SHOWN_BY = {"train": ("report", "evaluation")}
MODULES = {"ablate": "train", "evaluate_ablation": "evaluate"}  # one module, two stages
MESSAGES = {"resblock.core.errors"}  # of a core that is otherwise one dependency

RECIPE = "low-lr"  # one that the study's ablation names
BODIES: dict[str, Callable[[], None]] = {
    "download": lambda: download.run("digits"),
    "preprocess": lambda: preprocess.run("digits"),
    "probe": lambda: probe.run("digits"),
    "train": lambda: train.run(RunKey("digits", ModelSpec.parse("residual-8"), 0)),
    "ablate": lambda: train.run(RunKey("digits", ModelSpec.parse("residual-8"), 0, RECIPE)),
    "evaluate": lambda: evaluate.run(RunKey("digits", ModelSpec.parse("residual-8"), 0)),
    "evaluate_ablation": lambda: evaluate.run(RunKey("digits", ModelSpec.parse("residual-8"), 0, RECIPE)),
    "report": lambda: report.run("digits"),
}
SECTIONS: dict[str, list[str]] = {
    "study": list(Study.model_fields),
    "ablation": list(Ablation.model_fields),
    "data.digits": list(Preparation.model_fields),
    "train.digits": [each.name for each in fields(Recipe)],
    "probes.digits": list(Probing.model_fields),
    "evaluation.digits": list(Examination.model_fields),
}
KEYS = {f"{section}.{key}" for section, keys in SECTIONS.items() for key in keys} | {f"recipes.{RECIPE}"}
# A network is built with them, and before training they decide nothing: see the last tests.
READ_IN_VAIN = {"probe": {"train.digits.batch_norm_momentum", "train.digits.weight_decay"}}
# What ablations must have been trained by: whatever changes that changes their trainings, which are dependencies.
COVERED = {"report": {f"recipes.{RECIPE}"}}

FEW = Probing(variants=["plain-8"], seeds=[0], images=16, lines=2, line_points=5)


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
        if module.split(".")[1] in skipped or module in found | MESSAGES:
            continue
        found.add(module)
        waiting += imports_of(module_path(module))
    return found


def code_of(stage: str) -> list[str]:
    """Return what `stage` depends on of the package, relative to it."""
    deps = STAGES[stage]["deps"]
    return [dep.removeprefix("src/resblock/") for dep in deps if dep.startswith("src/")]


@pytest.mark.parametrize("stage", STAGES)
def test_deps_cover_what_a_stage_imports(stage: str) -> None:
    deps = [ROOT / "src/resblock" / dep for dep in code_of(stage)]
    modules = deciding_modules(stage)
    assert modules
    for module in modules:
        path = module_path(module)
        assert any(path == dep or dep in path.parents for dep in deps), f"{stage} lacks {path.relative_to(ROOT)}"


@pytest.mark.parametrize("stage", STAGES)
def test_deps_name_no_room_that_a_stage_does_not_import(stage: str) -> None:
    paths = {module_path(module) for module in deciding_modules(stage)}
    for dep in code_of(stage):
        place = ROOT / "src/resblock" / dep
        assert place.exists(), dep
        assert any(path == place or place in path.parents for path in paths), f"{stage} names {dep} in vain"


def test_a_training_depends_on_its_splits_and_the_core_and_nothing_else() -> None:
    assert STAGES["train"]["deps"] == ["data/splits/${item.dataset}", "src/resblock/core"]
    assert STAGES["ablate"]["deps"] == ["data/splits/${ablation.dataset}", "src/resblock/core"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_manifest_digests_the_code_that_dvc_watches(stage: str) -> None:
    assert sorted(manifests.ROOMS[MODULES.get(stage, stage)]) == sorted(code_of(stage))
    assert len(set(code_of(stage))) == len(code_of(stage))


def test_every_stage_has_a_manifest() -> None:
    assert set(manifests.ROOMS) == {MODULES.get(stage, stage) for stage in STAGES}


def named_by(stage: str) -> set[str]:
    """Return the keys of params.yaml that dvc.yaml names for `stage`, on digits and by one recipe."""
    named: set[str] = set()
    for param in STAGES[stage].get("params", []):
        for axis in ("${item.dataset}", "${ablation.dataset}"):
            param = param.replace(axis, "digits")
        param = param.replace("${item.recipe}", RECIPE)
        keys = {key for key in KEYS if key == param or key.startswith(f"{param}.")}
        assert keys, f"{stage}: params.yaml has no {param}"
        named |= keys
    return named


@pytest.fixture(scope="module")
def read_by(tmp_path_factory: pytest.TempPathFactory, small_study: Path, backend: int) -> dict[str, set[str]]:
    """The keys of params.yaml that each stage's body reads, run on a small study, every augmentation in use."""
    root = tmp_path_factory.mktemp("read") / "project"
    shutil.copytree(small_study, root, ignore=shutil.ignore_patterns("mlflow.db*", "mlartifacts"))
    params = read_params(root / PARAMS)
    recipe = replace(params.recipe("digits"), horizontal_flip=True, vertical_flip=True, crop_padding=1)
    few = Examination(corrupted_images=10, response_images=10, lesion_images=10, lesion_draws=1)
    params = params.model_copy(
        update={"train": {"digits": recipe}, "probes": {"digits": FEW}, "evaluation": {"digits": few}}
    )
    read: dict[str, set[str]] = {}
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(root):
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # no store is wanted: this is about the bodies
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        for stage, body in BODIES.items():
            recording = RecordingParams(params)
            module = f"resblock.stages.{MODULES.get(stage, stage)}"
            patch.setattr(f"{module}.read_params", lambda _, given=recording: given, raising=False)
            body()
            read[stage] = recording.seen
    return read


def test_every_stage_is_read_from() -> None:
    assert list(BODIES) == list(STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_params_name_every_key_that_a_stage_reads(stage: str, read_by: dict[str, set[str]]) -> None:
    assert read_by[stage] <= KEYS
    assert READ_IN_VAIN.get(stage, set()) <= read_by[stage] - named_by(stage)
    unnamed = read_by[stage] - named_by(stage) - READ_IN_VAIN.get(stage, set())
    assert unnamed == COVERED.get(stage, set())


@pytest.mark.parametrize("stage", STAGES)
def test_params_name_no_key_that_a_stage_does_not_read(stage: str, read_by: dict[str, set[str]]) -> None:
    assert named_by(stage) - read_by[stage] == set()


def test_a_training_and_a_look_at_it_know_nothing_of_the_study() -> None:
    for stage in ("train", "ablate", "evaluate", "evaluate_ablation"):
        assert not any(param.startswith(("study", "ablation")) for param in STAGES[stage]["params"])


def test_an_evaluation_is_stale_whenever_its_training_is() -> None:
    """So `resblock run`, which asks once what is stale, may hand both to one process of DVC."""
    for training, look in (("train", "evaluate"), ("ablate", "evaluate_ablation")):
        assert set(STAGES[training]["deps"]) <= set(STAGES[look]["deps"])
        assert set(STAGES[training]["params"]) <= set(STAGES[look]["params"])
        assert STAGES[training]["matrix"] == STAGES[look]["matrix"]


def test_an_evaluation_reads_one_training_and_no_other() -> None:
    for stage, training in (("evaluate", "train"), ("evaluate_ablation", "ablate")):
        (read,) = (dep for dep in STAGES[stage]["deps"] if dep.startswith("results/"))
        (weights,) = STAGES[training]["outs"]
        assert weights == f"{read}/weights.npz"


def test_an_ablation_is_trained_as_the_study_is() -> None:
    assert STAGES["ablate"]["deps"][1:] == STAGES["train"]["deps"][1:]
    assert STAGES["ablate"]["cmd"].startswith("resblock train ${ablation.dataset} ${item.variant} ${item.seed} ")


def test_code_that_watches_is_no_dependency() -> None:
    for stage in STAGES:
        for dep in code_of(stage):
            assert Path(dep).parts[0].removesuffix(".py") not in WATCHING, f"{stage} depends on {dep}"


def probed(recipe: Recipe, digits: dict[SplitName, Split]) -> object:
    """Return what is measured of a small network before training."""
    from resblock.evaluation.untrained import probe

    classes = tuple("0123456789")
    description = DatasetDescription("digits", classes, (8, 8, 1), {}, {}, "scikit-learn")
    return probe(ModelSpec.parse("plain-8"), 0, digits["train"], description, recipe, FEW)


def another(recipe: Recipe, key: str) -> Any:
    """Return a value of `key` that is not the recipe's."""
    value, kind = getattr(recipe, key), get_type_hints(Recipe)[key]
    if get_origin(kind) is Literal:
        return next(choice for choice in get_args(kind) if choice != value)
    if isinstance(value, bool):
        return not value
    return () if isinstance(value, tuple) else value + 1 if isinstance(value, int) else value / 2 + 0.001


def keys_of_a_probe() -> set[str]:
    return {key.removeprefix("train.digits.") for key in named_by("probe") if key.startswith("train.")}


@pytest.mark.usefixtures("backend")
def test_of_the_recipe_a_probe_depends_on_the_keys_that_are_named_alone(
    make_recipe: Callable[..., Recipe], digits: dict[SplitName, Split]
) -> None:
    recipe = make_recipe()
    unnamed = {each.name for each in fields(Recipe)} - keys_of_a_probe()
    assert {"epochs", "horizontal_flip", "crop_padding", "weight_decay", "batch_norm_momentum"} <= unnamed
    other = replace(recipe, **{key: another(recipe, key) for key in unnamed})
    assert probed(other, digits) == probed(recipe, digits)


@pytest.mark.usefixtures("backend")
def test_a_probe_depends_on_each_key_that_is_named(
    make_recipe: Callable[..., Recipe], digits: dict[SplitName, Split]
) -> None:
    recipe = make_recipe(batch_size=8)
    assert keys_of_a_probe() >= {"batch_norm_epsilon", "batch_size", "precision", "rescale", "threads"}
    first = probed(recipe, digits)
    for key in keys_of_a_probe() - {"threads"}:  # of which a result's last bits may depend
        assert probed(replace(recipe, **{key: another(recipe, key)}), digits) != first, key


def test_what_a_probes_manifest_holds_of_the_recipe_is_what_dvc_watches() -> None:
    assert set(manifests.PROBED_BY) == keys_of_a_probe()
