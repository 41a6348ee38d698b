"""A published number is real, or the first place where it is not is named; new code is recorded where it gives it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from resblock import paths
from resblock.core.backends import start
from resblock.core.errors import UserError
from resblock.core.files import digest_tree, read_arrays, read_json, write_arrays, write_json
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.splits import Split, SplitName
from resblock.core.training import manifest as manifests
from resblock.core.training.job import Workshop
from resblock.core.training.run import CURVE, GRADIENTS, MANIFEST, METRICS, WEIGHTS
from resblock.core.training.watcher import Nobody
from resblock.params import read_params
from resblock.running.accept import refuse_others
from resblock.running.repeat import Repeat, first_difference
from resblock.running.verify import verify
from resblock.stages.train import job_of
from resblock.stages.weights import md5
from tests.conftest import ROOT, write_digits

KEY = RunKey("digits", ModelSpec.parse("cnn-4"), 0)
NAME = "train@digits-cnn-4-0"
EPOCHS = 3


def dvc(*arguments: str) -> str:
    """Run DVC in the current folder and return what it printed."""
    ended = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, few_digits: dict[SplitName, Split], backend: int) -> Path:
    """A project with one training of three epochs, as DVC leaves it; tests change copies."""
    folder = tmp_path_factory.mktemp("made")
    text = (ROOT / paths.PARAMS).read_text()
    (folder / paths.PARAMS).write_text(re.sub(r"epochs: 20  .*", f"epochs: {EPOCHS}", text))
    for name in ("dvc.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / paths.CORE, folder / paths.CORE, ignore=shutil.ignore_patterns("__pycache__"))
    write_digits(folder, few_digits)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Workshop(start).train(job_of(KEY, read_params(paths.PARAMS)), Nobody())
        dvc("init", "--no-scm", "--quiet")
        dvc("commit", "--force", "--quiet", NAME)
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that project, its own code being what is trained by."""
    folder = tmp_path / "project"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(manifests, "CORE", folder / paths.CORE)
    manifests.code_digest.cache_clear()
    return folder


@pytest.fixture(autouse=True)
def forget_the_code() -> Any:
    """Let every test find out anew which code lies here."""
    manifests.code_digest.cache_clear()
    yield
    manifests.code_digest.cache_clear()


def edit(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert content.count(old) >= 1
    path.write_bytes(content.replace(old, new, 1))


def edit_code() -> None:
    """Change a comment of the code, and nothing that it does."""
    path = paths.CORE / "seeds.py"
    path.write_text(path.read_text() + "# Nothing more.\n")
    manifests.code_digest.cache_clear()


def results() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(paths.run(KEY).iterdir()) if path.name != MANIFEST}


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def test_a_training_done_again_is_equal_to_its_last_byte(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = results()
    assert verify([NAME], Workshop(start))
    assert said(capsys) == f"{NAME}: equal: all 3 epochs, gradient norms, metrics and weights\n"
    assert results() == before
    assert list((project / paths.CHECKPOINTS).iterdir()) == []


def test_its_first_epochs_keep_the_schedule_of_the_whole(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The rate falls along a cosine over all three epochs; one that ended after two would end at zero."""
    assert verify([NAME], Workshop(start), epochs=2)
    assert said(capsys) == f"{NAME}: equal: curve and gradient norms of the first 2 epochs\n"


def test_a_number_that_training_does_not_give_is_named_with_its_epoch_and_column(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = paths.run(KEY) / CURVE
    loss = file.read_text().splitlines()[2].split(",")[2]
    edit(file, loss.encode(), b"0.5")
    assert not verify([NAME], Workshop(start), epochs=2)
    assert said(capsys) == f"{NAME}: DIFFERS in curve.csv, epoch 2, loss: published 0.5, here {loss}\n"
    assert verify([NAME], Workshop(start), epochs=1)


def test_a_manifest_of_another_machine_is_told_of(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = read_json(paths.run(KEY) / MANIFEST)
    manifest["device"]["kind"] = "abacus"
    write_json(paths.run(KEY) / MANIFEST, manifest)
    assert verify([NAME], Workshop(start), epochs=1)
    assert "  device kind: published abacus, here " in said(capsys)


@pytest.fixture
def again(project: Path, tmp_path: Path) -> Repeat:
    """What a repeat leaves that comes out equal."""
    folder = tmp_path / "again"
    shutil.copytree(paths.run(KEY), folder)
    return Repeat({}, folder, EPOCHS, whole=True)


def test_the_first_changed_byte_is_found_wherever_it_stands(again: Repeat) -> None:
    run = paths.run(KEY)
    weights = md5(run / WEIGHTS)
    assert first_difference(run, again, weights) is None

    arrays = read_arrays(run / WEIGHTS)
    name = list(arrays)[1]
    arrays[name].flat[0] += 0.5
    write_arrays(run / WEIGHTS, arrays)
    words = first_difference(run, again, md5(run / WEIGHTS))
    assert words == f"weights.npz, {name}: 1 of {arrays[name].size} numbers, by 0.5 at most"
    (run / WEIGHTS).unlink()
    assert "only the digest is here" in (first_difference(run, again, "0" * 32) or "")
    assert first_difference(run, again, weights) is None
    assert first_difference(run, again, None) is None

    edit(run / METRICS, b'"epochs": 3', b'"epochs": 4')
    assert first_difference(run, again, None) == "metrics.json, epochs: published 4, here 3"

    row = (run / GRADIENTS).read_text().splitlines()[1]
    edit(run / GRADIENTS, row.encode(), row.rpartition(",")[0].encode() + b",1.5")
    place = " ".join(row.split(",")[:3])
    here = row.split(",")[-1]
    assert first_difference(run, again, None) == f"gradients.csv, {place}, norm: published 1.5, here {here}"

    edit(run / CURVE, b"\n3,", b"\n3,0")
    assert (first_difference(run, again, None) or "").startswith("curve.csv, epoch 3, learning_rate: published 0")
    edit(run / CURVE, b"\n2,", b"\n02,")
    assert first_difference(run, again, None) == "curve.csv, epoch 2, epoch: published 02, here 2"

    edit(run / CURVE, b"epoch,", b"<<<<<<< HEAD\nepoch,")
    with pytest.raises(UserError, match=r"curve\.csv, line 1: git left the conflict of a merge there"):
        first_difference(run, again, None)


def test_line_ends_and_missing_rows_are_differences_too(again: Repeat) -> None:
    curve = paths.run(KEY) / CURVE
    whole = curve.read_bytes()
    curve.write_bytes(whole.rstrip(b"\n"))
    assert first_difference(paths.run(KEY), again, None) == (
        "curve.csv, epoch 3: the numbers are equal, the bytes are not"
    )
    curve.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    assert first_difference(paths.run(KEY), again, None) == (
        "curve.csv, published 2 rows, here 3; those that both have are equal"
    )


def test_targets_are_what_dvc_calls_trainings(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"train@digits-cnn-5-0: there is no such training here; did you mean "):
        verify(["train@digits-cnn-5-0"], Workshop(start))
    assert verify(["train@digits-*"], Workshop(start), epochs=1)
    assert verify([], Workshop(start), epochs=1)
    assert said(capsys).count(NAME) == 2


def test_without_a_target_it_is_one_seed_of_each_network_and_recipe(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = read_json(paths.run(KEY) / MANIFEST)
    for variant, seed, recipe in (("cnn-4", 1, "base"), ("plain-8", 2, "base"), ("cnn-4", 3, "low-lr")):
        key = RunKey("digits", ModelSpec.parse(variant), seed, recipe)
        tree = {**manifest, "variant": variant, "seed": seed, "recipe_name": recipe, "data": "others"}
        write_json(paths.run(key) / MANIFEST, tree)
    assert not verify([], Workshop(start), epochs=1)
    lines = [line.split(": ")[:2] for line in said(capsys).splitlines()]
    assert lines[0] == [NAME, "equal"]
    assert lines[1] == ["train@digits-plain-8-2", "not verified"]  # their data are not what is here
    assert lines[2] == ["ablate@low-lr-cnn-4-3", "not verified"]
    assert lines[3] == ["1 of 3 came out equal"]


def test_a_training_under_another_ones_name_is_refused(project: Path) -> None:
    manifest = read_json(paths.run(KEY) / MANIFEST)
    write_json(paths.run(KEY) / MANIFEST, {**manifest, "seed": 1})
    with pytest.raises(UserError, match=r"says that it is train@digits-cnn-4-1, which belongs in .*cnn-4/seed-1"):
        verify([], Workshop(start))


def test_a_damaged_manifest_is_named(project: Path) -> None:
    file = paths.run(KEY) / MANIFEST
    file.write_text("{}")
    with pytest.raises(UserError, match=r"run\.json: damaged, or another version's; `git restore "):
        verify([], Workshop(start))
    file.write_text("{")
    with pytest.raises(UserError, match=rf"run\.json: damaged, or another version's \(.*git checkout -- {file}"):
        verify([], Workshop(start))
    file.write_text("<<<<<<< HEAD\n{}\n=======\n{}\n>>>>>>> other\n")
    with pytest.raises(UserError, match=rf"line 1: git left the conflict .*git checkout --ours -- {file}"):
        verify([], Workshop(start))


def test_accepted_code_leaves_results_alone_and_nothing_stale(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, old = results(), read_json(paths.run(KEY) / MANIFEST)
    edit_code()
    assert verify([NAME], Workshop(start), epochs=1, record=True)
    assert f"{NAME}: equal and recorded: curve and gradient norms of the first 1 epoch\n" in said(capsys)
    assert results() == before
    assert NAME not in dvc("status", "--json")

    new = read_json(paths.run(KEY) / MANIFEST)
    (seen,) = new["verified"]
    assert seen == {"key": old["key"], "code": old["code"], "epochs": 1, "weights": False}
    assert new["code"] == manifests.code_digest() != old["code"]
    # It is the key under which this code would train it, so nobody trains it again.
    made_here = manifests.make_manifest(KEY, manifests.read_recipe(old), data_digest=old["data"], threads=1)
    assert new["key"] == made_here["key"]
    assert {**old, "code": new["code"], "key": new["key"], "verified": new["verified"]} == new

    assert verify([NAME], Workshop(start), epochs=1, record=True)
    assert said(capsys) == f"{NAME}: up to date, nothing to record\n"


def test_what_comes_out_otherwise_is_not_accepted(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loss = (paths.run(KEY) / CURVE).read_text().splitlines()[1].split(",")[2]
    edit(paths.run(KEY) / CURVE, loss.encode(), b"0.5")
    dvc("commit", "--force", "--quiet", NAME)
    edit_code()
    files = (paths.run(KEY) / MANIFEST, Path("dvc.lock"))
    before = [file.read_bytes() for file in files]
    assert not verify([NAME], Workshop(start), epochs=1, record=True)
    assert f"{NAME}: DIFFERS in curve.csv, epoch 1, loss" in said(capsys)
    assert [file.read_bytes() for file in files] == before


def no_training(threads: int) -> int:
    raise AssertionError("it was refused too late")


def change_params() -> None:
    edit(paths.PARAMS, b"learning_rate: 0.001 ", b"learning_rate: 0.002 ")


def change_data() -> None:
    with (paths.splits("digits") / "more").open("w") as file:
        file.write("a file that DVC does not know")


def change_results() -> None:
    edit(paths.run(KEY) / METRICS, b'"epochs": 3', b'"epochs": 4')


def seal_otherwise() -> None:
    manifest = read_json(paths.run(KEY) / MANIFEST)
    write_json(paths.run(KEY) / MANIFEST, {**manifest, "threads": 2})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (change_params, r"params.yaml asks for another recipe \(recipe learning_rate: published 0.001, here 0.002\)"),
        (change_data, r"by dvc status it is not the code alone that changed \(data/splits/digits modified, "),
        (change_results, r"by dvc status .*metrics.json modified"),
        (seal_otherwise, r"its run.json was edited: its key is not that of its content"),
    ],
)
def test_what_more_than_code_made_stale_is_refused_before_any_training(
    project: Path, change: Callable[[], None], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    edit_code()
    change()
    before = (paths.run(KEY) / MANIFEST).read_bytes()
    assert not verify([NAME], Workshop(no_training), epochs=1, record=True)
    assert re.search(f"{NAME}: not accepted: {reason}", said(capsys))
    assert (paths.run(KEY) / MANIFEST).read_bytes() == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("data", "0" * 64),
        ("backend", "jax"),
        ("device", {"kind": "abacus", "float32": "float32"}),
        ("threads", 2),
        ("environment", {"TF_ENABLE_ONEDNN_OPTS": "0"}),
        ("versions", {"keras": "2.0"}),
        ("recipe", {"epochs": 4}),
    ],
)
def test_nothing_but_code_may_differ(project: Path, name: str, value: Any) -> None:
    published = read_json(paths.run(KEY) / MANIFEST)
    here: Mapping[str, Any] = {**published, "code": manifests.code_digest(), "key": "another"}
    refuse_others(published, here)
    with pytest.raises(UserError, match=name):
        refuse_others(published, {**here, name: value})


def test_other_versions_are_refused_before_the_first_epoch(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    edit_code()
    monkeypatch.setattr(manifests, "versions", lambda: {"keras": "2.0"})
    monkeypatch.setattr("resblock.core.training.fit.fit", no_training)
    assert not verify([NAME], Workshop(start), epochs=1, record=True)
    assert f"{NAME}: not accepted: versions keras: published " in said(capsys)


def test_code_that_changes_meanwhile_is_not_recorded(project: Path) -> None:
    published = read_json(paths.run(KEY) / MANIFEST)
    here = {**published, "code": manifests.code_digest()}
    edit_code()
    with pytest.raises(UserError, match=r"the code that runs is not that in src/resblock/core"):
        refuse_others(published, here)


def test_a_commit_that_fails_leaves_the_manifest_as_it_was(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    edit_code()
    before = (paths.run(KEY) / MANIFEST).read_bytes()

    def failing(*arguments: str) -> subprocess.CompletedProcess[str]:
        changed = f'{{"{NAME}": [{{"changed deps": {{"{paths.CORE}": "modified"}}}}]}}'
        return subprocess.CompletedProcess(arguments, int("commit" in arguments), changed, "the disk is full")

    monkeypatch.setattr("resblock.running.accept._dvc", failing)
    assert not verify([NAME], Workshop(start), epochs=1, record=True)
    assert f"{NAME}: not accepted: dvc commit failed: the disk is full\n" in said(capsys)
    assert (paths.run(KEY) / MANIFEST).read_bytes() == before


def test_an_earlier_key_is_that_of_its_content(project: Path) -> None:
    """Who checks a manifest by its key leaves out what was verified, as this does."""
    edit_code()
    assert verify([NAME], Workshop(start), epochs=1, record=True)
    tree = read_json(paths.run(KEY) / MANIFEST)
    content = {name: value for name, value in tree.items() if name not in ("key", "status", "verified")}
    assert digest_tree(content) == tree["key"]
