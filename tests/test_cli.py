"""The command line as a person calls it: answers, messages, exit codes, and never a traceback for their mistake."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import pytest
from click.testing import CliRunner

from resblock import cli, paths
from resblock.cli import main
from resblock.core.errors import UserError
from resblock.core.spec import ModelSpec, RunKey
from resblock.core.splits import Split, SplitName
from resblock.core.training.job import Job
from resblock.params import Params
from tests.conftest import write_digits

ROOT = Path(__file__).resolve().parent.parent
RESBLOCK = Path(sys.executable).parent / "resblock"


def resblock(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Call the command as a shell does, in a process of its own."""
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{cwd / 'mlflow.db'}"}
    return subprocess.run([RESBLOCK, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def called(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Call the command within this process, which takes a tenth of the time; none that would start Keras by itself."""
    with chdir(cwd):
        ended = CliRunner().invoke(
            main, arguments, prog_name="resblock", env={"MLFLOW_TRACKING_URI": f"sqlite:///{cwd / 'mlflow.db'}"}
        )
    return subprocess.CompletedProcess(arguments, ended.exit_code, ended.stdout, ended.stderr)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with nothing but params.yaml."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path


def refused(ended: subprocess.CompletedProcess[str], *words: str) -> None:
    """Hold that a command ended with a message that has `words`, and no traceback."""
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert ended.stderr.startswith("resblock: ")
    assert "Traceback" not in ended.stderr
    for word in words:
        assert word in ended.stderr


COMMANDS = (
    "advise",
    "check",
    "data",
    "download",
    "preprocess",
    "probe",
    "train",
    "jobs",
    "evaluate",
    "report",
    "predict",
    "run",
    "sync",
    "ui",
    "variants",
    "plan",
    "doctor",
)


def test_help_names_every_command(tmp_path: Path) -> None:
    ended = called("--help", cwd=tmp_path)
    assert ended.returncode == 0
    for command in COMMANDS:
        assert f"\n  {command} " in ended.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example(command: str, tmp_path: Path) -> None:
    ended = called(command, "--help", cwd=tmp_path)
    assert ended.returncode == 0
    assert "Example: " in ended.stdout
    assert f"resblock {command}" in ended.stdout.split("Example: ")[1]


def test_variants_lists_the_grammar_without_a_project(tmp_path: Path) -> None:
    ended = called("variants", cwd=tmp_path)
    assert ended.returncode == 0
    for word in ("cnn", "plain", "residual", "preact", "bottleneck", "6n+2: 8, 14, 20", "9n+2: 11, 20, 29"):
        assert word in ended.stdout
    for modifier in ("nobn", "projection", "allprojection", "maxpool", "w2", "sd"):
        assert f"  -{modifier} " in ended.stdout


def test_variants_counts_what_is_asked_for(project: Path) -> None:
    ended = resblock("variants", "plain-20", "residual-20-projection", cwd=project)
    assert ended.returncode == 0, ended.stderr
    rows = [line.split() for line in ended.stdout.splitlines()]
    assert ["plain-20", "269,722", "40.6", "M", "residual-20"] in rows  # He et al. 2015's own count
    assert ["residual-20-projection", "272,474", "40.8", "M", "–"] in rows


def test_variants_refuses_what_cannot_be(project: Path) -> None:
    refused(called("variants", "plain-20-sd", cwd=project), "nearest: plain-20 and residual-20-sd")


def test_check_says_what_the_study_comprises(project: Path) -> None:
    ended = called("check", cwd=project)
    assert ended.returncode == 0
    assert "73 trainings" in ended.stdout  # 2 data sets, 7 networks, 5 seeds; on digits 1 recipe, 3 seeds
    assert "recipes    low-lr: on digits, residual-8, from seeds 0, 1, 2\n" in ended.stdout


def test_check_says_what_an_ablation_is_left_without(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("datasets: [digits, cifar10]", "datasets: [cifar10]"))
    monkeypatch.chdir(project)
    ended = CliRunner().invoke(main, ["check"])
    assert ended.exit_code == 0
    assert ended.stderr == (
        "warning: ablation.dataset: digits is not in study.datasets, so no other recipe is trained, and a bare `dvc "
        "repro` stops where its splits are missing; `dvc repro report@cifar10` does not, nor with ablation.recipes: [] "
        "(params.yaml)\n"
    )
    assert "35 trainings" in ended.stdout
    assert "recipes" not in ended.stdout


def test_a_wrong_key_is_named_with_its_line(project: Path) -> None:
    text = (project / "params.yaml").read_text().replace("batch_size: 128", "batch_size: none")
    (project / "params.yaml").write_text(text)
    line = text.splitlines().index("    batch_size: none") + 1
    refused(called("check", cwd=project), "train.cifar10.batch_size", "'none'", f"params.yaml, line {line}")


def test_outside_a_project_the_way_in_is_named(tmp_path: Path) -> None:
    refused(resblock("check", cwd=tmp_path), "params.yaml", "project's root")


def another_checkout(folder: Path) -> Path:
    """Return a folder with code of its own, which lists a family that the environment's code does not know."""
    shutil.copytree(ROOT / "src/resblock", folder / "src/resblock", ignore=shutil.ignore_patterns("__pycache__"))
    catalogue = folder / "src/resblock/catalogue.py"
    catalogue.write_text(catalogue.read_text() + "\n\ndef grammar() -> list[str]:\n    return ['of this checkout']\n")
    return folder


def test_a_command_runs_the_code_of_the_checkout_that_it_is_called_in(tmp_path: Path) -> None:
    """A worktree, or DVC's copy of an experiment, while another checkout's environment is active."""
    other = another_checkout(tmp_path / "a worktree")
    assert resblock("variants", cwd=other).stdout == "of this checkout\n"
    assert "residual" in resblock("variants", cwd=tmp_path).stdout


def test_code_from_elsewhere_that_cannot_be_avoided_is_refused(tmp_path: Path) -> None:
    other = another_checkout(tmp_path)
    program = f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r}); from resblock.cli import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", program, "variants"],
        cwd=other,
        env={**os.environ, "PYTHONPATH": str(other / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    refused(ended, f"runs {ROOT / 'src/resblock'}", str(other / "src"))


def test_a_clone_that_turns_line_ends_around_has_the_files_as_they_are(tmp_path: Path) -> None:
    """Git for Windows does, in WSL too: scripts died, and results were no longer what their digests say."""
    first, clone = tmp_path / "first", tmp_path / "clone"
    names = [".gitattributes", "scripts/set-up", "params.yaml", "results/digits/report/scores.csv", "LICENSE"]
    for name in names:
        (first / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, first / name)
    who = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    for command in (("init", "-q"), ("add", "-A"), (*who, "commit", "-qm", "Files")):
        subprocess.run(["git", *command], cwd=first, check=True)
    subprocess.run(["git", "clone", "-q", "-c", "core.autocrlf=true", first, clone], check=True)
    for name in names:
        assert (clone / name).read_bytes() == (ROOT / name).read_bytes(), name
    status = subprocess.run(["git", "status", "--porcelain"], cwd=clone, capture_output=True, text=True, check=True)
    assert status.stdout == ""


def test_outside_a_project_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for command in (["download", "digits"], ["ui"], ["sync"], ["run"], ["preprocess", "digits"], ["report", "digits"]):
        ended = CliRunner().invoke(main, command)
        assert ended.exit_code == 1, command
        assert ended.stderr.startswith("resblock: ")
        assert not list(tmp_path.iterdir()), command


def test_a_project_without_git_is_told_how_to_get_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC's own words, after the MLflow run was opened, are no help with an unpacked ZIP."""
    monkeypatch.chdir(project)
    told = f"resblock: {project}: is in no git repository, which DVC needs; `git init` makes it one\n"
    for command in ("run", "plan"):
        ended = CliRunner().invoke(main, [command])
        assert (ended.exit_code, ended.stderr) == (1, told)
    assert not list(project.glob("mlflow*"))


def test_a_project_that_dvc_keeps_without_git_needs_none(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    require = cli._require_git  # pyright: ignore[reportPrivateUsage]
    (project / ".dvc").mkdir(exist_ok=True)
    for said in ("no_scm = True", "no_scm=true"):  # `dvc init --no-scm` writes the first
        (project / ".dvc/config").write_text(f"[core]\n    {said}\n")
        require()
    (project / ".dvc/config").write_text("[core]\n    # no_scm = true\n")
    with pytest.raises(UserError, match="git init"):
        require()


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("results/digits/report/scores.csv", "; `dvc repro` of the stage first makes what it reads"),
        ("git", "; it is a program to install"),
        ("/elsewhere/file", ""),
        (None, ""),
    ],
)
def test_a_file_that_is_not_there_comes_with_a_remedy_where_there_is_one(
    name: str | None, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(_: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", name)

    monkeypatch.setattr("resblock.stages.download.run", run)
    told = CliRunner().invoke(main, ["download", "digits"]).stderr
    assert told == f"resblock: {f'{name}: ' if name else ''}No such file or directory{remedy}\n"


def test_a_terminal_that_lacks_letters_shows_the_others(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "resblock", "train", "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=True,
    )
    assert b"VARIANT" in ended.stdout


def test_what_a_stage_has_not_got_comes_with_what_brings_it(
    project: Path, monkeypatch: pytest.MonkeyPatch, digits: dict[SplitName, Split]
) -> None:
    monkeypatch.chdir(project)
    for command in (["evaluate", "digits", "cnn-4", "0"], ["report", "digits"]):
        ended = CliRunner().invoke(main, command)
        assert "`dvc repro preprocess@digits` makes them" in ended.stderr
    write_digits(project, digits)
    ended = CliRunner().invoke(main, ["evaluate", "digits", "cnn-4", "0"])
    assert ended.exit_code == 1
    assert "dvc repro train@digits-cnn-4-0" in ended.stderr


def test_an_impossible_depth_names_its_neighbours(project: Path) -> None:
    refused(called("train", "digits", "residual-21", "0", cwd=project), "residual-20", "residual-26")


def test_an_unknown_data_set_names_those_there_are(project: Path) -> None:
    refused(called("download", "mnist", cwd=project), "mnist", "digits, cifar10, cifar100", "resblock data add mnist")
    subprocess.run(["git", "init", "--quiet", project], check=True)
    refused(called("run", "mnist", cwd=project), "mnist", "digits, cifar10, cifar100", "resblock data add mnist")


def test_what_no_stage_makes_is_not_advised(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`dvc repro train@digits-cnn-4-7` and `resblock run mnist` would end with an error of their own."""
    monkeypatch.chdir(project)
    unknown, other = (
        "there are digits, cifar10, cifar100, and sources/mnist is not there; `resblock data add mnist",
        "cifar100 is not in the study",
    )
    for command, told in (
        ("evaluate digits cnn-4 7", "cnn-4 with seed 7 is not in the study"),
        ("evaluate digits plain-56 0", "plain-56 with seed 0 is not in the study"),
        ("evaluate digits residual-8 0 --recipe slow-averages", "by the recipe slow-averages is not in the study"),
        ("evaluate mnist cnn-4 0", unknown),
        ("data info mnist", unknown),
        ("data show mnist", unknown),
        ("advise mnist", unknown),
        ("data info cifar100", other),
        ("advise cifar100", other),
        ("predict a.png --dataset cifar100 --variant cnn-4 --seed 0", other),
    ):
        ended = CliRunner().invoke(main, command.split())
        assert ended.exit_code == 1, command
        assert told in ended.stderr, (command, ended.stderr)
        assert "dvc repro" not in ended.stderr, command


def test_a_recipe_that_is_not_there_is_named_once(project: Path) -> None:
    ended = called("train", "digits", "cnn-4", "0", "--recipe", "warm", cwd=project)
    assert ended.stderr.count("recipes.warm") == ended.stderr.count("(params.yaml)") == 1


def test_a_seed_beyond_32_bits_is_refused(project: Path) -> None:
    ended = called("train", "digits", "residual-8", str(2**32), cwd=project)
    assert ended.returncode == 2
    assert "4294967295" in ended.stderr


def test_training_before_its_data_are_there_says_what_is_missing(project: Path) -> None:
    told = ("data/splits/digits: no splits there", "`dvc repro preprocess@digits`")
    refused(called("train", "digits", "residual-8", "0", cwd=project), *told)


def test_evaluating_before_training_says_what_is_missing(project: Path, digits: dict[SplitName, Split]) -> None:
    write_digits(project, digits)
    told = (
        "results/digits/trainings/base/residual-8/seed-0: no training there",
        "`dvc repro train@digits-residual-8-0`",
    )
    refused(called("evaluate", "digits", "residual-8", "0", cwd=project), *told)


def test_jobs_are_printed_for_a_machine_that_cannot_read_params(project: Path, params: Params) -> None:
    ended = called("jobs", "digits", "cnn-4", "residual-8", "--seed", "7", "--recipe", "low-lr", cwd=project)
    assert ended.returncode == 0, ended.stderr
    jobs = [Job.from_tree(tree) for tree in json.loads(ended.stdout)]
    keys = [RunKey("digits", ModelSpec.parse(variant), 7, "low-lr") for variant in ("cnn-4", "residual-8")]
    assert [job.key for job in jobs] == keys
    assert [job.recipe for job in jobs] == [params.recipe("digits", "low-lr")] * 2
    assert [job.splits for job in jobs] == [paths.splits("digits")] * 2
    assert [(job.results, job.cost) for job in jobs] == [(paths.run(key), paths.own_cost(key)) for key in keys]
    of_the_study = json.loads(called("jobs", "cifar10", "cnn-4", cwd=project).stdout)
    assert [tree["seed"] for tree in of_the_study] == params.study.seeds
    refused(called("jobs", "digits", "residual-9", cwd=project), "nearest: residual-8 and residual-14")
    refused(called("jobs", "digits", "residual-8", "--recipe", "warm", cwd=project), "recipes.warm: missing")


def test_stages_work_one_by_one_without_git_or_dvc(
    project: Path, monkeypatch: pytest.MonkeyPatch, backend: int
) -> None:
    text = (project / "params.yaml").read_text().replace("epochs: 20                 #", "epochs: 1  #")
    text = text.replace("_images: 180 ", "_images: 20 ")
    (project / "params.yaml").write_text(text)
    for arguments in (("download", "digits"), ("preprocess", "digits")):
        ended = called(*arguments, cwd=project)
        assert ended.returncode == 0, ended.stderr
    ended = resblock("train", "digits", "cnn-4", "0", cwd=project)
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert len(lines) == 1
    assert re.fullmatch(r"epoch 1/1  train \d\.\d{3} \d+\.\d%  validation .*  re-estimated .*%", lines[0])
    assert ended.stderr == ""  # no greetings from TensorFlow, MLflow or anyone
    monkeypatch.chdir(project)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    main(["evaluate", "digits", "cnn-4", "0"], standalone_mode=False)
    main(["report", "digits"], standalone_mode=False)
    assert (project / "results/digits/report/index.html").is_file()


def test_a_batch_larger_than_the_training_set_is_refused(project: Path, digits: dict[SplitName, Split]) -> None:
    text = (project / "params.yaml").read_text().replace("batch_size: 64", "batch_size: 5000")
    (project / "params.yaml").write_text(text)
    write_digits(project, digits)
    refused(called("train", "digits", "cnn-4", "0", cwd=project), "train.digits.batch_size", "5000", "1293")


def test_an_error_that_a_library_made_of_an_interruption_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """TensorFlow did, cut short while it built a graph: a traceback and exit code 1."""

    def cut_short(_: object) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except SystemExit:
            raise SystemError("bad argument to internal function") from None

    monkeypatch.setattr("resblock.stages.download.run", cut_short)
    with pytest.raises(SystemExit) as ended:
        main(["download", "digits"])
    assert ended.value.code == 143
    assert capsys.readouterr().err == "resblock: ended by SIGTERM\n"


def test_the_ui_without_runs_says_how_to_get_some(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(called("ui", "--dataset", "digits", cwd=project), "resblock run digits")
    monkeypatch.chdir(project)
    with pytest.raises(SystemExit):
        main(["ui"])
    assert "resblock run digits" in capsys.readouterr().err
    (project / "results/digits").mkdir(parents=True)  # as in a clone
    for command in (["ui"], ["ui", "--dataset", "digits"]):
        assert "`resblock sync` shows them" in CliRunner().invoke(main, command).stderr
    assert "resblock run cifar10" in CliRunner().invoke(main, ["ui", "--dataset", "cifar10"]).stderr
    assert not list(project.glob("mlflow*"))
