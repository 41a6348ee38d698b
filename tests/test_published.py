"""Weights that the repository itself publishes: DVC's remote in the folder `published`, which git holds."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest
from dvc.exceptions import CheckoutError
from dvc.repo import Repo
from ruamel.yaml import YAML

from resblock.core.errors import UserError
from resblock.stages.asked import require

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # DVC's own, of what it imports

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = "results/cifar10/trainings/**/weights.npz"  # what `make publish` pushes
MOST = 80_000_000  # bytes that a clone may have to carry
CONTENT = b"PK\x03\x04 no text\r\nthat git may mend\n"
STAGES = """\
stages:
  train:
    matrix:
      dataset: [cifar10, digits]
    cmd: mkdir -p results/${item.dataset}/trainings && cp source results/${item.dataset}/trainings/weights.npz
      && echo ${item.dataset} >> results/${item.dataset}/trainings/weights.npz
    deps: [source]
    outs:
      - results/${item.dataset}/trainings/weights.npz
"""


def git(*arguments: str) -> str:
    who = ("-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "core.autocrlf=true")
    return subprocess.run(["git", *who, *arguments], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small project with this repository's configuration, whose weights of one data set were published."""
    root = tmp_path_factory.mktemp("published") / "project"
    (root / ".dvc").mkdir(parents=True)
    for name in (".dvc/config", ".dvc/.gitignore", ".gitattributes", ".gitignore"):
        shutil.copy2(ROOT / name, root / name)
    (root / "dvc.yaml").write_text(STAGES)
    (root / "source").write_bytes(CONTENT)
    with chdir(root):
        git("init", "-q")
        with Repo() as repo:
            repo.reproduce()
            repo.push(targets=[WEIGHTS], glob=True, remote="published")
        git("add", "-A")
        git("commit", "-qm", "Published")
    return root


@pytest.fixture
def clone(publisher: Path, tmp_path: Path) -> Iterator[Path]:
    """A fresh clone, without DVC's cache; the current folder."""
    git("clone", "-q", str(publisher), str(tmp_path / "clone"))
    with chdir(tmp_path / "clone"):
        yield tmp_path / "clone"


def test_a_clone_takes_published_weights_from_itself_to_the_byte(clone: Path) -> None:
    with Repo() as repo:
        repo.pull(allow_missing=True)
    weights = clone / "results/cifar10/trainings/weights.npz"
    assert weights.read_bytes() == CONTENT + b"cifar10\n"
    assert not (clone / "results/digits/trainings/weights.npz").exists()
    assert git("status", "--porcelain") == ""


@pytest.mark.usefixtures("clone")
def test_what_is_not_published_is_no_error_only_where_it_may_be_missing() -> None:
    with Repo() as repo, pytest.raises(CheckoutError, match="digits"):
        repo.pull()


def test_make_publish_pushes_these_weights_to_this_remote() -> None:
    recipe = (ROOT / "Makefile").read_text().partition("\npublish:")[2].partition("\n\n")[0]
    assert f"dvc push --remote published --glob '{WEIGHTS}'" in recipe


def test_git_holds_few_weights_and_only_of_published_trainings() -> None:
    listed = subprocess.run(["git", "ls-files", "published"], cwd=ROOT, capture_output=True, text=True, check=True)
    there = [ROOT / name for name in listed.stdout.split()]
    assert sum(path.stat().st_size for path in there) < MOST
    stages = YAML(typ="safe").load((ROOT / "dvc.lock").read_text())["stages"]
    known = {
        out["md5"]
        for name, stage in stages.items()
        for out in stage["outs"]
        if name.startswith("train@cifar10-") and out["path"].endswith("weights.npz")
    }
    assert {path.parent.name + path.name for path in there} <= known


@pytest.mark.usefixtures("clone")
def test_a_pull_is_advised_only_for_what_the_remote_holds() -> None:
    weights = {name: Path("results", name, "trainings/weights.npz") for name in ("cifar10", "digits")}
    with pytest.raises(UserError, match="is not here; `dvc pull train@cifar10` or `dvc repro train@cifar10` brings it"):
        require(weights["cifar10"], "train@cifar10")
    with pytest.raises(UserError, match="is not here; `dvc repro train@digits` brings it"):
        require(weights["digits"], "train@digits")
    Path(".dvc/config.local").write_text("['remote \"published\"']\n    url = s3://bucket\n")
    with pytest.raises(UserError, match="`dvc pull train@digits`"):  # which may hold it
        require(weights["digits"], "train@digits")


def test_the_readme_says_whether_anything_is_published() -> None:
    listed = subprocess.run(["git", "ls-files", "published"], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = [line for line in (ROOT / "README.md").read_text().splitlines() if "`published/`" in line]
    assert lines
    assert all("to come" in line for line in lines) != bool(listed.stdout)


def test_no_page_brings_files_back_by_what_a_project_without_all_weights_refuses() -> None:
    for page in (ROOT / "README.md", ROOT / "docs/first-change.md"):
        assert "&& dvc checkout`" not in page.read_text(), page
