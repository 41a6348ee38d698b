"""A Ray cluster on this machine: a head without room for trainings, and two nodes with folders of their own."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

START = 240  # seconds that a node may take to start; busy machines take longer than Ray waits
TRAINS = "ray::Node"  # how a process of a cluster calls itself while it trains
# Says its address, and starts a node in a folder of its own for each line that it hears.
SCRIPT = """
import os, sys, tempfile
from ray.cluster_utils import Cluster

def add_node():
    os.environ["TMPDIR"] = tempfile.mkdtemp(dir=sys.argv[1])
    cluster.add_node(num_cpus=int(sys.argv[2]), object_store_memory=100 * 2**20)

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
add_node()
add_node()
print(cluster.address, flush=True)
for _ in sys.stdin:
    add_node()
    print("added", flush=True)
cluster.shutdown()
"""


@dataclass(frozen=True)
class Nodes:
    """A cluster that may lose nodes; `variables` is what its drivers are started with."""

    address: str
    variables: Mapping[str, str]
    _input: IO[str]
    _output: IO[str]

    def lose(self, node: psutil.Process) -> None:
        """Kill a node with all that runs on it; another takes its place."""
        for each in (*node.children(recursive=True), node):
            with suppress(psutil.Error):
                each.kill()
        print(file=self._input, flush=True)
        self._output.readline()


def trainings() -> list[psutil.Process]:
    """Return the processes that train on nodes which this process has started, and no others."""
    found: list[psutil.Process] = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if (process.cmdline() or [""])[0].startswith(TRAINS):
                found.append(process)
    return found


@contextmanager
def started(folder: Path, cpus: int) -> Generator[Nodes]:
    """Start a cluster in `folder` whose nodes carry `cpus` trainings each; it ends with the block."""
    variables = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {**variables, "RAY_raylet_start_wait_time_s": str(START)}
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", SCRIPT, str(folder), str(cpus)]
    process = subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        yield Nodes(address, variables, process.stdin, process.stdout)
    finally:
        end(process)


def end(process: subprocess.Popen[str]) -> None:
    """End a part of a cluster, with all that it started."""
    assert process.stdin is not None and process.stdout is not None
    theirs = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    process.stdin.close()
    for each in theirs:
        with suppress(psutil.Error):
            each.kill()
    psutil.wait_procs(theirs, timeout=10)
    process.wait()
    process.stdout.close()
