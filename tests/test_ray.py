"""Trainings on a real Ray cluster: two nodes with folders of their own, of which one is killed in the middle."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from resblock import paths
from resblock.core.files import read_json
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.splits import Split, SplitName
from resblock.core.training.job import Job
from resblock.running.engines.ray import ELSEWHERE, Terms, differing
from tests.conftest import ROOT, write_digits

KEY = RunKey("digits", ModelSpec.parse("cnn-4"), 0)
PATIENCE = 240  # seconds


def make_project(root: Path, splits: dict[SplitName, Split], epochs: int) -> Path:
    root.mkdir()
    text = (ROOT / paths.PARAMS).read_text()
    (root / paths.PARAMS).write_text(re.sub(r"epochs: 20  .*", f"epochs: {epochs}", text, count=1))
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


@pytest.fixture
def cluster() -> Iterator[str]:
    """A head without room for trainings, and two nodes with room for one each."""
    pytest.importorskip("ray")
    place = Path(tempfile.mkdtemp(prefix="rb"))  # short: sockets lie there
    address, command = "", [sys.executable, "-m", "ray.scripts.scripts", "start", "--disable-usage-stats"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    before = {process.pid for process in psutil.process_iter()}

    def start(name: str, *options: str) -> None:
        folder = place / name
        folder.mkdir()
        variables = {**environment, "TMPDIR": str(folder), "RAY_TMPDIR": str(folder)}
        words = [*command, *options, f"--object-store-memory={100 * 2**20}"]
        done = subprocess.run(words, env=variables, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    try:
        port = 20_000 + os.getpid() % 10_000
        address = f"127.0.0.1:{port}"
        start(
            "h", "--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false", "--node-ip-address=127.0.0.1"
        )
        for name in ("a", "b"):
            start(name, f"--address={address}", "--num-cpus=1", "--node-ip-address=127.0.0.1")
        yield address
    finally:
        ours = [each for each in psutil.process_iter(["cmdline"]) if each.pid not in before]
        started = [each for each in ours if str(place) in " ".join(each.info["cmdline"] or [])]
        for process in started:
            with suppress(psutil.Error):
                process.kill()
        shutil.rmtree(place, ignore_errors=True)


def raylet_of_the_training() -> psutil.Process | None:
    for process in psutil.process_iter(["cmdline"]):
        if (process.info["cmdline"] or [""])[0].startswith("ray::Node"):
            return process.parent()
    return None


def test_a_training_whose_node_dies_goes_on_elsewhere_and_ends_with_the_bytes_of_a_serial_one(
    cluster: str, tmp_path: Path, digits: dict[SplitName, Split]
) -> None:
    epochs = 60
    serial, project = (make_project(tmp_path / name, digits, epochs) for name in ("serial", "project"))
    process = train(project, Terms(cluster))
    deadline = time.monotonic() + PATIENCE
    while not list((project / paths.CHECKPOINTS).glob("[!.]*.npz")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    raylet = raylet_of_the_training()
    assert raylet is not None
    for each in (*raylet.children(recursive=True), raylet):
        each.kill()
    said = concluded(process)
    assert "its node is lost" in said
    assert re.findall(r"epoch +(\d+)/", said) == [str(number) for number in range(1, epochs + 1)]  # each of them once
    assert re.search(r"goes on elsewhere from epoch [1-9]", said)
    concluded(train(serial, None))
    ours, theirs = (
        {path.name: path.read_bytes() for path in (root / paths.run(KEY)).iterdir()} for root in (project, serial)
    )
    assert ours == theirs
    assert read_json(project / paths.cost(KEY))["threads"] == 1
    assert not list((project / paths.CHECKPOINTS).glob("*"))
