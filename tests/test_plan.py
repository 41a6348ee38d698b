"""`resblock plan`: what is stale and why, and what the rest will take."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from dvc.dvcfile import Lockfile
from dvc.repo import Repo

from resblock import paths
from resblock.core.errors import UserError
from resblock.core.files import write_json
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.training.run import MANIFEST, Cost, write_cost
from resblock.params import Params
from resblock.running import speed
from resblock.running.estimate import BETWEEN, START, Estimator
from resblock.running.plan import Plan, duration, size
from resblock.running.speed import CIFAR10, Past, past_trainings
from resblock.running.stale import Step, made_by_others, stale_steps

# DVC's own, of what it imports.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value will soon raise AttributeError:DeprecationWarning")

# A pipeline of three stages with the commands of the real one. None is ever run: DVC is told to take what is there.
PIPELINE = """\
stages:
  preprocess:
    matrix: {dataset: [digits]}
    cmd: resblock preprocess ${item.dataset}
    deps: [data/raw]
    params: [data.digits]
    outs: [data/splits]
  train:
    matrix: {dataset: [digits], variant: [cnn-4, plain-8], seed: [0]}
    cmd: resblock train ${item.dataset} ${item.variant} ${item.seed}
    deps: [data/splits, src/core]
    params: [train.digits]
    outs: ["weights/${item.variant}"]
  report:
    matrix: {dataset: [digits]}
    cmd: resblock report ${item.dataset}
    deps: [weights]
    outs: [page.html]
"""
PARAMS = "data:\n  digits: {split_seed: 0}\ntrain:\n  digits: {learning_rate: 0.001, epochs: 2}\n"
FILES = {"data/raw/a": "raw", "data/splits/a": "cut", "src/core/a.py": "1", "page.html": "page"}
WEIGHTS = ("weights/cnn-4", "weights/plain-8")
TRAININGS = ("train@digits-cnn-4-0", "train@digits-plain-8-0")


def write(name: str, text: str) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)


def commit() -> None:
    """Let DVC take all that is here for what its stages leave."""
    with Repo() as repo:
        repo.commit(force=True)


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pipeline") / "project"
    root.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        Repo.init(no_scm=True).close()
        for name, text in {**FILES, "dvc.yaml": PIPELINE, "params.yaml": PARAMS}.items():
            write(name, text)
        for name in WEIGHTS:
            write(name, name)
        commit()
    return root


@pytest.fixture
def project(committed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(committed, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def planned(*targets: str) -> dict[str, tuple[str, list[str]]]:
    """Return for each stage what would be done, and why."""
    return {step.stage: (step.action, [str(cause) for cause in step.causes]) for step in stale_steps(targets)}


def edit(file: str, before: str, after: str) -> None:
    text = Path(file).read_text()
    assert before in text
    Path(file).write_text(text.replace(before, after))


def forget(content: str) -> None:
    """Remove a file with this content from DVC's cache."""
    digest = hashlib.md5(content.encode()).hexdigest()
    (Path(".dvc/cache/files/md5") / digest[:2] / digest[2:]).unlink()


@pytest.mark.usefixtures("project")
def test_a_finished_study_has_no_steps() -> None:
    assert planned() == {}


@pytest.mark.usefixtures("project")
def test_what_a_person_keeps_in_dvc_besides_is_no_step_of_the_study() -> None:
    write("notes.txt", "some")
    with Repo() as repo:
        repo.add("notes.txt")
    write("notes.txt", "others")
    Path("dvc.yaml").write_text(PIPELINE + "  tell:\n    cmd: ./tell.sh\n    deps:\n    - notes.txt\n")
    assert planned() == {}


@pytest.mark.usefixtures("project")
def test_an_edited_parameter_is_named_with_both_values() -> None:
    edit("params.yaml", "learning_rate: 0.001", "learning_rate: 0.002")
    because = ["parameter: train.digits.learning_rate 0.001 -> 0.002"]
    assert planned() == {
        **dict.fromkeys(TRAININGS, ("run", because)),
        "report@digits": ("run", [f"follows: {', '.join(TRAININGS)}"]),
    }


@pytest.mark.usefixtures("project")
def test_edited_code_is_named() -> None:
    write("src/core/a.py", "2")
    assert {planned()[stage][1][0] for stage in TRAININGS} == {"code: src/core"}


@pytest.mark.usefixtures("project")
def test_edited_data_are_named_and_what_follows_says_so() -> None:
    write("data/raw/a", "other")
    steps = planned()
    assert steps["preprocess@digits"] == ("run", ["data: data/raw"])
    assert steps[TRAININGS[0]] == ("run", ["follows: preprocess@digits"])


@pytest.mark.usefixtures("project")
def test_a_missing_result_that_dvc_has_is_restored_and_nothing_follows() -> None:
    Path(WEIGHTS[0]).unlink()
    assert planned() == {TRAININGS[0]: ("restore", [f"missing: {WEIGHTS[0]}"])}


@pytest.mark.usefixtures("project")
def test_a_missing_result_that_nobody_has_is_made_again() -> None:
    Path(WEIGHTS[0]).unlink()
    forget(WEIGHTS[0])
    steps = planned()
    assert steps[TRAININGS[0]] == ("run", [f"missing: {WEIGHTS[0]}"])
    assert steps["report@digits"] == ("run", [f"follows: {TRAININGS[0]}"])


@pytest.mark.usefixtures("project")
def test_a_result_that_dvc_has_lost_is_told_apart_from_a_missing_one() -> None:
    """DVC makes it again although it lies there."""
    forget(WEIGHTS[0])
    assert planned()[TRAININGS[0]] == ("run", [f"missing: {WEIGHTS[0]} in DVC's cache"])


@pytest.mark.usefixtures("project")
def test_a_changed_result_is_told_apart_from_a_missing_one() -> None:
    write(WEIGHTS[0], "other weights")
    assert planned()[TRAININGS[0]] == ("restore", [f"changed: {WEIGHTS[0]}"])


@pytest.mark.usefixtures("project")
def test_an_edit_that_is_undone_is_restored_and_what_follows_is_looked_up() -> None:
    edit("params.yaml", "epochs: 2", "epochs: 3")
    for name in WEIGHTS:
        write(name, f"{name}, three epochs")
    write("page.html", "another page")
    commit()
    assert planned() == {}
    edit("params.yaml", "epochs: 3", "epochs: 2")
    steps = planned()
    assert steps[TRAININGS[0]] == ("restore", ["parameter: train.digits.epochs 3 -> 2"])
    assert steps["report@digits"][0] == "look up"


@pytest.mark.usefixtures("project")
def test_what_was_never_run_is_new() -> None:
    edit("dvc.yaml", "variant: [cnn-4, plain-8]", "variant: [cnn-4, plain-8, residual-8]")
    steps = planned()
    assert steps["train@digits-residual-8-0"] == ("run", ["new: never run"])
    assert "train@digits-plain-8-0" not in steps


@pytest.mark.usefixtures("project")
def test_targets_are_data_sets_or_stages_with_what_they_need() -> None:
    write("data/raw/a", "other")
    assert list(planned(TRAININGS[1])) == ["preprocess@digits", TRAININGS[1]]
    assert planned("digits") == planned()
    with pytest.raises(UserError, match=r"mnist: neither a data set of the study nor a stage.*preprocess, report"):
        planned("mnist")


@pytest.mark.usefixtures("project")
def test_a_target_may_be_a_pattern_as_for_a_run() -> None:
    for name in WEIGHTS:
        forget(name)
        Path(name).unlink()
    assert set(planned("train@digits-*-0")) == set(TRAININGS)
    assert set(planned("train@digits-cnn-*")) == {TRAININGS[0]}


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("targets", [(), ("digits",), TRAININGS])
def test_dvcs_lock_file_is_read_once_for_any_number_of_stages(
    targets: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[object] = []
    load: Callable[[Lockfile], object] = Lockfile.load
    monkeypatch.setattr(Lockfile, "load", lambda self: (read.append(self), load(self))[1])
    planned(*targets)
    assert len(read) == 1  # a real one takes a second


@pytest.mark.usefixtures("project")
def test_a_pipeline_that_dvc_cannot_read_is_a_message() -> None:
    write("dvc.lock", "stages: [")
    with pytest.raises(UserError, match="DVC cannot say what is stale"):
        planned()


# What it takes.

KEY = RunKey("digits", ModelSpec.parse("plain-8"), 0)
STEP = Step("train@digits-plain-8-0", ("resblock", "train", "digits", "plain-8", "0"), (), "run", 0)
COST = Cost(
    started="2026-01-01T00:00:00+00:00",
    epoch_seconds=(5.0, 2.0, 2.0),
    images_per_second=100.0,
    parameters=1000,
    multiply_adds=1_000_000,
    machine="this one",
    threads=1,
    versions={},
)


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def never(*_: object) -> tuple[int, int]:
    pytest.fail("built or measured a network whose cost is known")


@pytest.fixture
def estimator(params: Params, empty: Path) -> Callable[..., Estimator]:
    def make(*past: Past, **options: object) -> Estimator:
        write_cost(paths.cost(KEY), COST)
        return Estimator(params, past, **{"count": never, "measure": never, **options})  # pyright: ignore[reportArgumentType]

    return make


def test_a_training_takes_its_epochs_their_beginning_and_what_lies_between(
    estimator: Callable[..., Estimator],
) -> None:
    forecast = estimator(Past(KEY, COST, "float32")).training(KEY)  # digits: 20 epochs
    assert forecast.seconds == pytest.approx(3 + 20 * 2 + BETWEEN)
    assert forecast.basis == "cost files"


def test_a_seed_that_was_hindered_does_not_count(estimator: Callable[..., Estimator]) -> None:
    slow = replace(COST, epoch_seconds=(30.0, 20.0, 20.0))
    hindered = Past(replace(KEY, seed=1), slow, "float32")
    forecast = estimator(Past(KEY, COST, "float32"), hindered).training(replace(KEY, seed=1))
    assert forecast.seconds == pytest.approx(10 * 2 / 20 + 20 * 2 + BETWEEN)


def test_a_pause_in_a_first_epoch_is_no_beginning(estimator: Callable[..., Estimator]) -> None:
    paused = Past(KEY, replace(COST, epoch_seconds=(4_000.0, 2.0, 2.0)), "float32")
    assert estimator(paused).training(KEY).seconds < 100


def test_another_network_takes_as_much_more_as_it_multiplies(estimator: Callable[..., Estimator]) -> None:
    other = RunKey("digits", ModelSpec.parse("plain-20"), 0)
    near = Past(KEY, COST, "float32")
    far = Past(replace(KEY, spec=ModelSpec.parse("plain-32")), replace(COST, multiply_adds=90_000_000), "float32")
    forecast = estimator(near, far, count=lambda *_: (4_000_000, 1)).training(other)
    assert forecast.seconds == pytest.approx(3 + 20 * 2 * 4 + BETWEEN)
    assert forecast.basis == "cost files of another network"


def test_trainings_in_another_precision_say_nothing(estimator: Callable[..., Estimator]) -> None:
    forecast = estimator(Past(KEY, COST, "mixed_bfloat16"), measure=lambda *_: (1e9, 7.0)).training(KEY)
    assert forecast.basis == "measured now"


def test_a_machine_of_which_nothing_is_known_is_measured_once(estimator: Callable[..., Estimator]) -> None:
    asked: list[object] = []

    def measure(*what: object) -> tuple[float, float]:
        asked.append(what)
        return 1e9, 7.0

    made = estimator(measure=measure)
    epoch = 1_000_000 * CIFAR10.images / 1e9 / 0.8
    assert made.training(KEY).seconds == pytest.approx(7 + 20 * epoch + BETWEEN)
    assert made.training(replace(KEY, seed=1)).basis == "measured now"
    assert len(asked) == 1


def test_what_lies_between_trainings_is_read_off_the_seeds_of_a_network(estimator: Callable[..., Estimator]) -> None:
    later = replace(COST, started="2026-01-01T00:00:15+00:00")  # nine seconds of epochs before
    made = estimator(Past(KEY, COST, "float32"), Past(replace(KEY, seed=1), later, "float32"))
    assert made.training(KEY).seconds == pytest.approx(3 + 20 * 2 + 6)


def test_a_stage_takes_what_it_took_the_last_time(estimator: Callable[..., Estimator]) -> None:
    report = Step("report@digits", ("resblock", "report", "digits"), (), "run", 0)
    forecast = estimator(durations={"report@digits": 33.0}).forecast(report)
    assert (forecast.seconds, forecast.basis) == (33.0 + BETWEEN / 2, "earlier run")
    assert estimator().forecast(report).basis == "rule of thumb"


def test_jobs_run_side_by_side_the_longest_first(estimator: Callable[..., Estimator]) -> None:
    """Downloads of 7, 5, 4 and 3 seconds, two at a time, end after 7 + 3 and 5 + 4 seconds."""
    steps = [Step(str(each), ("resblock", "download", "digits"), (), "run", 0) for each in (3, 4, 5, 7)]
    made = estimator(durations={str(each): each - BETWEEN / 2 for each in (3, 4, 5, 7)})
    assert made.total(steps, 2) == pytest.approx(START + 10)
    assert made.total(steps, 1) == pytest.approx(START + 19)
    assert made.total([], 2) == 0


def test_what_is_restored_costs_next_to_nothing(estimator: Callable[..., Estimator]) -> None:
    restored = replace(STEP, action="restore")
    assert estimator().forecast(restored).seconds < 1
    assert estimator().disk(restored) == 0


def test_disk_is_that_of_the_last_run_or_of_the_parameters(estimator: Callable[..., Estimator]) -> None:
    assert estimator().disk(replace(STEP, bytes=7)) == 3 * 7  # results, DVC's cache, MLflow's model
    assert estimator().disk(STEP) == 3 * 4 * 1000


def test_memory_is_that_of_the_largest_side_by_side(estimator: Callable[..., Estimator]) -> None:
    made = estimator()
    one = made.memory([KEY, replace(KEY, seed=1)], 1)
    assert made.memory([KEY, replace(KEY, seed=1)], 2) == 2 * one
    assert one > CIFAR10.images * 32 * 32 * 3


def test_only_this_machines_trainings_count(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "processor", lambda: "this one")
    write_cost(paths.cost(KEY), COST)
    write_cost(paths.cost(replace(KEY, seed=1)), replace(COST, machine="another"))
    write_json(paths.cost(KEY).parent.parent / "unknown-network" / "seed-0.json", {})
    assert [past.key for past in past_trainings()] == [KEY]


def test_trainings_by_other_versions_are_told(empty: Path) -> None:
    write_json(paths.run(KEY) / MANIFEST, {"versions": {"numpy": "1.0", "no-such-package": "2"}})
    from numpy import __version__ as here

    assert made_by_others([KEY, replace(KEY, seed=1)]) == [
        f"1 trainings were made by numpy 1.0, here is {here}",
        "1 trainings were made by no-such-package 2, here is none",
    ]


def test_a_measurement_of_a_real_network_says_how_fast_it_is(
    params: Params, empty: Path, backend: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = params.recipe("digits")
    monkeypatch.setattr(speed, "AT_LEAST", 0.1)
    rate, beginning = speed.measure("digits", ModelSpec.parse("cnn-4"), recipe)
    assert 1e7 < rate < 1e13
    assert beginning > 0
    assert speed.count("digits", ModelSpec.parse("plain-20"), recipe)[1] == 269_722


# What it says.


def test_a_plan_is_a_table_or_json(estimator: Callable[..., Estimator]) -> None:
    forecast = estimator(Past(KEY, COST, "float32")).forecast(STEP)
    made = Plan([STEP], [forecast], 4000.0, 2, 5_000_000, 4_000_000, 10**9, 10**10, ["something"])
    lines = "\n".join(made.lines())
    assert "train@digits-plain-8-0  run    47 s" in lines
    assert "1 stages to run, 0 to restore from DVC's cache; 2 at a time" in lines
    assert "about 67 min" in lines
    assert "5.0 MB more; 4.0 MB are free, too few" in lines
    assert "note: something" in lines
    tree = json.loads(json.dumps(made.tree()))
    assert tree["stages"][0]["seconds"] == 47.0
    assert tree["seconds"] == 4000.0
    assert list(Plan([], [], 0, 2, 0, 0, 0, 0, []).lines()) == ["nothing is stale: `resblock run` would run nothing"]


@pytest.mark.parametrize(("seconds", "words"), [(3.4, "3 s"), (99, "99 s"), (150, "2 min"), (7500, "2 h 5 min")])
def test_times_are_said_as_people_do(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(("count", "words"), [(12, "12 bytes"), (1500, "1.5 kB"), (2.5e9, "2.5 GB")])
def test_sizes_are_said_as_people_do(count: float, words: str) -> None:
    assert size(count) == words
