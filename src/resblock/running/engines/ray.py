"""The engine on a Ray cluster that shares nothing but the network.

DVC runs every stage here. `resblock train`, started with `ELSEWHERE`, has the training computed by an actor on some
node: code and splits go there, checkpoints and results come back, and this process writes them, tells MLflow and DVC.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import psutil

from resblock.core.backends import NAMES, PINNED, variables_that_change_bits
from resblock.core.backends.machine import available_cores, processor_kind
from resblock.core.errors import UserError
from resblock.core.files import digest_bytes, digest_sources, write_bytes, write_together
from resblock.core.splits import DESCRIPTION, SPLIT_NAMES, array_path, read_description
from resblock.core.training.checkpoint import Checkpoint
from resblock.core.training.job import Job
from resblock.core.training.manifest import CORE
from resblock.core.training.run import MANIFEST, WEIGHTS, EpochRow, Run, read_cost, read_run
from resblock.core.training.watcher import Watcher
from resblock.running.caller import dvc_above, lives
from resblock.running.engines.local import Local
from resblock.running.node import Event, Node
from resblock.running.queue import Unit, Where
from resblock.running.terms import ELSEWHERE, Terms

AUTHENTICATION = "RAY_AUTH_MODE"
NICENESS = "RAY_worker_niceness"
LOOPBACK = "127.0.0.1"
REACHING, ENDING = 10, 30  # seconds: for a connection, and for the process that holds the cluster to end
ROOM = 30.0  # seconds for a node to take a training, after which there is probably no room
PACKAGE = Path(__file__).resolve().parents[2]
MISSING = "--ray needs Ray, which is not installed here; `pip install 'resblock[ray]'` brings it"
# Of a manifest: what a node may have otherwise.
DECIDES = ("code", "backend", "device", "environment", "threads", "versions")


class Cluster:
    """Trainings on the cluster, `jobs` at once or as many as it carries; all other stages here."""

    def __init__(self, terms: Terms, jobs: int | None, threads: Sequence[int]) -> None:
        self._local = Local(None, threads)
        self.cores = self._local.cores
        self._stack = ExitStack()
        with ExitStack() as stack:
            self._variables = _variables(terms)
            found = stack.enter_context(_held_open(terms, self._variables))
            self._terms = Terms(**{**asdict(terms), "address": found["address"]})
            self.slots: Mapping[Where, int] = {**self._local.slots, "cluster": jobs or _room(found, terms)}
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._stack:
            self._local.__exit__()

    def prepare(self, units: Sequence[Unit]) -> None:
        """See `Engine`."""
        self._local.prepare([unit for unit in units if unit.where == "here"])

    @contextmanager
    def seat(self, unit: Unit) -> Generator[Mapping[str, str]]:
        """See `Engine`."""
        if unit.where == "cluster":
            yield {ELSEWHERE: json.dumps(asdict(self._terms)), **self._variables}
        else:
            with self._local.seat(unit) as variables:
                yield variables


def _room(found: Mapping[str, Any], terms: Terms) -> int:
    """Return how many trainings the nodes carry at once. Raises UserError where none carries any."""
    wanted = {"CPU": terms.cpus, "GPU": terms.gpus}
    asked = {kind: each for kind, each in wanted.items() if each}
    nodes: Sequence[Mapping[str, float]] = found["nodes"]
    room = sum(min((int(node.get(kind, 0) / each) for kind, each in asked.items()), default=1) for node in nodes)
    if not room:
        has = "; ".join(", ".join(f"{node.get(kind, 0):g} {kind}" for kind in wanted) for node in nodes)
        raise UserError(
            f"the nodes of the cluster at {found['address']} have {has}; a training wants {terms.cpus:g} CPU and "
            f"{terms.gpus:g} GPU on one of them"
        )
    return room


def _variables(terms: Terms) -> dict[str, str]:
    """Return what every process that uses the cluster starts with.

    Ray asks for a token in a cluster that it starts, and tells that to the process alone that started it.
    """
    if terms.address != "local":
        return {}
    # Ray's workers are nice to others by default, so that evaluations beside them would push them aside.
    return {AUTHENTICATION: os.environ.get(AUTHENTICATION, "token"), NICENESS: os.environ.get(NICENESS, "0")}


def _refuse_where_nobody_listens(address: str) -> None:
    """Raise UserError where nothing answers at `address`, a host and a port: Ray would try for many minutes."""
    if address in ("local", "auto") or "/" in address:
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(
            f"--ray: got {address!r}, must be local, auto, or the host and port of a cluster (10.0.0.1:6379)"
        )
    try:
        socket.create_connection((host, int(port)), timeout=REACHING).close()
    except OSError as error:
        raise UserError(f"no Ray cluster answers at {address} ({error.strerror or error})") from None


@contextmanager
def _held_open(terms: Terms, variables: Mapping[str, str]) -> Generator[dict[str, Any]]:
    """Reach the cluster, or start one, by a process of its own; yield its address and what it has."""
    _refuse_where_nobody_listens(terms.address)
    command = [sys.executable, "-m", __name__, terms.address]
    environment = {**os.environ, **variables}
    with subprocess.Popen(  # noqa: S603
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # where Ray tells, line by line, of each try to connect
        text=True,
        process_group=0,
        env=environment,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            said = process.stdout.readline()
            found: dict[str, Any] = json.loads(said or "{}")
            if "address" not in found:
                raise UserError(found.get("error", f"no Ray cluster answers at {terms.address}"))
            yield found
        finally:
            process.stdin.close()  # which ends it, unless it is not through with its start
            try:
                process.wait(ENDING)
            except subprocess.TimeoutExpired:
                process.kill()


def workshop_elsewhere() -> RemoteWorkshop:
    """Return who trains on the cluster that this command was started to use."""
    return RemoteWorkshop(Terms(**json.loads(os.environ[ELSEWHERE])))


@dataclass(frozen=True)
class RemoteWorkshop:
    """Trains as `resblock.core.training.job.Workshop` does, on a node of the cluster."""

    terms: Terms

    def train(self, job: Job, watcher: Watcher) -> Run:
        """Have `job` trained, write its files here and return the run. A node that is lost costs one try.

        Raises UserError where no node may train it, it fails there, or the tries are used up.
        """
        digest = read_description(job.splits).digest
        ray = _connected(self.terms.address)
        job.results.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            attempt = _Attempt(ray, self.terms, job, digest, watcher, stack)
            for tried in range(1, self.terms.tries + 1):
                try:
                    return attempt.run()
                except ray.exceptions.RayTaskError as error:  # a fault of the code there, not of the node
                    raise UserError(f"{job.key}: failed on its node: {str(error).strip()}") from None
                except ray.exceptions.RuntimeEnvSetupError as error:
                    words = " ".join(str(error).split())[:200]
                    raise UserError(f"{job.key}: no node can be set up for it ({words})") from None
                except ray.exceptions.RayError as error:
                    words = type(error).__name__
                    if tried == self.terms.tries:
                        raise UserError(
                            f"{job.key}: lost {tried} times on the cluster, last by {words}; the same command goes on "
                            f"from epoch {attempt.epochs}"
                        ) from None
                    watcher.warn(
                        f"{job.key}: its node is lost ({words}); goes on elsewhere from epoch {attempt.epochs}"
                    )
        raise AssertionError("there is at least one try")


@dataclass
class _Attempt:
    """The tries of one training: what is opened by the first is kept by the others."""

    ray: Any
    terms: Terms
    job: Job
    digest: str
    watcher: Watcher
    stack: ExitStack
    recorder: psutil.Process | None = field(default_factory=dvc_above)
    manifest: dict[str, Any] | None = None
    epochs: int = 0  # that have come back

    def run(self) -> Run:
        """Train on whatever node has room, or follow what an earlier process of this command left there."""
        ray = self.ray
        node, left = self._node()
        ours = not left  # else it may be what another process of this machine follows
        try:
            self._open(self._manifest(node))
            ours, begun = True, ray.get(node.begun.remote())
            if not begun:
                if ray.get(node.lacks_splits.remote()):
                    ray.get(node.take_splits.remote(_files(self.job.splits)))
                ray.get(node.begin.remote(self._file.read_bytes() if self._file.is_file() else None))
            run = self._follow(node, taken_up=begun)
        except BaseException as error:
            if ours and self._ends_there_too(error):
                self._kill(node)
            raise
        self._kill(node)
        return run

    def _ends_there_too(self, error: BaseException) -> bool:
        """Return whether what ends this process is to end the training as well.

        Not where whoever started this one, `resblock run` or DVC, was killed: the same command will be run again, and
        wants what still trains. Such a process finds nobody who reads what it says, or is ended by `end_with_dvc`.
        """
        if isinstance(error, OSError) and not isinstance(error, self.ray.exceptions.RayError):
            return False
        asked = isinstance(error, (KeyboardInterrupt, SystemExit))
        return not asked or self.recorder is None or lives(self.recorder)

    def _kill(self, node: Any) -> None:
        with suppress(Exception):
            self.ray.kill(node)

    def _manifest(self, node: Any) -> dict[str, Any]:
        """Return what the node says that it will make; while no node has room, say so, and make some."""
        said = node.manifest.remote()
        ready, _ = self.ray.wait([said], timeout=ROOM)
        if not ready:
            self.watcher.warn(f"{self.job.key}: waits for room on the cluster")
            for name in self.ray.util.list_named_actors():
                if name.startswith(_place()):
                    with suppress(ValueError):
                        self.ray.get_actor(name).end_if_left.remote()
        return self.ray.get(said)

    def _node(self) -> tuple[Any, bool]:
        """Return who trains, and whether an earlier process left it; this one's first try alone looks for such."""
        ray, terms, tree = self.ray, self.terms, self.job.tree()
        variables = {**variables_that_change_bits(), "KERAS_BACKEND": os.environ.get("KERAS_BACKEND", NAMES[0])}
        mine = [tree, self.digest, digest_sources(PACKAGE), variables]
        name = f"{_place()}-{digest_bytes(json.dumps(mine).encode())}"
        if self.manifest is None:
            for each in ray.util.list_named_actors():
                if each.startswith(name):
                    with suppress(ValueError):  # which has ended in this moment
                        return ray.get_actor(each), True
        remote = ray.remote(Node).options(
            name=f"{name}-{time.time_ns()}",
            lifetime="detached",  # from this process, which may die
            num_cpus=terms.cpus,
            num_gpus=terms.gpus,
            runtime_env={"env_vars": variables},
        )
        return remote.remote(tree, self.digest), False

    @property
    def _file(self) -> Path:
        assert self.manifest is not None
        return Checkpoint(self.job.checkpoints, str(self.manifest["key"])).path

    def _open(self, manifest: dict[str, Any]) -> None:
        """Hold what the node will make against what this machine would, and open what hears of it."""
        if differences := list(differing(manifest, self.job)):
            words = "; ".join(differences)
            if not self.terms.mixed:
                raise UserError(
                    f"{self.job.key}: a node would give other bytes than this machine: {words}; make them equal, or "
                    "allow it with --mixed, which run.json records"
                )
            self.watcher.warn(f"{self.job.key}: a node differs from this machine, and run.json says so: {words}")
        if self.manifest is None:
            self.manifest = manifest
            checkpoint = Checkpoint(self.job.checkpoints, manifest["key"])
            self.stack.enter_context(checkpoint.held(str(self.job.key), self.watcher.warn, self.job.results))
            self.stack.enter_context(self.watcher.watch(manifest))
        elif manifest["key"] != self.manifest["key"]:
            raise UserError(f"{self.job.key}: begun on another kind of node; the same command begins it anew")

    def _follow(self, node: Any, *, taken_up: bool) -> Run:
        known, seen = 0, self.epochs
        while True:
            events, checkpoint = self.ray.get(node.hear.remote(known))
            known += len(events)
            if checkpoint:
                self._keep(checkpoint, max(content.epoch for kind, content in events if kind == "epoch"))
            if taken_up:
                events, taken_up = self._catch_up(events), False
            for kind, content in events:
                if kind == "epoch":
                    self.watcher.epoch(content)
                elif kind == "resumed":
                    self.epochs = len(content)
                    if not seen:  # by an earlier process of this command, not by a node of this one
                        self.watcher.resumed(content)
                elif kind == "warning":
                    self.watcher.warn(content)
                elif kind == "results":
                    return self._write(*content)
                else:
                    raise UserError(f"{self.job.key}: {'failed on its node' if kind == 'fault' else kind}: {content}")

    def _catch_up(self, events: Sequence[Event]) -> list[Event]:
        """Tell of the epochs that ended before this process asked; return what else happened."""
        curve: list[EpochRow] = []
        for kind, content in events:
            curve += {"epoch": [content], "resumed": content}.get(kind, [])
        if curve:
            self.watcher.warn(f"{self.job.key}: its node trained on while nobody asked, up to epoch {len(curve)}")
            self.epochs = len(curve)
            self.watcher.resumed(curve)
        return [event for event in events if event[0] not in ("epoch", "resumed")]

    def _keep(self, checkpoint: bytes, epoch: int) -> None:
        """Write a checkpoint that came back; a disk that is full for a while should not end the training."""
        try:
            write_bytes(self._file, checkpoint)
            self.epochs = epoch
        except OSError as error:
            self.watcher.warn(
                f"{self._file}: {error.strerror}; a lost node would cost the epochs from {self.epochs} on"
            )

    def _write(self, files: Mapping[str, bytes], cost: bytes) -> Run:
        """Write what came back as the training itself would: the manifest last."""
        names = sorted(files, key=lambda name: (name == MANIFEST, name != WEIGHTS))
        write_together({self.job.results / name: files[name] for name in names})
        write_bytes(self.job.cost, cost)
        run, spent = read_run(self.job.results), read_cost(self.job.cost)
        if run.status == "diverged":
            self.watcher.warn(f"{self.job.key}: diverged in epoch {len(run.curve)}; recorded as such")
        self.watcher.written(run, spent)
        return run


def _place() -> str:
    """Return what tells the trainings of this folder from those of others on a cluster."""
    return digest_bytes(json.dumps([socket.gethostname(), str(Path.cwd())]).encode())[:16]


def _files(splits: Path) -> dict[str, bytes]:
    """Return the files that training reads."""
    arrays = [array_path(splits, name, kind) for name in SPLIT_NAMES for kind in ("images", "labels")]
    return {path.name: path.read_bytes() for path in (*arrays, splits / DESCRIPTION)}


def differing(manifest: Mapping[str, Any], job: Job) -> Iterator[str]:
    """Say in what that decides bytes a node differs from this machine, whose Keras need not be imported for it."""
    backend = os.environ.get("KERAS_BACKEND", NAMES[0])
    packages = ("keras", backend, *(("jaxlib",) if backend == "jax" else ()), "numpy")
    kind = processor_kind(bfloat16=job.recipe.precision == "mixed_bfloat16")
    here = {
        "code": digest_sources(CORE),
        "backend": backend,
        "device": {"kind": kind, "float32": "float32"},
        "threads": job.recipe.threads or available_cores(),
        "environment": {**PINNED.get(backend, {}), **variables_that_change_bits()},
        "versions": {name: version(name) for name in packages},
    }
    for name in DECIDES:
        if manifest[name] != here[name]:
            yield f"{name} {_shown(manifest[name])} instead of {_shown(here[name])}"


def _shown(value: Any) -> str:
    return " ".join(map(str, value.values())) if isinstance(value, Mapping) else str(value)[:40]


def _connected(address: str) -> Any:
    """Return Ray, connected; signals stay those of the command."""
    try:
        import ray
    except ImportError:
        raise UserError(MISSING) from None
    if not ray.is_initialized():
        if address == "local" or address.startswith(f"{LOOPBACK}:"):
            _keep_to_loopback()
        begun: dict[str, Any] = {"include_dashboard": False, "_node_ip_address": LOOPBACK} if address == "local" else {}
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            ray.init(
                address=address,
                namespace="resblock",
                runtime_env={"py_modules": [str(PACKAGE)], "excludes": ["**/__pycache__"]},
                log_to_driver=False,
                logging_level=logging.ERROR,
                **begun,
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UserError(
                f"no Ray cluster answers at {address} ({' '.join(str(error).split())[:200]}); where `ray start` made a "
                f"token, set {AUTHENTICATION}=token here, too"
            ) from None
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return ray


def _keep_to_loopback() -> None:
    """Let Ray listen where nobody else can reach it: it takes the machine's own address instead, where it can."""
    from ray._private import services

    services.resolve_ip_for_localhost = lambda host: host


def _hold_open(address: str) -> None:
    """Say what a cluster is and has, and keep one that was started here until standard input ends."""
    try:
        ray = _connected(address)
    except UserError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return
    found = ray.get_runtime_context().gcs_address
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    print(json.dumps({"address": found, "nodes": nodes}), flush=True)
    with suppress(KeyboardInterrupt):
        sys.stdin.read()
    ray.shutdown()


if __name__ == "__main__":
    _hold_open(sys.argv[1])
