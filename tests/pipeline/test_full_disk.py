"""A disk that is full, for real: what cannot go on says which file and what to do, and nothing is damaged."""

from __future__ import annotations

import resource
import subprocess
from pathlib import Path

import pytest

from resblock.core.files import digest_file
from tests.pipeline.conftest import Workspace

TRAIN = ("resblock", "train", "digits", "residual-8", "0")
OUT = Path("results/digits/trainings/base/residual-8/seed-0")
CHECKPOINTS = Path(".checkpoints")

# Mounts a small file system over a folder, with what lies in it, for this command alone.
SMALL = """
set -e
folder=$1 kilobytes=$2; shift 2
copy=$(mktemp -d); cp -a "$folder/." "$copy"
mount -t tmpfs -o "size=${kilobytes}k" none "$folder"
cp -a "$copy/." "$folder"; rm -r "$copy"
trap 'ls -A "$folder" >&3; [ -z "$(ls -A "$folder")" ] || sha256sum "$folder"/* >&3' EXIT
"$@"
"""


@pytest.fixture(scope="session")
def mount() -> tuple[str, ...]:
    """The command before a command that may mount: root in a container may not, and anybody may on most machines."""
    command = ("unshare", "--map-root-user", "--mount")
    if subprocess.run([*command, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False).returncode:
        pytest.skip("needs leave to mount a file system")
    return command


def train_with_room(
    mount: tuple[str, ...], workspace: Workspace, folder: Path, kilobytes: int
) -> tuple[subprocess.CompletedProcess[str], str]:
    """Train with `folder` on a file system of so many kilobytes; return that, and names and digests left there."""
    (workspace.root / folder).mkdir(parents=True, exist_ok=True)
    listing = workspace.root / "listing"
    script = f"exec 3>{listing}\n{SMALL}"
    ended = workspace.run(*mount, "bash", "-c", script, "bash", str(folder), str(kilobytes), *TRAIN, check=False)
    return ended, listing.read_text()


@pytest.fixture
def project(workspace: Workspace) -> Workspace:
    """The finished study, about to be trained by another recipe."""
    workspace.edit("params.yaml", "learning_rate: 0.001       #", "learning_rate: 0.002       #")
    workspace.edit("params.yaml", "epochs: 2", "epochs: 3")
    return workspace


def digests(workspace: Workspace) -> dict[str, str]:
    return {path.name: digest_file(path) for path in (workspace.root / OUT).iterdir()}


def refused(ended: subprocess.CompletedProcess[str], *words: str) -> None:
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    message = ended.stderr.splitlines()[-1]
    assert message.startswith("resblock: ")
    for word in words:
        assert word in message


def test_no_room_for_the_first_checkpoint_ends_the_training_after_one_epoch(
    mount: tuple[str, ...], project: Workspace
) -> None:
    former = digests(project)
    ended, left = train_with_room(mount, project, CHECKPOINTS, 100)
    refused(ended, ".checkpoints/", ".npz: No space left on device; free some space and run the same command again")
    assert "epoch 1/3" not in ended.stdout
    assert left == ""  # neither half a checkpoint nor a lock
    assert digests(project) == former


@pytest.mark.slow
def test_no_room_for_later_checkpoints_is_said_and_the_training_goes_on(
    mount: tuple[str, ...], project: Workspace
) -> None:
    ended, left = train_with_room(mount, project, CHECKPOINTS, 1400)  # one of about 1 MB, and no second beside it
    assert ended.returncode == 0, ended.stderr
    warnings = ended.stderr.splitlines()
    assert len(warnings) == 2  # after the second epoch and the third
    for warning in warnings:
        assert "No space left on device; the training goes on, but a killed one would go back to epoch 1" in warning
    assert left == ""
    with_little_room = digests(project)
    project.run(*TRAIN)
    assert digests(project) == with_little_room


def test_no_room_for_the_results_leaves_the_former_and_a_checkpoint_to_go_on_from(
    mount: tuple[str, ...], project: Workspace
) -> None:
    former = digests(project)
    size = sum(path.stat().st_size for path in (project.root / OUT).iterdir())
    ended, left = train_with_room(mount, project, OUT, size // 1000 + 100)
    refused(ended, f"{OUT}/weights.npz: No space left on device; free some space and run the same command again")
    for name, digest in former.items():
        assert f"{digest}  {OUT / name}" in left
    assert len(left.splitlines()) == 2 * len(former)  # names and digests, and nothing half-written
    again = project.run(*TRAIN)
    assert "goes on after epoch 3, from its checkpoint" in again.stdout
    assert "epoch 1/3" not in again.stdout
    assert digests(project).keys() == former.keys()
    assert digests(project) != former


@pytest.mark.slow
def test_a_limit_on_the_size_of_files_is_named_with_its_remedy(project: Workspace) -> None:
    former = digests(project)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))  # children inherit it
    try:
        # A store without files: the limit holds for MLflow's database as well.
        ended = project.run(*TRAIN, check=False, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    refused(ended, ".checkpoints/", ".npz: File too large; raise the limit on file sizes (ulimit -f)")
    assert digests(project) == former
    assert not list((project.root / CHECKPOINTS).iterdir())
