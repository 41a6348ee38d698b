"""Trainings on a real Ray cluster: two nodes with folders of their own; the driver is killed, then a node."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from resblock import paths
from resblock.cli import main
from resblock.core.errors import UserError
from resblock.core.files import read_json
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.splits import Split, SplitName, read_description
from resblock.core.training.job import Job
from resblock.running import node
from resblock.running.engines.ray import Cluster, _files, _room, differing  # pyright: ignore[reportPrivateUsage]
from resblock.running.terms import ELSEWHERE, Terms
from tests.chaos import nodes
from tests.conftest import ROOT, write_digits

KEY = RunKey("digits", ModelSpec.parse("cnn-4"), 0)
EPOCHS = 60
PATIENCE = 240  # seconds


def make_project(root: Path, splits: dict[SplitName, Split]) -> Path:
    root.mkdir()
    text = (ROOT / paths.PARAMS).read_text()
    (root / paths.PARAMS).write_text(re.sub(r"epochs: 20  .*", f"epochs: {EPOCHS}", text, count=1))
    write_digits(root, splits)
    return root


@pytest.fixture
def job(tmp_path: Path, make_recipe: Any) -> Job:
    places = ("splits", "results", "cost", "checkpoints")
    return Job(KEY, make_recipe(), **{name: tmp_path / name for name in places})


def test_a_node_that_differs_in_what_decides_bytes_is_told_by_what(job: Job, backend: int) -> None:
    from resblock.core.training.manifest import make_manifest

    manifest = make_manifest(KEY, job.recipe, data_digest="0", threads=1)
    assert list(differing(manifest, job)) == []
    other = {**manifest, "versions": {**manifest["versions"], "numpy": "1.0"}, "code": "else"}
    assert [words.split()[0] for words in differing(other, job)] == ["code", "versions"]
    bfloat16 = replace(job, recipe=replace(job.recipe, precision="mixed_bfloat16"))
    assert [words.split()[0] for words in differing(manifest, bfloat16)] == ["device"]


def train(root: Path, terms: Terms | None) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    if terms:
        environment[ELSEWHERE] = json.dumps(terms.__dict__)
    command = [sys.executable, "-m", "resblock", "train", KEY.dataset, KEY.spec.name, str(KEY.seed)]
    return subprocess.Popen(
        command, cwd=root, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def concluded(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    return said


# A cluster as of `tests.chaos.nodes` where every node is a network of its own, and sees neither the sources nor what
# others write.
BRIDGE, NETWORK, PORT = "resblock-ray", "10.77.0", 6399
HEAD = f"{NETWORK}.1"
RAY = (sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--object-store-memory", str(100 * 2**20))
NODE = """
read -r _
ip link set lo up && ip address add "$1/24" dev "$2" && ip link set "$2" up
for folder in /tmp /dev/shm "$3"; do mount -t tmpfs tmpfs "$folder"; done
shift 3
exec "$@"
"""


def ip(*words: str) -> bool:
    return not subprocess.run(("ip", *words), capture_output=True, check=False).returncode


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the address of a cluster of two nodes, on networks of their own where this machine allows it."""
    pytest.importorskip("ray")
    tmp_path = tmp_path_factory.mktemp("cluster")
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        if shutil.which("unshare") and shutil.which("ip") and ip("link", "add", BRIDGE, "type", "bridge"):
            stack.callback(ip, "link", "delete", BRIDGE)
            patch.setenv("RAY_AUTH_MODE", "token")
            patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
            yield networks(stack, tmp_path)
        else:
            found = stack.enter_context(nodes.started(tmp_path, cpus=1))
            for name, value in found.variables.items():
                patch.setenv(name, value)
            yield found.address


def networks(stack: ExitStack, tmp_path: Path) -> str:
    """Start a cluster whose nodes share a bridge and no more; return its address."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["RAY_raylet_start_wait_time_s"] = str(nodes.START)
    assert ip("address", "add", f"{HEAD}/24", "dev", BRIDGE)
    assert ip("link", "set", BRIDGE, "up")
    head = (*RAY, "--head", "--num-cpus=0", f"--node-ip-address={HEAD}", f"--port={PORT}", "--include-dashboard=false")
    said = started(stack, head, tmp_path, environment).stdout
    assert said is not None
    assert any("Ray runtime started" in line for line in said)
    for number, name in enumerate(("a", "b"), start=2):
        own, outer, inner = f"{NETWORK}.{number}", f"{BRIDGE}-{name}", f"resblock-in-{name}"
        join = (*RAY, f"--address={HEAD}:{PORT}", "--num-cpus=1", f"--node-ip-address={own}")
        alone = ("unshare", "--net", "--mount", "sh", "-euc", NODE, "sh", own, inner, str(ROOT / "src"))
        node = started(stack, (*alone, *join), Path("/"), environment)
        assert ip("link", "add", outer, "type", "veth", "peer", "name", inner)
        assert ip("link", "set", outer, "master", BRIDGE, "up")
        while not Path(f"/proc/{node.pid}/exe").samefile(shutil.which("sh") or "sh"):  # it has its own network then
            time.sleep(0.01)
        assert ip("link", "set", inner, "netns", str(node.pid))
        assert node.stdin is not None and node.stdout is not None
        print(file=node.stdin, flush=True)
        assert any("Ray runtime started" in line for line in node.stdout)
    return f"{HEAD}:{PORT}"


def started(stack: ExitStack, command: Sequence[str], folder: Path, environment: dict[str, str]) -> Any:
    """Start a part of a cluster, which ends with the stack, with all that it started."""
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    stack.callback(nodes.end, process)
    return process


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory, digits: dict[SplitName, Split]) -> dict[str, bytes]:
    """Return the files of the training on this machine."""
    root = make_project(tmp_path_factory.mktemp("serial") / "project", digits)
    concluded(train(root, None))
    return files_of(root)


def files_of(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / paths.run(KEY)).iterdir()}


def wait_for_a_checkpoint(project: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not list((project / paths.CHECKPOINTS).glob("[!.]*.npz")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def begun(
    cluster: str, tmp_path: Path, digits: dict[SplitName, Split]
) -> tuple[Path, subprocess.Popen[str], psutil.Process]:
    """Return a project, the command that has its network trained on the cluster, and the process that trains there."""
    project = make_project(tmp_path / "project", digits)
    driver = train(project, Terms(cluster))
    wait_for_a_checkpoint(project, driver)
    (there,) = nodes.trainings()
    return project, driver, there


def epochs_told(said: str) -> list[int]:
    return [int(number) for number in re.findall(r"epoch +(\d+)/", said)]


def test_a_cluster_on_this_machine_listens_where_nobody_else_reaches_it() -> None:
    pytest.importorskip("ray")
    with Cluster(Terms("local"), None, [1]) as cluster:
        theirs: list[Any] = []
        for each in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):  # which has ended meanwhile
                theirs += each.net_connections("tcp")
        listening = {each.laddr.ip for each in theirs if each.status == psutil.CONN_LISTEN}
        assert {ip.removeprefix("::ffff:") for ip in listening} == {"127.0.0.1"}, listening
        assert cluster.slots["cluster"] >= 1


def test_a_driver_that_dies_is_started_again_and_follows_what_trained_on(
    cluster: str, serial: dict[str, bytes], begun: tuple[Path, subprocess.Popen[str], psutil.Process]
) -> None:
    project, driver, there = begun
    assert driver.stdout is not None
    driver.stdout.close()  # as where `resblock run` is killed, which reads it
    assert driver.wait(PATIENCE)
    driver = train(project, Terms(cluster))
    assert driver.stdout is not None
    told = next(number for line in driver.stdout if (number := epochs_told(line)))
    driver.kill()
    driver.communicate()
    time.sleep(1)
    said = concluded(train(project, Terms(cluster)))
    assert (alone := re.search(r"trained on while nobody asked, up to epoch (\d+)", said)), said
    assert int(alone[1]) > told[-1]
    assert epochs_told(said) == list(range(int(alone[1]) + 1, EPOCHS + 1))
    assert files_of(project) == serial
    assert not there.is_running() or there.wait(PATIENCE) is None  # it was this process that trained, and it has ended
    assert not list((project / paths.CHECKPOINTS).glob("*"))


def test_a_training_whose_node_dies_goes_on_elsewhere_and_ends_with_the_bytes_of_a_serial_one(
    serial: dict[str, bytes], begun: tuple[Path, subprocess.Popen[str], psutil.Process]
) -> None:
    project, process, there = begun
    raylet = there.parent()
    assert raylet is not None
    for each in (*raylet.children(recursive=True), raylet):
        each.kill()
    said = concluded(process)
    assert "its node is lost" in said
    assert epochs_told(said) == list(range(1, EPOCHS + 1))  # each of them once
    assert re.search(r"goes on elsewhere from epoch [1-9]", said)
    assert files_of(project) == serial
    assert read_json(project / paths.cost(KEY))["threads"] == 1
    assert not list((project / paths.CHECKPOINTS).glob("*"))


def test_images_come_to_a_node_once_and_again_where_they_are_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: Job, digits: dict[SplitName, Split]
) -> None:
    write_digits(tmp_path, digits)
    splits = tmp_path / paths.splits(KEY.dataset)
    monkeypatch.setattr(node, "CACHE", tmp_path / "cache")
    digest = read_description(splits).digest
    there = node.Node(job.tree(), digest)
    assert there.lacks_splits()
    there.take_splits(_files(splits))
    assert not node.Node(job.tree(), digest).lacks_splits()
    images = tmp_path / "cache" / digest / "train_images.npy"
    images.write_bytes(images.read_bytes()[:-1] + b"?")
    assert there.lacks_splits()
    there.take_splits(_files(splits))
    assert not there.lacks_splits()


def test_a_node_ends_when_nobody_asks_for_long(monkeypatch: pytest.MonkeyPatch, job: Job) -> None:
    ended = Event()
    monkeypatch.setattr(node, "ALONE", 0.2)
    monkeypatch.setattr(os, "_exit", lambda code: ended.set())  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    begun = time.monotonic()
    asked = node.Node(job.tree(), "0")
    monkeypatch.setattr(node, "ANSWER", 0.15)
    assert asked.hear(0) == ([], None)
    assert not ended.is_set()
    assert ended.wait(PATIENCE)
    assert time.monotonic() - begun >= 0.35  # a question begins the time anew


def test_a_node_gives_way_only_where_nobody_has_asked_for_a_while(monkeypatch: pytest.MonkeyPatch, job: Job) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    asked = node.Node(job.tree(), "0")
    asked.end_if_left()
    assert not ended
    monkeypatch.setattr(node, "LEFT", -1.0)
    asked.end_if_left()
    assert ended == [0]


def test_what_a_killed_node_left_is_removed_by_a_later_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: Job
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killed = tmp_path / f"{node.SCRATCH}killed"
    (killed / "checkpoints").mkdir(parents=True)
    monkeypatch.setattr(node, "LEFT", -1.0)
    living = [node.Node(job.tree(), "0") for _ in range(2)]
    assert not killed.exists()
    assert len(list(tmp_path.glob(f"{node.SCRATCH}*"))) == len(living)


@pytest.mark.parametrize("address", ["", "nonsense", "127.0.0.1", ":6379"])
def test_an_address_that_is_none_is_refused_at_once(address: str) -> None:
    with pytest.raises(UserError, match="must be local, auto, or the host and port of a cluster"):
        Cluster(Terms(address), None, [1])


def test_room_is_counted_node_by_node() -> None:
    found = {"address": "a", "nodes": [{"CPU": 2.0}, {"CPU": 3.0, "GPU": 1.0}]}
    assert _room(found, Terms("a", cpus=2)) == 2
    assert _room(found, Terms("a", cpus=1)) == 5
    assert _room(found, Terms("a", cpus=1, gpus=0.5)) == 2
    with pytest.raises(UserError, match="have 2 CPU, 0 GPU; 3 CPU, 1 GPU; a training wants 4 CPU and 0 GPU on one"):
        _room(found, Terms("a", cpus=4))


def test_a_node_with_other_threads_gives_other_bytes(job: Job, backend: int) -> None:
    from resblock.core.training.manifest import make_manifest

    manifest = make_manifest(KEY, job.recipe, data_digest="0", threads=1)
    all_there_are = replace(job, recipe=replace(job.recipe, threads=0))
    found = [words.split()[0] for words in differing({**manifest, "threads": 64}, all_there_are)]
    assert found == ["threads"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--cpus", "nan", "--ray", "local"), "must be numbers"),
        (("--cpus", "2"), "say something with --ray alone"),
        (("--mixed",), "say something with --ray alone"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options: tuple[str, ...], words: str) -> None:
    ended = CliRunner().invoke(main, ["run", *options])
    assert ended.exit_code == 2
    assert words in ended.output
