"""Two revisions of a study, compared from the files that git holds: what was changed, and what that moved."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from benchmarks.sync import write_study
from click.testing import CliRunner, Result

from resblock import paths
from resblock.cli import main
from resblock.core.errors import UserError
from resblock.core.files import read_json, write_json
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.training.run import CURVE, MANIFEST
from resblock.diff.compare import HEADLINE, HEADLINE_LOSS, Shift, compare
from resblock.diff.side import Side, read_side
from resblock.diff.splits import COLUMNS, Splits
from resblock.diff.tree import WORKSPACE, tree_at
from resblock.params import Params
from resblock.study.interval import t_interval
from tests.conftest import ROOT

SEEDS = (0, 1, 2)
SPECS = [ModelSpec.parse(name) for name in ("cnn-4", "plain-8", "residual-8")]
KEYS = [RunKey("digits", spec, seed) for spec in SPECS for seed in SEEDS]
ONE = KEYS[0]


def git(*arguments: str) -> str:
    """Run git in the current folder, whoever the user is, and return what it printed."""
    who = ("-c", "user.name=Nobody", "-c", "user.email=nobody@localhost", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *who, *arguments], capture_output=True, text=True, check=True).stdout.strip()


def commit(message: str) -> str:
    git("add", "--all")
    git("commit", "--quiet", "--message", message)
    return git("rev-parse", "HEAD")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, params: Params) -> Path:
    """A small study in git; tests change copies."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_study(KEYS, params, epochs=3)
        shutil.copy(ROOT / paths.PARAMS, paths.PARAMS)
        paths.CORE.mkdir(parents=True)
        (paths.CORE / "recipe.py").write_text("# how a network is trained\n")
        git("init", "--quiet")
        commit("A study")
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    return folder


def side(revision: str) -> Side:
    with tree_at(revision) as tree:
        return read_side(tree, "digits")


def add(variant: str, metric: str, amounts: Sequence[float]) -> None:
    """Add an amount to a figure of each seed, wherever its row stands."""
    for _, path in paths.score_tables("digits"):
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            if row["variant"] == variant:
                row[metric] = repr(float(row[metric]) + amounts[int(row["seed"])])
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def answer(*arguments: str) -> str:
    ended = CliRunner().invoke(main, ["diff", *arguments], catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    return ended.output


def test_what_nobody_touched_is_equal_to_its_last_bit(project: Path) -> None:
    comparison = compare("digits", side("HEAD"), side(WORKSPACE))
    assert comparison.changes == comparison.trainings == comparison.verdicts == []
    assert comparison.repeated == len(KEYS)
    assert {shift.outcome for shift in (*comparison.shifts, *comparison.gaps)} == {"equal"}
    assert [shift.label for shift in comparison.of(HEADLINE)] == ["cnn-4", "plain-8", "residual-8"]


def test_each_network_is_paired_by_seed_and_gets_an_outcome(project: Path) -> None:
    add("residual-8", HEADLINE, (0.10, 0.12, 0.11))
    add("plain-8", HEADLINE, (0.0010, 0.0011, 0.0012))
    add("cnn-4", HEADLINE, (0.10, -0.12, 0.01))
    comparison = compare("digits", side("HEAD"), side(WORKSPACE))
    found = {shift.label: shift for shift in comparison.of(HEADLINE)}
    assert {name: shift.outcome for name, shift in found.items()} == {
        "residual-8": "moved",
        "plain-8": "too small to matter",
        "cnn-4": "undecided",
    }
    interval = found["residual-8"].interval
    assert interval.mean == pytest.approx(0.11)
    # Student's t for 95 % and two degrees of freedom is 4.3027; the differences spread by 0.01, and of 360 test
    # images each accuracy is rounded to a whole one: twice 1/12 of an image squared.
    assert interval.half_width == pytest.approx(4.3027 * (0.01**2 + 1 / (6 * 360**2)) ** 0.5 / 3**0.5, rel=1e-4)
    assert {shift.outcome for shift in comparison.of(HEADLINE_LOSS)} == {"equal"}
    (gap,) = comparison.gaps
    assert (gap.label, gap.outcome) == ("residual-8 − plain-8", "moved")
    assert gap.interval.mean == pytest.approx(0.11 - 0.0011)


def shift_of(metric: str, *differences: float) -> Shift:
    none = t_interval([])
    return Shift("cnn-4", metric, none, none, dict(enumerate(differences)))


def test_an_outcome_is_the_interval_held_against_what_matters() -> None:
    accuracy, loss = HEADLINE, HEADLINE_LOSS
    assert shift_of(accuracy, 0.0, 0.0).outcome == "equal"
    assert shift_of(accuracy, 0.2).outcome == "undecided"
    assert shift_of(accuracy).outcome == "undecided"
    assert shift_of(accuracy, -0.20, -0.21, -0.22).outcome == "moved"
    assert shift_of(accuracy, 0.0040, 0.0041, 0.0042).outcome == "too small to matter"  # within half a point
    assert shift_of(accuracy, 0.0050, 0.0051, 0.0052).outcome == "undecided"  # across its edge
    assert shift_of(loss, 0.0070, 0.0071, 0.0072).outcome == "too small to matter"  # within a hundredth of a nat
    assert shift_of(loss, 0.0200, 0.0201, 0.0202).outcome == "moved"


def test_what_was_changed_is_named(project: Path) -> None:
    text = paths.PARAMS.read_text()
    changed = re.sub(r"learning_rate: 0.001 ", "learning_rate: 0.002 ", text, count=1)
    changed = re.sub(r"batch_size: 128\n", "batch_size: 256\n", changed, count=1)  # of cifar10
    paths.PARAMS.write_text(changed)
    (paths.CORE / "recipe.py").write_text("# how a network is trained, said better\n")
    for key in KEYS:
        manifest = read_json(paths.run(key) / MANIFEST)
        manifest["recipe"]["learning_rate"] = 0.002
        write_json(paths.run(key) / MANIFEST, {**manifest, "data": "d" * 64, "threads": 2})
    shutil.rmtree(paths.run(ONE))
    comparison = compare("digits", side("HEAD"), side(WORKSPACE))
    found = {change.what: (change.before, change.after) for change in comparison.changes}
    assert found["train.digits.learning_rate"] == ("0.001", "0.002")
    assert found["recipe base, as trained: learning_rate"] == ("0.001", "0.002")
    assert found["numbers of threads, as trained"] == ("1", "2")
    assert found["data, as trained"][1] == "d" * 8
    assert "code, core/recipe.py" in found
    assert len(found) == 5  # another data set's parameters are not among them
    (change,) = comparison.trainings
    assert (change.what, change.before, change.after) == ("cnn-4, seed 0", "finished", None)


def test_a_verdict_that_changed_is_told_with_both_its_numbers(project: Path) -> None:
    before = side("HEAD")
    measured = next(verdict for verdict in before.verdicts if verdict.contrast is not None)
    other = replace(measured, outcome="refuted" if measured.outcome != "refuted" else "supported")
    verdicts = [other if verdict is measured else verdict for verdict in before.verdicts]
    (change,) = compare("digits", before, replace(before, verdicts=verdicts)).verdicts
    assert (change.claim, change.before, change.after) == (measured.claim.name, measured, other)


def test_curves_that_differ_in_one_bit_are_not_the_same(project: Path) -> None:
    path = paths.run(ONE) / CURVE
    value = path.read_text().splitlines()[1].split(",")[2]
    path.write_text(path.read_text().replace(value, repr(float(value) + 1e-15), 1))
    assert compare("digits", side("HEAD"), side(WORKSPACE)).repeated == len(KEYS) - 1


def test_an_experiment_is_known_by_its_name(project: Path) -> None:
    base = git("rev-parse", "HEAD")
    add("residual-8", HEADLINE, (0.10, 0.12, 0.11))
    tried = commit("An experiment")
    git("reset", "--quiet", "--hard", base)
    git("update-ref", f"refs/exps/{base[:2]}/{base[2:]}/brave-cat", tried)
    git("update-ref", "refs/exps/exec/EXEC_HEAD", base)
    assert side("brave-cat").name == f"brave-cat ({tried[:7]})"
    assert compare("digits", side("HEAD"), side("brave-cat")).of(HEADLINE)[2].outcome == "moved"
    git("update-ref", f"refs/exps/{tried[:2]}/{tried[2:]}/brave-cat", base)
    with pytest.raises(UserError, match="brave-cat: several experiments have this name; take one of the commits"):
        side("brave-cat")
    with pytest.raises(UserError, match="EXEC_HEAD: neither a revision of git nor an experiment of DVC"):
        side("EXEC_HEAD")


def test_a_folder_without_git_has_no_revisions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(UserError, match="no git repository"):
        side("HEAD")


def only_score(key: RunKey) -> str:
    return f"variant,family,depth,seed,status,test_accuracy\n{key.spec},{key.spec.family},4,{key.seed},finished,0.75\n"


@pytest.mark.parametrize("layout", ["a table for all", "a table for each"])
def test_scores_are_read_as_either_layout_keeps_them(project: Path, layout: str) -> None:
    """One figure stands there: those of a version that measured more or less are no obstacle."""
    training = read_json(paths.run(ONE) / MANIFEST)["key"]
    scores = Path("results/digits/scores")
    shutil.rmtree(scores)
    if layout == "a table for all":
        folder, looked_at, file = scores / "base", {"runs": {"cnn-4/seed-0": training}}, "scores.csv"
    else:
        folder, looked_at, file = scores / "base/cnn-4/seed-0", {"training": training}, "score.csv"
    write_json(folder / MANIFEST, looked_at)
    (folder / file).write_text(only_score(ONE))
    here = side(WORKSPACE)
    assert here.scores[ONE].metrics["test_accuracy"] == 0.75
    assert here.scores[ONE].metrics["test_loss"] != here.scores[ONE].metrics["test_loss"]  # not a number
    assert {here.scores[key].status for key in KEYS[1:]} == {"missing"}
    assert here.left_out == []


def with_key(key: RunKey, value: str, **more: Any) -> None:
    manifest = read_json(paths.run(key) / MANIFEST)
    write_json(paths.run(key) / MANIFEST, {**manifest, "key": value, **more})


def test_scores_of_another_training_are_left_out_and_those_of_verified_code_are_not(project: Path) -> None:
    old = read_json(paths.run(ONE) / MANIFEST)["key"]
    with_key(ONE, "e" * 64)
    here = side(WORKSPACE)
    assert here.scores[ONE].status == "missing"
    assert here.left_out == ["train@digits-cnn-4-0: its scores are those of another training"]
    with_key(ONE, "e" * 64, verified=[{"key": old}])
    assert side(WORKSPACE).scores[ONE] == side("HEAD").scores[ONE]


def test_a_damaged_file_costs_no_more_than_itself(project: Path) -> None:
    (paths.run(ONE) / CURVE).write_text("epoch\nmany\n")
    here = side(WORKSPACE)
    assert ONE not in here.curves
    assert len(here.curves) == len(KEYS) - 1
    (sentence,) = here.left_out
    assert sentence.startswith(f"{paths.run(ONE)}: damaged, or another version's (")


@pytest.mark.parametrize("lacking", ["recipe", "status", "seed", "variant"])
def test_a_manifest_of_another_version_costs_no_more_than_itself(project: Path, lacking: str) -> None:
    file = paths.run(ONE) / MANIFEST
    write_json(file, {name: value for name, value in read_json(file).items() if name != lacking})
    here = side(WORKSPACE)
    assert ONE not in here.manifests
    assert len(here.manifests) == len(KEYS) - 1
    assert any(sentence.startswith(f"{file}: damaged, or another version's (") for sentence in here.left_out)
    file.write_text("[1]")
    assert len(side(WORKSPACE).manifests) == len(KEYS) - 1


def test_a_training_that_diverged_counts_at_chance_only_where_that_is_known(project: Path) -> None:
    file = paths.run(ONE) / MANIFEST
    write_json(file, {**read_json(file), "status": "diverged"})
    paths.manifest("preprocess", "digits").unlink()
    here = side(WORKSPACE)
    assert here.scores[ONE].status in ("finished", "missing")
    for path in paths.scores(ONE).glob("*"):
        path.unlink()
    here = side(WORKSPACE)
    assert any("how many classes there are is not known" in sentence for sentence in here.left_out)


@pytest.mark.parametrize("content", ["{", "<<<<<<< HEAD\n{}\n=======\n{}\n>>>>>>> other\n"])
def test_a_training_whose_manifest_is_damaged_is_named(project: Path, content: str) -> None:
    file = paths.run(ONE) / MANIFEST
    file.write_text(content)
    here = side(WORKSPACE)
    assert ONE not in here.manifests
    (sentence,) = here.left_out
    wrong = (
        ", line 1: git left the conflict of a merge there" if content != "{" else ": damaged, or another version's ("
    )
    assert sentence.startswith(f"{file}{wrong}")
    assert str(file) in answer()


def ask_for(**changes: str) -> None:
    """Write lists into the section study of params.yaml."""
    text = paths.PARAMS.read_text()
    for name, values in changes.items():
        text = re.sub(rf"^  {name}: .*$", f"  {name}: {values}", text, count=1, flags=re.MULTILINE)
    paths.PARAMS.write_text(text)


def test_only_trainings_that_are_asked_for_are_compared(project: Path) -> None:
    """As an experiment leaves it: fewer networks and seeds, and what was published beside them."""
    ask_for(variants="[cnn-4, residual-8]", seeds="[0]")
    comparison = compare("digits", side("HEAD"), side(WORKSPACE))
    assert [(shift.label, list(shift.differences)) for shift in comparison.of(HEADLINE)] == [
        ("cnn-4", [0]),
        ("residual-8", [0]),
    ]
    assert comparison.trainings == comparison.gaps == []
    left = "params.yaml does not ask for it: cnn-4 (seed 1, 2), plain-8 (seed 0, 1, 2), residual-8 (seed 1, 2)"
    assert comparison.after.left_out == [left]
    told = answer()
    assert "9 trainings before, 2 after" in told
    assert "cnn-4 (seed 1, 2)" in told


def test_a_training_by_another_recipe_than_is_asked_for_is_left_out(project: Path) -> None:
    """As DVC leaves it where nothing was trained anew."""
    text = paths.PARAMS.read_text()
    paths.PARAMS.write_text(text.replace("learning_rate: 0.001 ", "learning_rate: 0.002 ", 1))
    manifest = read_json(paths.run(ONE) / MANIFEST)
    manifest["recipe"]["learning_rate"] = 0.002
    write_json(paths.run(ONE) / MANIFEST, manifest)
    here = side(WORKSPACE)
    assert list(here.manifests) == [ONE]
    (sentence,) = here.left_out
    assert sentence.startswith(
        "trained by another recipe than params.yaml asks for (learning_rate 0.001 instead of 0.002): cnn-4 (seed 1, 2)"
    )


def test_both_means_are_those_of_the_seeds_on_both_sides(project: Path) -> None:
    for seed in SEEDS[1:]:
        shutil.rmtree(paths.run(RunKey("digits", SPECS[1], seed)))
    comparison = compare("digits", side("HEAD"), side(WORKSPACE))
    for shift in (*comparison.of(HEADLINE), *comparison.gaps):
        assert shift.before.n == shift.after.n == len(shift.differences)
        assert shift.before.mean == shift.after.mean
    assert {shift.label: shift.before.n for shift in comparison.of(HEADLINE)}["plain-8"] == 1


def test_a_network_without_a_common_seed_is_not_compared(project: Path) -> None:
    ask_for(seeds="[0]")
    commit("One seed")
    ask_for(seeds="[1]")
    comparison = compare("digits", side("HEAD"), side(WORKSPACE))
    assert comparison.shifts == comparison.gaps == []


def test_an_older_revision_without_results_is_named(project: Path) -> None:
    git("rm", "-r", "--quiet", "--cached", "results")
    git("commit", "--quiet", "--message", "No results")
    ended = CliRunner().invoke(main, ["diff"])
    assert ended.exit_code == 1
    assert "resblock: no data set has trainings on both sides: HEAD (" in ended.output
    assert "has none; workspace has digits" in ended.output


def test_the_terminal_markdown_and_json_say_the_same(project: Path) -> None:
    add("residual-8", HEADLINE, (0.10, 0.12, 0.11))
    plain, markdown, (tree,) = answer(), answer("--markdown"), json.loads(answer("--json"))
    assert "\x1b" not in plain
    assert "digits: HEAD (" in plain
    assert re.search(r"residual-8 +3 .*\+11\.0 \[\+8\.5, \+13\.5\] +moved", plain)
    assert re.search(r"\| residual-8 \| 3 \|.*\| \+11\.0 \[\+8\.5, \+13\.5\] \| moved \|", markdown)
    assert markdown.startswith("## digits: HEAD (")
    (row,) = [row for row in tree["networks"] if (row["name"], row["metric"]) == ("residual-8", HEADLINE)]
    assert (row["outcome"], row["difference"]["seeds"]) == ("moved", 3)
    assert row["by_seed"]["1"] == pytest.approx(0.12)
    assert tree["trainings_with_equal_curves"] == len(KEYS)


def test_the_page_needs_nothing_else_and_lays_curves_over_one_another(project: Path) -> None:
    add("residual-8", HEADLINE, (0.10, 0.12, 0.11))
    answer("--html", "page.html", "--dataset", "digits")
    page = Path("page.html").read_text()
    assert page.count("<svg") == 1
    assert "residual-8" in page
    assert not re.search(r'(src|href)="(?!#)', page)
    assert "moved" in page


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a", "b", "c"], "got 3 revisions, expected at most two"),
        (["--json", "--markdown"], "exclude each other"),
        (["nowhere"], "nowhere: neither a revision of git nor an experiment of DVC"),
        (["--dataset", "cifar10"], "no data set called cifar10 has trainings on both sides"),
    ],
)
def test_a_mistake_is_a_message(project: Path, arguments: list[str], words: str) -> None:
    ended = CliRunner().invoke(main, ["diff", *arguments])
    assert ended.exit_code == 1
    assert words in ended.output


def test_it_needs_neither_keras_nor_mlflow() -> None:
    code = "import sys, resblock.diff.command; assert not {'keras', 'tensorflow', 'mlflow', 'dvc'} & set(sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ)
    assert (ended.returncode, ended.stderr) == (0, "")


# Revisions that are splits.


def on_another_split(name: str, split_seed: int, *, amount: float, fraction: float = 0.2, **changed: Any) -> None:
    """Leave a revision `name` whose trainings were made on another split, and differ in `changed`, too."""
    base = git("rev-parse", "HEAD")
    text = paths.PARAMS.read_text().replace("split_seed: 0", f"split_seed: {split_seed}", 1)
    paths.PARAMS.write_text(text.replace("test_fraction: 0.2", f"test_fraction: {fraction}", 1))
    for key in KEYS:
        manifest = read_json(paths.run(key) / MANIFEST)
        write_json(paths.run(key) / MANIFEST, {**manifest, "data": str(split_seed) * 64, **changed})
    add("residual-8", HEADLINE, (amount, amount, amount))
    git("update-ref", f"refs/heads/{name}", commit(name))
    git("reset", "--quiet", "--hard", base)


def splits(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["splits", *arguments], catch_exceptions=False)


def test_what_the_split_moves_is_told_apart_from_what_seeds_move(project: Path) -> None:
    on_another_split("split-1", 1, amount=0.10)
    on_another_split("split-2", 2, amount=-0.10)
    ended = splits("split-1", "split-2", "--csv", "splits.csv")
    assert ended.exit_code == 0, ended.output
    found = pd.read_csv("splits.csv")
    assert list(found.columns) == list(COLUMNS)
    assert len(found) == 3 * len(KEYS)
    sizes = read_json(paths.manifest("preprocess", "digits"))["sizes"]
    read = Splits.of_frame(found, sizes)
    networks = {each.label: each for each in read.networks}
    assert networks["plain-8"].spread.split == 0.0
    assert networks["residual-8"].spread.split == pytest.approx(0.10)
    assert networks["residual-8"].spread.rest == pytest.approx(0.0)
    (gap,) = read.gaps
    assert gap.label == "residual-8 − plain-8"
    assert gap.spread.split == pytest.approx(0.10)
    assert gap.rounding == pytest.approx(2 / (12 * 360**2))
    assert "3 splits" in ended.output
    assert re.search(r"residual-8 − plain-8 .* 10\.0 ", ended.output)
    assert splits("split-1", "split-2", "--markdown").output.count("\n| residual-8") == 2


def test_revisions_that_differ_in_more_than_the_split_are_refused(project: Path) -> None:
    on_another_split("split-1", 1, amount=0.10)
    on_another_split("threads", 2, amount=0.10, threads=2)
    on_another_split("again", 1, amount=0.10)
    on_another_split("fraction", 3, amount=0.10, fraction=0.3)
    for names, words in {
        ("threads",): "the revisions differ in more than the split: several numbers of threads: 1 (9); 2 (9)",
        ("split-1", "again"): ") were trained on the same split",
        ("fraction",): "more than the split: data.digits.test_fraction (workspace 0.2, fraction",
        ("HEAD",): "workspace and HEAD (",
        ("nowhere",): "nowhere: neither a revision of git nor an experiment of DVC",
        ("split-1", "--dataset", "mnist"): "all revisions have: digits",
    }.items():
        ended = splits(*names)
        assert ended.exit_code == 1
        assert words in ended.output
