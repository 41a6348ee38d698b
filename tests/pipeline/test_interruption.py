"""A training that ends before its end goes on as if it had not: whatever ended it, and whenever."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from resblock.core.files import digest_file
from resblock.tracking.result import RATE
from tests.pipeline.conftest import Workspace, copy_workspace
from tests.pipeline.killing import Moment, make_command

STAGE = "train@digits-residual-8-0"
TRAIN = ("resblock", "train", "digits", "residual-8", "0")
REPRO = ("dvc", "repro", "--single-item", STAGE)
OUT = Path("results/digits/trainings/base/residual-8/seed-0")
COST = Path("results/digits/costs/base/residual-8/seed-0.json")
EPOCHS = 9
AT_ONCE = 15.0  # seconds, on a busy machine


@dataclass(frozen=True)
class Interrupted(Workspace):
    """A project whose `resblock` ends at chosen moments."""

    started: list[subprocess.Popen[str]] = field(default_factory=list[subprocess.Popen[str]])

    def start(self, *command: str, moment: Moment | None = None) -> subprocess.Popen[str]:
        """Start a command in a process group of its own."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        folders = (str(self.root / "bin"), str(Path(sys.executable).parent), environment["PATH"])
        environment |= {"PATH": os.pathsep.join(folders), "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(
            [self.root / "bin/resblock" if command[0] == "resblock" else command[0], *command[1:]],
            cwd=self.root,
            env=environment | (moment.environment() if moment else {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def end_all(self) -> None:
        """End what a failed test left running."""
        for process in self.started:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def digests(self) -> dict[str, str]:
        """Return the digest of each file of the run, hidden ones too."""
        return {path.name: digest_file(path) for path in sorted((self.root / OUT).iterdir())}

    def leftovers(self) -> list[Path]:
        """Return what lies in the checkpoints' folder, and every partial file elsewhere."""
        return [*(self.root / ".checkpoints").iterdir(), *(self.root / "results").rglob("*.partial")]


def longer(root: Path, finished: Workspace) -> Interrupted:
    """Copy the finished study and ask for more epochs, with every kind of random state."""
    workspace = Interrupted(copy_workspace(finished, root).root)
    for before, after in (
        ("epochs: 2", f"epochs: {EPOCHS}"),
        ("optimizer: adam            #", "optimizer: sgd  #"),
        ("schedule: cosine", "schedule: onecycle"),
        ("horizontal_flip: false", "horizontal_flip: true"),
        ("crop_padding: 0            # pixels", "crop_padding: 1  # pixels"),
    ):
        workspace.edit("params.yaml", before, after)
    make_command(root / "bin")
    return workspace


@pytest.fixture
def project(finished: Workspace, tmp_path: Path) -> Iterator[Interrupted]:
    project = longer(tmp_path / "project", finished)
    yield project
    project.end_all()


@pytest.fixture(scope="module")
def uninterrupted(finished: Workspace, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The digests of a training that nothing interrupts."""
    workspace = longer(tmp_path_factory.mktemp("uninterrupted") / "project", finished)
    workspace.run(*TRAIN)
    return workspace.digests()


# Killed.

Draw = Callable[[random.Random], Moment]

# In the order in which a training passes them: a training killed late has no epochs left to be killed in.
BEGINNING: dict[str, Draw] = {
    "while it starts": lambda dice: Moment("import", "resblock.stages.train", seconds=dice.uniform(0.01, 6)),
    "while TensorFlow is imported": lambda dice: Moment("import", "tensorflow", seconds=dice.uniform(0.01, 2)),
    "around the first epoch": lambda dice: Moment("open", ".checkpoints/*.lock", seconds=dice.uniform(0.01, 3)),
    "while tracking opens": lambda dice: Moment("import", "mlflow", seconds=dice.uniform(0.01, 2)),
}
BETWEEN: dict[str, Draw] = {
    "within a checkpoint": lambda dice: Moment(
        "open", "*.checkpoints/.*.npz.*.partial", dice.randint(1, 2), size=dice.randint(0, 500_000)
    ),
    "before a checkpoint has its name": lambda dice: Moment("os.rename", ".checkpoints/*.npz", dice.randint(1, 2)),
    "before a checkpoint's name is safe": lambda dice: Moment("open", ".checkpoints", dice.randint(1, 2)),
    "within an epoch": lambda dice: Moment(
        "os.rename", ".checkpoints/*.npz", dice.randint(1, 2), seconds=dice.uniform(0.01, 0.4)
    ),
}
END: dict[str, Draw] = {
    "within the weights": lambda dice: Moment(
        "open", "*trainings/*/.weights.npz.*.partial", size=dice.randint(0, 300_000)
    ),
    "before the weights have their name": lambda _: Moment("os.rename", "results/*/trainings/*/weights.npz"),
    "between weights and metrics": lambda _: Moment("os.rename", "results/*/trainings/*/metrics.json"),
    "before the manifest": lambda _: Moment("os.rename", "results/*/trainings/*/run.json"),
    "between results and cost": lambda _: Moment("os.rename", ".costs/*.json"),
    "while tracking closes": lambda dice: Moment("os.rename", ".costs/*.json", seconds=dice.uniform(0.01, 1)),
    "while an artifact is logged": lambda dice: Moment("open", "*/mlartifacts/*", dice.randint(1, 3)),
}


def draw(dice: random.Random) -> list[tuple[str, Moment]]:
    """Return six moments, early ones first."""
    names = [dice.sample(list(moments), 2) for moments in (BEGINNING, BETWEEN, END)]
    everything = {**BEGINNING, **BETWEEN, **END}
    order = list(everything)
    return [(name, everything[name](dice)) for pair in names for name in sorted(pair, key=order.index)]


def hold_the_promise(
    project: Interrupted, command: tuple[str, ...], moments: list[tuple[str, Moment]], expected: dict[str, str]
) -> None:
    """Kill at each moment, start again by the same command, and hold that nothing shows of it."""
    history: list[str] = []
    for name, moment in moments:
        process = project.start(*command, moment=moment)
        said, _ = process.communicate()
        history.append(f"{name}: {moment}, ended with {process.returncode}\n{said}")
        assert process.returncode != 0, "\n".join(["the last moment did not come", *history])
    process = project.start(*command)
    said, _ = process.communicate()
    story = "\n".join([*history, f"at last, ended with {process.returncode}\n{said}"])
    assert process.returncode == 0, story
    assert project.digests() == expected, story
    assert project.leftovers() == [], story
    hold_one_history(project, story)


def hold_one_history(project: Interrupted, story: str) -> None:
    """Hold that MLflow shows one finished run whose curve has each epoch once, as the file has it."""
    client = MlflowClient(tracking_uri=f"sqlite:///{project.root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("resblock-digits")
    assert experiment is not None
    query = f"attributes.run_name = '{STAGE}' and params.epochs = '{EPOCHS}'"
    runs = client.search_runs([experiment.experiment_id], query)
    assert [run.info.status for run in runs] == ["FINISHED"], story
    for name in runs[0].data.metrics:
        steps = [metric.step for metric in client.get_metric_history(runs[0].info.run_id, name)]
        assert len(steps) == len(set(steps)), f"{name}\n{story}"
    curve = pd.read_csv(project.root / OUT / "curve.csv")
    for column in curve.columns.drop("epoch"):
        shown = RATE if column == "learning_rate" else column
        metrics = client.get_metric_history(runs[0].info.run_id, shown)
        assert [metric.step for metric in metrics] == list(range(1, EPOCHS + 1)), f"{column}\n{story}"
        assert [metric.value for metric in metrics] == list(curve[column]), f"{column}\n{story}"


def test_killed_run_resumes_bit_for_bit(project: Interrupted, uninterrupted: dict[str, str]) -> None:
    """Killed in its first epoch, within a checkpoint and between the files at the end; started by DVC."""
    moments = [
        ("around the first epoch", Moment("open", ".checkpoints/*.lock", seconds=3)),
        ("within a checkpoint", Moment("open", "*.checkpoints/.*.npz.*.partial", nth=3, size=100_000)),
        ("between weights and metrics", Moment("os.rename", "results/*/trainings/*/metrics.json")),
    ]
    hold_the_promise(project, REPRO, moments, uninterrupted)
    assert STAGE not in project.would_run()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_run_killed_at_random_moments_resumes_bit_for_bit(
    seed: int, project: Interrupted, uninterrupted: dict[str, str]
) -> None:
    """Six kills for each of four seeds."""
    hold_the_promise(project, (TRAIN, REPRO)[seed % 2], draw(random.Random(seed)), uninterrupted)


@pytest.mark.slow
def test_a_run_killed_before_its_checkpoint_is_removed_trains_nothing_again(
    project: Interrupted, uninterrupted: dict[str, str]
) -> None:
    process = project.start(*TRAIN, moment=Moment("os.remove", ".checkpoints/*.npz"))
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    said = project.run(*TRAIN).stdout
    assert f"goes on after epoch {EPOCHS}, from its checkpoint" in said
    assert "epoch 1/" not in said
    assert project.digests() == uninterrupted
    assert project.leftovers() == []


@pytest.mark.slow
def test_a_damaged_checkpoint_is_reported_and_not_used(project: Interrupted, uninterrupted: dict[str, str]) -> None:
    process = project.start(*TRAIN, moment=Moment("os.rename", ".checkpoints/*.npz", nth=4))
    process.communicate()
    (path,) = (project.root / ".checkpoints").glob("[!.]*.npz")
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 0x10
    path.write_bytes(whole)
    ended = project.run(*TRAIN)
    assert f"{path.relative_to(project.root)}: not a checkpoint of this training" in ended.stderr
    assert f"epoch 1/{EPOCHS}" in ended.stdout
    assert project.digests() == uninterrupted
    hold_one_history(project, ended.stdout)


@pytest.mark.slow
def test_a_checkpoint_of_other_code_is_not_used(project: Interrupted) -> None:
    """The key has the code's digest in it; a person who edits a block must not go on with what the old one trained."""
    process = project.start(*TRAIN, moment=Moment("os.rename", ".checkpoints/*.npz", nth=2))
    process.communicate()
    source = project.root / "src"
    layers = source / "resblock/model/layers.py"
    layers.write_text(layers.read_text() + "\n# edited\n")
    ended = project.run(sys.executable, "-m", *TRAIN, PYTHONPATH=str(source))
    assert "goes on" not in ended.stdout
    assert f"epoch 1/{EPOCHS}" in ended.stdout


# Two at once.


def until_epoch(number: int, process: subprocess.Popen[str]) -> None:
    """Wait for the line of an epoch in what `process` says."""
    assert process.stdout is not None
    while not (line := process.stdout.readline()).startswith(f"epoch {number}/"):
        assert line, "the training ended"


def test_a_second_training_of_the_same_key_is_refused_and_the_first_goes_on_when_dvc_can_record_it(
    project: Interrupted, uninterrupted: dict[str, str]
) -> None:
    """As after a kill of DVC alone: its stage ends too, since nobody would record it, and leaves its checkpoint."""
    first = project.start(*REPRO)
    until_epoch(1, first)
    (training,) = {int(lock.read_text()) for lock in (project.root / ".checkpoints").glob("*.lock")}
    os.kill(training, signal.SIGSTOP)  # or it would have ended before the second has begun
    first.kill()  # DVC, not the training
    first.wait()
    second = project.start(*REPRO)
    said, _ = second.communicate()
    os.kill(training, signal.SIGCONT)
    assert second.returncode != 0
    assert "digits-base-residual-8-0 is being trained already, by process " in said
    assert "Traceback" not in said
    rest, _ = first.communicate()  # until the last process that may write there has ended
    assert "DVC, which would have recorded this stage, is gone" in rest
    said, _ = project.start(*REPRO).communicate()
    assert "goes on after epoch" in said
    assert f"epoch {EPOCHS}/{EPOCHS}" in said
    assert project.digests() == uninterrupted
    assert project.leftovers() == []
    hold_one_history(project, said)


# Stopped.


def stop(process: subprocess.Popen[str], number: signal.Signals, *, group: bool) -> tuple[str, float]:
    """Send a signal to a process, or to its group as a terminal does; return what it said then and how long it took."""
    begin = time.monotonic()
    (os.killpg if group else os.kill)(process.pid, number)
    said, _ = process.communicate()
    return said, time.monotonic() - begin


def hold_killed(project: Interrupted) -> None:
    client = MlflowClient(tracking_uri=f"sqlite:///{project.root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("resblock-digits")
    assert experiment is not None
    (newest,) = client.search_runs([experiment.experiment_id], max_results=1, order_by=["attributes.start_time DESC"])
    assert newest.info.status == "KILLED"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_stopped_training_ends_cleanly_and_can_go_on(project: Interrupted, number: signal.Signals, code: int) -> None:
    process = project.start(*TRAIN)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("epoch 1/")
    said, seconds = stop(process, number, group=False)
    assert process.returncode == code
    assert said.splitlines()[-1] == f"resblock: ended by {number.name}"
    assert "Traceback" not in said
    assert seconds < AT_ONCE
    hold_killed(project)
    assert [path.suffix for path in project.leftovers()] == [".npz"]


def test_ctrl_c_in_dvc_leaves_no_lock_and_a_checkpoint_to_go_on_from(
    project: Interrupted, uninterrupted: dict[str, str]
) -> None:
    process = project.start(*REPRO)
    until_epoch(2, process)
    said, seconds = stop(process, signal.SIGINT, group=True)
    assert process.returncode != 0
    assert "resblock: ended by SIGINT" in said
    assert "Traceback" not in said
    assert seconds < AT_ONCE
    hold_killed(project)
    again = project.run(*REPRO)
    assert "goes on after epoch" in again.stdout
    assert "had been killed" not in again.stdout + again.stderr  # DVC's words for a lock that nobody gave back
    assert project.digests() == uninterrupted


MOMENTS_TO_STOP: dict[str, Moment] = {
    "as TensorFlow's import begins": Moment("import", "tensorflow"),
    "in TensorFlow's import": Moment("import", "tensorflow", seconds=1),
    "in Keras' import": Moment("import", "keras.src*", seconds=0.3),
    "as MLflow's import begins": Moment("import", "mlflow", seconds=0.1),
    "while the graph is built": Moment("open", ".checkpoints/*.lock", seconds=2),
    "while a checkpoint is written": Moment("open", "*.checkpoints/.*.npz.*.partial", nth=2),
    "while results are written": Moment("os.rename", "results/*/trainings/*/metrics.json"),
}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("name", MOMENTS_TO_STOP)
def test_a_training_stopped_anywhere_ends_at_once_without_a_traceback(
    name: str, number: signal.Signals, project: Interrupted, uninterrupted: dict[str, str]
) -> None:
    moment = MOMENTS_TO_STOP[name]
    process = project.start(
        *TRAIN, moment=Moment(moment.event, moment.pattern, moment.nth, moment.seconds, None, number)
    )
    assert process.stdout is not None
    said: list[str] = []
    while (line := process.stdout.readline()) != "signalled\n":
        said.append(line)
        assert line, f"the moment did not come: {said}"
    begin = time.monotonic()
    rest, _ = process.communicate()
    assert time.monotonic() - begin < AT_ONCE
    assert process.returncode == 128 + number, rest
    assert rest == f"resblock: ended by {number.name}\n"
    project.run(*TRAIN)
    assert project.digests() == uninterrupted
    assert project.leftovers() == []


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_trainings_side_by_side_end_with_the_command_that_started_them(
    number: signal.Signals, code: int, project: Interrupted
) -> None:
    project.edit("params.yaml", f"epochs: {EPOCHS}", "epochs: 500")
    process = project.start("resblock", "run", "digits", "--jobs", "2")
    checkpoints = project.root / ".checkpoints"
    while len(list(checkpoints.glob("[!.]*.npz"))) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    said, seconds = stop(process, number, group=number == signal.SIGINT)
    assert process.returncode == code
    assert said.splitlines()[-1] == f"resblock: ended by {number.name}"
    assert "Traceback" not in said
    assert seconds < 2 * AT_ONCE
    hold_killed(project)
    assert not list(checkpoints.glob("*.lock"))  # no training lives
    assert len(list(checkpoints.glob("[!.]*.npz"))) == 2
    status = project.run("dvc", "status", STAGE)
    assert "had been killed" not in status.stdout + status.stderr
