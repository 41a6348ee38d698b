"""The kinds of faults, as a table of small functions.

A fault happens to a scene and says in words what it did; None where there is nothing it could happen to now. What it
takes back later (a stopped process, an edit), it leaves in `scene.later`. A launch is a fault of the whole life of a
runner: it says how that is started.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.chaos.nodes import trainings
from tests.chaos.scene import IMPATIENT, Launch, Scene
from tests.pipeline.conftest import STORE
from tests.pipeline.test_full_disk import SMALL

Fault = Callable[[Scene], str | None]
Start = Callable[[Scene], tuple[str, Launch] | None]

HERE = Path(__file__).resolve().parent
UNSHARE = ("unshare", "--map-root-user", "--mount")
LIFE = (3, 20)  # seconds after which a process on a node may be killed
DAYS = 3 * 24 * 3600  # by which the clock is set back
READ_ONLY = 'mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"; shift; exec "$@"'


@dataclass(frozen=True)
class Kind:
    """One kind of fault."""

    about: str  # for the table in docs/reliability.md
    act: Fault | None = None  # in the life of a runner
    start: Start | None = None  # from its start
    cluster: bool = False  # whether it happens to a runner alone that has trainings computed on a cluster


def _signal(number: signal.Signals, who: Callable[[Scene], list[psutil.Process]]) -> Fault:
    """Return the fault that sends a signal to one of those found; one that is stopped goes on after a while."""

    def act(scene: Scene) -> str | None:
        found = who(scene)
        if not found:
            return None
        victim = scene.dice.choice(found)
        try:
            words = " ".join(Path(word).name for word in victim.cmdline()[:5])
            victim.send_signal(number)
        except psutil.Error:
            return None
        if number != signal.SIGSTOP:
            return f"{number.name} to {victim.pid} ({words})"
        seconds = scene.dice.uniform(0.3, 4)
        scene.later(seconds, lambda: _go_on(victim))
        return f"{number.name} to {victim.pid} ({words}), SIGCONT after {seconds:.1f} s"

    return act


def _go_on(process: psutil.Process) -> None:
    with suppress(psutil.Error):
        process.send_signal(signal.SIGCONT)


def _trainings(scene: Scene) -> list[psutil.Process]:
    return scene.workers("train")


def _evaluations(scene: Scene) -> list[psutil.Process]:
    return scene.workers("evaluate") + scene.workers("probe")


def _reports(scene: Scene) -> list[psutil.Process]:
    return scene.workers("report") + scene.workers("preprocess")


def _dvc(scene: Scene) -> list[psutil.Process]:
    return scene.dvc()


def _runner(scene: Scene) -> list[psutil.Process]:
    return scene.workers("run")


def _on_a_node(scene: Scene) -> psutil.Process | None:
    """Return a process that trains on a node, early or late in its life: it imports for a while, then it trains."""
    for process in trainings() if scene.nodes else ():
        with suppress(psutil.Error):
            if time.time() - process.create_time() > scene.dice.uniform(*LIFE):
                return process
    return None


def kill_on_node(scene: Scene) -> str | None:
    """Kill a process that trains on a node."""
    victim = _on_a_node(scene)
    if victim is None:
        return None
    with suppress(psutil.Error):
        victim.kill()
        return f"SIGKILL to {victim.pid}, which trains on a node"
    return None


def lose_node(scene: Scene) -> str | None:
    """Kill a node on which something trains."""
    victim = _on_a_node(scene)
    if victim is None or scene.nodes is None:
        return None
    with suppress(psutil.Error):
        node = victim.parents()[0]
        scene.nodes.lose(node)
        return f"SIGKILL to node {node.pid} and all that ran on it"
    return None


def lose_driver(scene: Scene) -> str | None:
    """Kill all that runs here while something trains on a node, as a power cut does; the same command is run next."""
    if _on_a_node(scene) is None:
        return None
    while left := [process for process, _ in scene.at_work()]:
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        time.sleep(0.05)
    scene.again = on_cluster(scene)
    return "SIGKILL to `resblock run` and all that it started here"


def second_runner(scene: Scene) -> str | None:
    """Start the same command once more."""
    scene.others.append(scene.start())
    return "a second `resblock run` in the same folder"


def edit_params(scene: Scene) -> str | None:
    """Write another learning rate; take it back after a while."""
    file, former, other = scene.root / "params.yaml", "learning_rate: 0.001 ", "learning_rate: 0.002 "
    text = file.read_text()
    if former not in text:
        return None
    file.write_text(text.replace(former, other, 1))
    seconds = scene.dice.uniform(0.5, 12)
    scene.later(seconds, lambda: file.write_text(file.read_text().replace(other, former, 1)) and None)
    return f"learning rate doubled for {seconds:.1f} s"


def _split_file(scene: Scene) -> Path | None:
    files = sorted((scene.root / "data/splits/digits").glob("*.npy"))
    return scene.dice.choice(files) if files else None


def truncate_split(scene: Scene) -> str | None:
    """Cut off the end of an array of the splits."""
    file = _split_file(scene)
    if file is None:
        return None
    size = scene.dice.randrange(file.stat().st_size)
    os.truncate(file, size)
    return f"{file.name} truncated to {size} bytes"


def flip_byte(scene: Scene) -> str | None:
    """Flip a bit in an array of the splits."""
    file = _split_file(scene)
    if file is None or not file.stat().st_size:
        return None
    place = scene.dice.randrange(file.stat().st_size)
    with file.open("r+b") as array:
        array.seek(place)
        byte = array.read(1)[0]
        array.seek(place)
        array.write(bytes([byte ^ 0x10]))
    return f"byte {place} of {file.name} flipped"


def lose_results(scene: Scene) -> str | None:
    """Remove the folder of a training."""
    folders = sorted((scene.root / "results/digits/trainings").glob("*/*/seed-*"))
    if not folders:
        return None
    folder = scene.dice.choice(folders)
    shutil.rmtree(folder, ignore_errors=True)
    return f"{folder.relative_to(scene.root)} removed"


def damage_checkpoint(scene: Scene) -> str | None:
    """Flip a bit in the middle of a checkpoint."""
    files = sorted((scene.root / ".checkpoints").glob("[!.]*.npz"))
    for file in files[:1]:
        with suppress(OSError), file.open("r+b") as archive:
            archive.seek(file.stat().st_size // 2)
            byte = archive.read(1)[0]
            archive.seek(-1, os.SEEK_CUR)
            archive.write(bytes([byte ^ 0x10]))
            return f"a bit of {file.name[:12]}….npz flipped"
    return None


def no_more_room(scene: Scene) -> str | None:
    """Let the system refuse files beyond some kilobytes to a process that trains, as a full quota would."""
    for worker in _trainings(scene):
        room = scene.dice.randrange(10_000, 400_000)
        with suppress(psutil.Error):
            worker.rlimit(psutil.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
            return f"files of {worker.pid} limited to {room} bytes"
    return None


def lock_store(scene: Scene) -> str | None:
    """Hold the store for writing, as a process that hangs in the middle of it does."""
    file = scene.root / STORE
    if not file.exists():
        return None
    held = sqlite3.connect(file, timeout=0.1, check_same_thread=False)
    try:
        held.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError:
        held.close()
        return None
    seconds = scene.dice.uniform(1, 8)
    scene.later(seconds, held.close)
    return f"mlflow.db locked for {seconds:.1f} s"


def _may_mount() -> bool:
    return shutil.which("unshare") is not None and not (
        subprocess.run([*UNSHARE, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False).returncode
    )


def full_disk(scene: Scene) -> tuple[str, Launch] | None:
    """Give one folder a small file system of its own."""
    if not _may_mount():
        return None
    folder = scene.dice.choice([".checkpoints", "results/digits", "mlartifacts"])
    (scene.root / folder).mkdir(parents=True, exist_ok=True)
    taken = sum(path.stat().st_size for path in (scene.root / folder).rglob("*") if path.is_file())
    kilobytes = taken // 1000 + scene.dice.choice([50, 200, 800])
    script = f"exec 3>/dev/null\n{SMALL}"
    before = (*UNSHARE, "bash", "-c", script, "bash", folder, str(kilobytes))
    return f"{folder} on a file system of {kilobytes} kB", Launch(before)


def read_only(scene: Scene) -> tuple[str, Launch] | None:
    """Let one folder be read, not written."""
    if not _may_mount():
        return None
    folder = scene.dice.choice([".checkpoints", "results", "mlartifacts", ".dvc/cache", ".dvc/tmp"])
    (scene.root / folder).mkdir(parents=True, exist_ok=True)
    return f"{folder} is read-only", Launch((*UNSHARE, "bash", "-ec", READ_ONLY, "bash", folder))


def clock_set_back(scene: Scene) -> tuple[str, Launch] | None:
    """Let Python's clock go three days after, beside files from the future."""
    future = time.time() + DAYS
    for path in (*(scene.root / "results").rglob("*"), *(scene.root / "data").rglob("*")):
        with suppress(OSError):
            os.utime(path, (future, future))
    folders = filter(None, (str(HERE / "clock"), os.environ.get("PYTHONPATH")))
    variables = {"PYTHONPATH": os.pathsep.join(folders), "RESBLOCK_TEST_CLOCK": str(-DAYS)}
    return "the clock three days back, files three days in the future", Launch(variables=variables)


def _served(status: int, delay: float, words: str) -> Start:
    def start(scene: Scene) -> tuple[str, Launch]:
        scene.server.status, scene.server.delay = status, delay
        return f"an MLflow server that {words}", Launch(
            variables={**IMPATIENT, "MLFLOW_TRACKING_URI": scene.server.address}
        )

    return start


def on_cluster(scene: Scene) -> Launch:
    """Let trainings be computed on a cluster: no fault by itself."""
    assert scene.nodes is not None
    return Launch(options=("--ray", scene.nodes.address), variables=scene.nodes.variables)


def comes_and_goes(scene: Scene) -> tuple[str, Launch] | None:
    """Let a server answer for a while, and refuse for a while."""
    scene.server.status, scene.server.delay = 200, 0.0

    def change() -> None:
        scene.server.status = 503 if scene.server.status == 200 else 200

    for second in range(4, 60, 4):
        scene.later(second, change)
    return "an MLflow server that comes and goes", Launch(
        variables={**IMPATIENT, "MLFLOW_TRACKING_URI": scene.server.address}
    )


KINDS: dict[str, Kind] = {
    "training killed": Kind("SIGKILL to a process that trains", _signal(signal.SIGKILL, _trainings)),
    "training ended": Kind("SIGTERM to a process that trains", _signal(signal.SIGTERM, _trainings)),
    "training stopped": Kind("SIGSTOP to a process that trains, for a while", _signal(signal.SIGSTOP, _trainings)),
    "evaluation killed": Kind("SIGKILL to one that evaluates or probes", _signal(signal.SIGKILL, _evaluations)),
    "evaluation ended": Kind("SIGTERM to one that evaluates or probes", _signal(signal.SIGTERM, _evaluations)),
    "report killed": Kind("SIGKILL to one that cuts data or reports", _signal(signal.SIGKILL, _reports)),
    "DVC killed": Kind("SIGKILL to a process of DVC", _signal(signal.SIGKILL, _dvc)),
    "DVC ended": Kind("SIGTERM to a process of DVC", _signal(signal.SIGTERM, _dvc)),
    "DVC stopped": Kind("SIGSTOP to a process of DVC, for a while", _signal(signal.SIGSTOP, _dvc)),
    "runner killed": Kind("SIGKILL to `resblock run`", _signal(signal.SIGKILL, _runner)),
    "runner ended": Kind("SIGTERM to `resblock run`", _signal(signal.SIGTERM, _runner)),
    "runner interrupted": Kind("SIGINT to `resblock run`", _signal(signal.SIGINT, _runner)),
    "runner stopped": Kind("SIGSTOP to `resblock run`, for a while", _signal(signal.SIGSTOP, _runner)),
    "node's worker killed": Kind("SIGKILL to what trains on a node of a Ray cluster", kill_on_node, cluster=True),
    "node lost": Kind("SIGKILL to a raylet, with all that runs there", lose_node, cluster=True),
    "driver lost": Kind("SIGKILL to all that runs here while nodes train", lose_driver, cluster=True),
    "second runner": Kind("a second `resblock run` in the same folder", second_runner),
    "parameters edited": Kind("`params.yaml` edited, and undone after a while", edit_params),
    "split truncated": Kind("a file of the splits cut off", truncate_split),
    "byte flipped": Kind("a bit of a file of the splits flipped", flip_byte),
    "results lost": Kind("a training's folder removed", lose_results),
    "checkpoint damaged": Kind("a bit of a checkpoint flipped", damage_checkpoint),
    "file limit": Kind("files of a process that trains limited in size", no_more_room),
    "store locked": Kind("MLflow's database locked for a while", lock_store),
    "full disk": Kind("a folder on a full file system", start=full_disk),
    "read-only folder": Kind("a folder that may only be read", start=read_only),
    "clock set back": Kind("the clock three days back, files from the future", start=clock_set_back),
    "server stalls": Kind("an MLflow server that does not answer", start=_served(200, 20.0, "stalls")),
    "server fails": Kind("an MLflow server that answers 500", start=_served(500, 0.0, "answers 500")),
    "server comes and goes": Kind("an MLflow server that comes and goes", start=comes_and_goes),
}
SHORT = (
    "training killed",
    "runner killed",
    "DVC killed",
    "parameters edited",
    "byte flipped",
    "training stopped",
    "store locked",
    "second runner",
)
