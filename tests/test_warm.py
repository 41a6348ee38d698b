"""Workers: what they run is as if each command had a process of its own, and what they cannot run has one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from resblock import paths
from resblock.core.files import read_arrays, read_json
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.splits import Split, SplitName
from resblock.core.training.run import MANIFEST
from resblock.running import handover, warm
from resblock.running.caller import is_dvc
from resblock.running.dvc import Dvc, Transcript
from resblock.running.handover import WORKER, hand_over
from resblock.running.warm import Worker
from tests.conftest import ROOT, write_digits

RESBLOCK = Path(sys.executable).parent / "resblock"
PATIENCE = 60  # seconds


def wait_for(happens: Callable[[], object]) -> None:
    """Wait until `happens` returns something; fail where it never does."""
    end = time.monotonic() + PATIENCE
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.05)


# A worker without Keras: who talks to whom.

SERVER = """
import os, sys
from pathlib import Path
from resblock.running import warm

def handle(arguments):
    if arguments == ["fault"]:
        raise ValueError("a fault of ours")
    if arguments == ["end"]:
        os._exit(9)
    if arguments == ["elsewhere"]:
        return None
    print("for", os.environ["CALLER"], *arguments)
    print("aside", file=sys.stderr)
    return 3

warm.PACKAGE = Path("sources").resolve()
warm.serve(Path(sys.argv[1]), handle)
"""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A worker in the working directory that the environment names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CALLER", "me")
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources/a.py").write_text("1\n")
    monkeypatch.setattr(handover, "PACKAGE", tmp_path / "sources")
    process = subprocess.Popen([sys.executable, "-c", SERVER, "socket"], stderr=subprocess.PIPE, text=True)
    monkeypatch.setenv(WORKER, str(tmp_path / "socket"))
    try:
        wait_for(lambda: hand_over(["hello"]) is not None)
        yield
    finally:
        process.kill()
        process.communicate()


@pytest.mark.usefixtures("server")
def test_a_worker_answers_as_the_command_itself_would(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    monkeypatch.setenv("CALLER", "another")
    assert hand_over(["train", "é"]) == 3
    assert capsys.readouterr() == ("for another train é\n", "aside\n")


@pytest.mark.usefixtures("server")
def test_a_worker_outlives_a_fault_and_shows_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert hand_over(["fault"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "ValueError: a fault of ours"
    assert hand_over(["train"]) == 3


@pytest.mark.usefixtures("server")
def test_what_a_worker_does_not_take_runs_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hand_over(["elsewhere"]) is None
    (tmp_path / "below").mkdir()
    with chdir("below"):
        assert hand_over(["train"]) is None  # its paths mean other files
    with monkeypatch.context() as patch:
        patch.setattr(handover, "PACKAGE", tmp_path / "other sources")
        assert hand_over(["train"]) is None
    for name in ("KERAS_BACKEND", "ONEDNN_MAX_CPU_ISA"):  # what was read as the worker started
        with monkeypatch.context() as patch:
            patch.setenv(name, "other")
            assert hand_over(["train"]) is None
    assert hand_over(["train"]) == 3
    (tmp_path / "sources/a.py").write_text("2\n")  # edited since
    assert hand_over(["train"]) is None
    (tmp_path / "sources/a.py").write_text("1\n")
    assert hand_over(["train"]) == 3
    monkeypatch.delenv(WORKER)
    assert hand_over(["train"]) is None
    monkeypatch.setenv(WORKER, str(tmp_path / "gone/socket"))
    assert hand_over(["train"]) is None


@pytest.mark.usefixtures("server")
def test_a_worker_outlives_sources_that_cannot_be_read_and_other_codes_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "sources/.#a.py"  # as Emacs makes it of an edit that is not saved
    lock.symlink_to("me@host.1:1")
    assert hand_over(["train"]) is None
    lock.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(handover.json, "dumps", lambda _: '{"arguments": ["train"]}')
        assert hand_over(["train"]) is None
    assert hand_over(["train"]) == 3


@pytest.mark.usefixtures("server")
def test_a_worker_that_ends_in_the_middle_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert hand_over(["end"]) == 1
    assert "the worker ended in the middle of this stage; run the same command again" in capsys.readouterr().err


# Workers as `resblock run` has them.


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, digits: dict[SplitName, Split]) -> Path:
    """A folder in which the smallest network trains on digits for two epochs."""
    root = tmp_path_factory.mktemp("project")
    text = (ROOT / paths.PARAMS).read_text()
    (root / paths.PARAMS).write_text(re.sub(r"epochs: 20  .*", "epochs: 2", text))
    write_digits(root, digits)
    (root / "poison").mkdir()
    (root / "poison/keras.py").write_text("raise ImportError('this process imports Keras itself')")
    return root


@contextmanager
def working_in(folder: Path) -> Generator[Worker]:
    """Have a worker at `folder` that is ready."""
    with chdir(folder):
        worker = Worker.start()
    with worker:
        wait_for(Path(worker.environment[WORKER]).exists)
        yield worker


@pytest.fixture(scope="module")
def worker(project: Path) -> Iterator[Worker]:
    with working_in(project) as worker:
        yield worker


def train(seed: int, folder: Path, worker: Worker, *, alone: bool) -> None:
    """Run a training's command; where it is not to be `alone`, it must not import Keras."""
    assert stage("train", seed, folder, worker, alone=alone).startswith(b"epoch 1/2")


def evaluate(seed: int, folder: Path, worker: Worker, *, alone: bool) -> None:
    """Run an evaluation's command, likewise."""
    assert b"test accuracy" in stage("evaluate", seed, folder, worker, alone=alone)


def stage(name: str, seed: int, folder: Path, worker: Worker, *, alone: bool) -> bytes:
    """Run a stage's command and return what it prints."""
    store = Path(worker.folder.name) / "mlflow.db"  # one for all: it takes seconds to make
    environment = {**os.environ, **worker.environment, "MLFLOW_TRACKING_URI": f"sqlite:///{store}"}
    if not alone:
        environment["PYTHONPATH"] = str(folder / "poison")
    ended = subprocess.run(
        [RESBLOCK, name, "digits", "cnn-4", str(seed)], cwd=folder, env=environment, capture_output=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
    return ended.stdout


def results(seed: int, folder: Path) -> Path:
    return folder / paths.run(RunKey("digits", ModelSpec.parse("cnn-4"), seed))


def scores(seed: int, folder: Path) -> Path:
    return folder / paths.scores(RunKey("digits", ModelSpec.parse("cnn-4"), seed))


def test_trainings_in_one_worker_are_those_of_separate_commands(project: Path, worker: Worker, tmp_path: Path) -> None:
    for seed in (0, 1):
        train(seed, project, worker, alone=False)
    shutil.copy(project / paths.PARAMS, tmp_path)
    shutil.copytree(project / "data", tmp_path / "data")
    train(1, tmp_path, worker, alone=True)  # another folder: not the worker's
    found, expected = (
        {path.name: path.read_bytes() for path in results(1, folder).iterdir()} for folder in (project, tmp_path)
    )
    assert found == expected
    assert (results(0, project) / "weights.npz").read_bytes() != found["weights.npz"]


def test_a_command_that_wants_other_threads_runs_by_itself(project: Path, worker: Worker) -> None:
    train(2, project, worker, alone=False)
    before = (project / paths.PARAMS).read_text()
    (project / paths.PARAMS).write_text(before.replace("threads: 1 ", "threads: 2 ", 1))
    try:
        train(2, project, worker, alone=True)
    finally:
        (project / paths.PARAMS).write_text(before)
    assert read_json(results(2, project) / MANIFEST)["threads"] == 2


def test_a_worker_ends_with_its_caller_and_the_checkpoint_stands(
    project: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(project / "data", tmp_path / "data")
    (tmp_path / paths.PARAMS).write_text((project / paths.PARAMS).read_text().replace("epochs: 2\n", "epochs: 9999\n"))
    kept = tmp_path / paths.CHECKPOINTS
    with working_in(tmp_path) as worker:
        command = [RESBLOCK, "train", "digits", "cnn-4", "0"]
        environment = {**os.environ, **worker.environment, "PYTHONPATH": str(project / "poison")}
        with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL) as caller:
            try:
                wait_for(lambda: list(kept.glob("*.npz")))
            finally:
                caller.kill()
        worker.process.wait(PATIENCE)
    (checkpoint,) = kept.glob("*.npz")
    assert len(read_arrays(checkpoint)) > 1  # whole
    assert not list(kept.glob("*.lock"))
    assert capfd.readouterr().err == ""


def test_a_worker_has_a_socket_where_temporary_folders_have_long_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket's address may have some 100 bytes; with a longer one every worker died, and each stage ran cold."""
    long = tmp_path / ("x" * 120)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: SimpleNamespace(wait=lambda *_: 0))
    worker = Worker.start()
    assert len(worker.environment[WORKER].encode()) < 100
    worker.folder.cleanup()


def test_a_worker_that_is_starting_is_not_waited_for(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with chdir(tmp_path):
        worker = Worker.start()
    begin = time.monotonic()
    with worker:
        pass
    assert time.monotonic() - begin < warm.PATIENCE / 2
    assert worker.process.returncode is not None
    assert capfd.readouterr() == ("", "")


def test_a_worker_that_waits_ends_without_a_word(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with working_in(tmp_path) as worker:
        pass
    assert worker.process.returncode == 0
    assert capfd.readouterr() == ("", "")
    assert not Path(worker.folder.name).exists()


def test_evaluations_in_one_worker_are_those_of_separate_commands(
    project: Path, worker: Worker, tmp_path: Path
) -> None:
    """Two seeds share the network that is opened, and what the training before had compiled does not matter."""
    for seed in (0, 1):
        train(seed, project, worker, alone=False)
        evaluate(seed, project, worker, alone=False)
    for name in ("data", "results"):
        shutil.copytree(project / name, tmp_path / name)
    shutil.copy(project / paths.PARAMS, tmp_path)
    shutil.rmtree(scores(1, tmp_path))
    evaluate(1, tmp_path, worker, alone=True)
    found, expected = (
        {path.name: path.read_bytes() for path in scores(1, folder).iterdir()} for folder in (project, tmp_path)
    )
    assert found == expected


# What DVC 3.67 said, word for word.
SAID = """\
Running stage 'train@digits-cnn-4-0':
> resblock train digits cnn-4 0
epoch 1/1  train 2.1 20.0%
Updating lock file 'dvc.lock'

Stage 'train@digits-cnn-4-1' is cached - skipping run, checking out outputs
Updating lock file 'dvc.lock'

Stage 'evaluate@digits-cnn-4-0' didn't change, skipping
Running stage 'evaluate@digits-cnn-4-1':
> resblock evaluate digits cnn-4 1
"""
WELL = [
    ("train@digits-cnn-4-0", True, ["epoch 1/1  train 2.1 20.0%"]),
    ("train@digits-cnn-4-1", True, ["restored from DVC's cache"]),
    ("evaluate@digits-cnn-4-0", True, ["has not changed"]),
]
LAST = "evaluate@digits-cnn-4-1"
FAILED = f"""\
resblock: no room
ERROR: failed to reproduce '{LAST}': failed to run: resblock evaluate digits cnn-4 1, exited with 1
"""
CONCLUDED = """\
digits-base-cnn-4-1: test accuracy 0.97
Updating lock file 'dvc.lock'

To track the changes with git, run:

\tgit add dvc.lock

To enable auto staging, run:

\tdvc config core.autostage true
Use `dvc push` to send your updates to remote storage.
"""


@pytest.mark.parametrize(
    ("end", "code", "last", "failed"),
    [
        (CONCLUDED, 0, (LAST, True, ["digits-base-cnn-4-1: test accuracy 0.97"]), ""),
        (FAILED, 255, (LAST, False, ["resblock: no room"]), LAST),
        ("half", -9, (LAST, False, ["half", "DVC was ended by SIGKILL; the same command goes on from there"]), LAST),
    ],
    ids=["all ended well", "the last one failed", "killed"],
)
def test_what_dvc_says_is_told_stage_by_stage(
    end: str, code: int, last: tuple[str, bool, list[str]], failed: str
) -> None:
    heard = Transcript()
    assert [ended for line in (SAID + end).splitlines() for ended in heard.hear(line)] == WELL
    assert list(heard.close(code)) == [last]
    assert heard.failed == failed


def test_a_stage_that_could_not_be_begun_failed_with_dvcs_words() -> None:
    line = f"ERROR: failed to reproduce '{LAST}': missing data 'source': data/splits/digits"
    heard = Transcript()
    assert list(heard.hear(line)) == []
    assert list(heard.close(255)) == [(LAST, False, [line])]


# A DVC that fails at one stage, has ended before any, or ends between two commands.
STAND_IN = """
import json, os, sys
sys.stdout.reconfigure(errors="surrogateescape")
for line in sys.stdin:
    request = json.loads(line)
    stages = request["arguments"][request["arguments"].index("--single-item") + 1 :]
    if "none" in stages:
        sys.exit("ERROR: no lock")
    for stage in stages:
        print(f"Running stage '{stage}':")
        if stage == "bad":
            sys.exit("ERROR: failed to reproduce 'bad': failed to run: it, exited with 1")
        print("\\x1e", b"\\xff".decode(errors="surrogateescape"))
        print(f"did {stage} for {request['environment']['SEAT']} in {os.getpid()}")
    print(request["word"], flush=True)
    if "last" in stages:
        sys.exit(1)
"""


class Teller:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, bool]] = []
        self.lines: list[str] = []

    def said(self, stage: str, line: str) -> None:
        pass

    def ended(self, stage: str, well: bool, lines: Sequence[str]) -> None:
        assert lines
        self.told.append((stage, well))
        self.lines.append(lines[-1])


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dvc]:
    """DVC's processes, of which none is DVC."""
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    monkeypatch.setattr("resblock.running.dvc.recorder", SimpleNamespace(__name__="stand_in"))
    with Dvc({**os.environ, "PYTHONPATH": str(tmp_path)}) as dvc:
        yield dvc


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        (["a", "bad", "b"], [("a", True), ("bad", False), ("b", True)]),
        (["none", "a"], [("none", False), ("a", False)]),
    ],
)
def test_a_stage_that_fails_keeps_no_other_from_being_tried(
    stages: list[str], expected: list[tuple[str, bool]], stand_in: Dvc
) -> None:
    teller = Teller()
    stand_in.repro_each(stages, {"SEAT": "a"}, teller)
    assert teller.told == expected


def test_one_process_of_dvc_runs_what_comes_one_after_the_other(stand_in: Dvc) -> None:
    first, second = Teller(), Teller()
    with stand_in:
        stand_in.repro_each(["a", "b"], {"SEAT": "one"}, first)
        stand_in.repro_each(["c"], {"SEAT": "two"}, first)
        (process,) = stand_in._idle  # pyright: ignore[reportPrivateUsage]
        assert first.lines == [f"did {word} in {process.pid}" for word in ("a for one", "b for one", "c for two")]
        stand_in.repro_each(["last"], {"SEAT": "one"}, first)
        process.wait(PATIENCE)
        stand_in.repro_each(["d"], {"SEAT": "one"}, second)  # by another process
        (process,) = stand_in._idle  # pyright: ignore[reportPrivateUsage]
        answers = iter([None])  # killed after it was found to live
        process.poll = lambda: next(answers, -9)
        process.kill()
        process.wait(PATIENCE)
        stand_in.repro_each(["e"], {"SEAT": "one"}, second)
    assert second.told == [("d", True), ("e", True)]
    assert not stand_in._running  # pyright: ignore[reportPrivateUsage]


def test_a_command_whose_dvc_was_killed_ends_too(tmp_path: Path) -> None:
    program = tmp_path / "dvc"
    code = "from resblock.running.caller import end_with_dvc; end_with_dvc(); print('on', flush=True); input()"
    program.write_text(f"import subprocess, sys\nsubprocess.run(['sh', '-c', sys.argv[1] + '; true'])\n# {code}\n")
    child = f'{sys.executable} -c "{code}"'
    with subprocess.Popen(
        [sys.executable, program, child], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == "on\n"
        theirs = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        gone, alive = psutil.wait_procs(theirs, timeout=20)
        assert len(gone) == len(theirs) >= 2
        assert not alive


def test_without_dvc_above_nothing_is_watched() -> None:
    assert not is_dvc(["/usr/bin/python", "train.py", "--data", "dvc"])
    assert is_dvc(["/x/python", "/x/bin/dvc", "repro"]) and is_dvc(["/x/python", "-m", "dvc", "repro"])
    assert is_dvc(["/x/python", "-m", "resblock.running.recorder", "repro"])


def test_a_dvc_that_was_killed_is_called_so() -> None:
    heard = Transcript()
    list(heard.hear("Running stage 'train@a':"))
    list(heard.hear("epoch 1/2"))
    assert list(heard.close(-9)) == [
        ("train@a", False, ["epoch 1/2", "DVC was ended by SIGKILL; the same command goes on from there"])
    ]


def test_stale_stages_are_asked_for_again_while_another_dvc_writes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    busy = subprocess.CompletedProcess((), 255, "", "ERROR: 'x' is busy, it is being blocked by:\n  (PID 1): dvc\n")
    answers = [busy, busy, subprocess.CompletedProcess((), 0, '{"train@a": []}', "")]
    monkeypatch.setattr(Dvc, "_call", lambda self, *arguments: answers.pop(0))
    monkeypatch.setattr("resblock.running.dvc.BREATH", 0.0)
    assert Dvc({}).stale(["train@a", "train@b"]) == ["train@a"]
    assert capsys.readouterr().out.count("waiting until it has ended") == 1
