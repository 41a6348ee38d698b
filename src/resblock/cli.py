"""The command line. Rooms are imported by the command that needs them: help answers at once."""

from __future__ import annotations

import errno
import io
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

import resblock
from resblock.core.errors import OtherThreadsError, UserError
from resblock.data_commands import data
from resblock.running.terms import ELSEWHERE, Terms
from resblock.signals import ARRIVED, SAME_WISH

if TYPE_CHECKING:
    from resblock.core.spec import ModelSpec, RunKey
    from resblock.params import Params
    from resblock.stages.workplace import Workplace

# What a person can do about an OSError, where its own words do not say.
REMEDIES = {
    errno.ENOENT: "`dvc repro` of the stage first makes what it reads",
    errno.ENOSPC: "free some space and run the same command again",
    errno.EDQUOT: "free some of your quota and run the same command again",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f) and run the same command again",
}
PROGRAMS = ("git",)  # that resblock starts
MADE = ("data", "results")  # folders of what stages make


class _Interrupted(SystemExit):
    """SIGINT or SIGTERM came; the exit code is 128 plus the signal's number, by convention."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number).name


class _Group(click.Group):
    """A group that runs the code of the project it is called in, and shows a person's mistakes as messages."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        if not arguments and not options:  # as the installed command calls it; others call it in a process of theirs
            _run_the_code_that_lies_here()
            if isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(errors="replace")  # where a language's letters are not all there are
        return super().main(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            if ctx.obj is not None and isinstance(error, OtherThreadsError):
                raise  # a process of its own can have them
            click.echo(f"resblock: {error}", err=True)
            ctx.exit(1)
        except BrokenPipeError:  # a reader such as `head` has had enough
            raise
        except OSError as error:
            if error.errno is None:
                raise
            place = f"{error.filename}: " if error.filename else ""
            click.echo(f"resblock: {place}{error.strerror}{_remedy(error)}", err=True)
            ctx.exit(1)
        except (_Interrupted, Exception) as error:
            if not ARRIVED:
                _tell_damage(ctx, error)
                raise
            # TensorFlow, cut short while it builds a graph, may make an error of its own of the interruption.
            end = _Interrupted(ARRIVED[0][0])
            click.echo(f"resblock: ended by {end.signal}", err=True)
            raise end from None


def _remedy(error: OSError) -> str:
    """Say what a person can do about it, where that is known; empty elsewhere."""
    if error.errno == errno.ENOENT:
        if error.filename in PROGRAMS:
            return "; it is a program to install"
        place = Path(str(error.filename or "/")).resolve()
        if not any(place.is_relative_to(Path(folder).resolve()) for folder in MADE):
            return ""
    return f"; {REMEDIES[error.errno]}" if error.errno in REMEDIES else ""


def _run_the_code_that_lies_here() -> None:
    """Start anew with ``./src`` where this process has imported resblock from elsewhere.

    An environment belongs to one checkout, and is active in a worktree or in DVC's copy of an experiment too: it would
    run its own checkout's code there, under the digest of the code that lies there.
    """
    here, imported = Path("src/resblock/__init__.py"), Path(resblock.__file__)
    if not here.is_file() or here.samefile(imported):
        return
    source = str(here.parent.parent.resolve())
    others = os.environ.get("PYTHONPATH", "")
    if others.split(os.pathsep)[0] == source:
        click.echo(f"resblock: runs {imported.parent}, though {source} comes first in PYTHONPATH; mend that", err=True)
        sys.exit(1)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (source, others)))}
    os.execve(sys.executable, [sys.executable, "-m", "resblock", *sys.argv[1:]], environment)  # noqa: S606


def _tell_damage(ctx: click.Context, error: BaseException) -> None:
    """End with one line where `error` came of a file that is not as it was written."""
    from resblock.damage import damage

    if isinstance(error, Exception) and (words := damage(error)):
        click.echo(f"resblock: {words}", err=True)
        ctx.exit(1)


def _end_on_signals() -> None:
    """Let SIGINT and SIGTERM unwind the stack, which closes what is open; a second one, later, ends at once."""
    ARRIVED.clear()

    def end(number: int, _: FrameType | None) -> None:
        ARRIVED.append((number, time.monotonic()))
        if len(ARRIVED) == 1:
            raise _Interrupted(number)
        if ARRIVED[-1][1] - ARRIVED[0][1] > SAME_WISH:
            os._exit(128 + number)

    def ignore(*_: Any) -> None:
        """Do what a background job was told to do; unlike SIG_IGN, this is not inherited by processes it must end."""

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ignore if signal.getsignal(number) is signal.SIG_IGN else end)


def _here_or_warm(stage: Callable[[], None]) -> None:
    """Run a stage in the process that waits for it, where `resblock run` has one, or in this one."""
    from resblock.running.caller import end_with_dvc
    from resblock.running.handover import hand_over

    end_with_dvc()
    code = hand_over(sys.argv[1:])
    if code is None:
        stage()
    elif code:
        raise click.exceptions.Exit(code)


def _require_git() -> None:
    """Raise UserError where a project lies in no git repository, as an unpacked ZIP does, and DVC is to find one."""
    from resblock import paths
    from resblock.stages.weights import dvc_config

    here = Path.cwd()
    if not paths.PARAMS.is_file() or dvc_config().getboolean("core", "no_scm", fallback=False):
        return
    if not any((folder / ".git").exists() for folder in (here, *here.parents)):
        raise UserError(f"{here}: is in no git repository, which DVC needs; `git init` makes it one")


def _parse(variant: str) -> ModelSpec:
    from resblock.params import parse_variant

    return parse_variant(variant)


def _key(dataset: str, variant: str, seed: int, recipe: str) -> RunKey:
    """Return the key of a training. Not for a command that hands itself over: its imports take longer than that."""
    from resblock.core.spec import RunKey

    return RunKey(dataset, _parse(variant), seed, recipe)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="resblock", message="resblock %(version)s")
def main() -> None:
    """Measure what the residual block buys, and how accuracy changes with depth.

    \b
    The stages below are what `dvc repro` calls; params.yaml says what they do.
    \b
      resblock check                     is params.yaml right?
      resblock variants                  which networks can be compared?
      resblock data add flowers ~/flowers    your own images
      resblock plan digits               what is stale, why, and what will it take?
      resblock run digits                the whole study on the bundled digits
      resblock doctor                    what is wrong with this project here?
      dvc repro report@cifar10           the whole study on CIFAR-10
      resblock sync                      show in MLflow what the files say
      resblock ui                        compare the runs in MLflow
      resblock verify                    is a published number real?
    """
    _end_on_signals()


main.add_command(data)


@main.command()
def check() -> None:
    """Check params.yaml and say what the study comprises, and what lies here that is not what it asks for.

    \b
    Example: resblock check
    """
    from resblock import paths
    from resblock.data.table import require_source
    from resblock.params import read_params
    from resblock.stages.asked import remarks

    params = read_params(paths.PARAMS)
    study, ablation = params.study, params.ablation
    for dataset in study.datasets:
        require_source(dataset).refuse_unknown_words(params.preparation(dataset))
    trainings = sum(len(params.keys(dataset)) for dataset in study.datasets)
    click.echo(f"{paths.PARAMS} is right: {trainings} trainings")
    click.echo(f"  data sets  {', '.join(study.datasets)}")
    click.echo(f"  networks   {', '.join(study.variants)}")
    click.echo(f"  seeds      {', '.join(str(seed) for seed in study.seeds)}")
    if ablation.recipes and ablation.dataset in study.datasets:
        seeds = ", ".join(str(seed) for seed in ablation.seeds)
        where = f"on {ablation.dataset}, {', '.join(ablation.variants)}, from seeds {seeds}"
        click.echo(f"  recipes    {', '.join(ablation.recipes)}: {where}")
    _say_cautions(params)
    for dataset in study.datasets:
        for sentence in remarks(params, dataset):
            click.echo(f"warning: {sentence}", err=True)
        _show_defaults(dataset)


def _show_defaults(dataset: str) -> None:
    """Say which keys of a person's own data set hold defaults that params.yaml does not write down."""
    from resblock import paths
    from resblock.data.entries import as_yaml, defaults_in_use

    held = defaults_in_use(paths.PARAMS, dataset)
    for key, value in held.items():
        click.echo(f"  default    {key}: {as_yaml(value)}")
    if held:
        click.echo(
            f"warning: DVC sees no defaults; `resblock data add {dataset}` writes them down, "
            "epochs and batches by the number of images",
            err=True,
        )


def _say_cautions(params: Params) -> None:
    from resblock import paths

    for caution in params.cautions():
        click.echo(f"warning: {caution} ({paths.PARAMS})", err=True)


@main.command()
@click.argument("names", nargs=-1)
def variants(names: tuple[str, ...]) -> None:
    """List families, depths and modifiers of networks, or what the networks NAMES cost.

    \b
    Example: resblock variants residual-20 plain-20-nobn bottleneck-164
    """
    from resblock import paths
    from resblock.catalogue import costs, grammar
    from resblock.params import read_params

    if not names:
        click.echo("\n".join(grammar()))
        return
    recipe = next(iter(read_params(paths.PARAMS).train.values()))
    for line in costs([_parse(name) for name in names], recipe):
        click.echo(line)


@main.command()
@click.argument("dataset")
def download(dataset: str) -> None:
    """Fetch and verify the raw files of DATASET.

    RESBLOCK_MIRROR, a folder or a base URL, is tried before the official address.

    \b
    Example: RESBLOCK_MIRROR=/srv/mirror resblock download cifar10
    """

    def here() -> None:
        from resblock import paths
        from resblock.params import read_params
        from resblock.stages import download

        read_params(paths.PARAMS)  # where there are none, no project is to get folders and a store
        download.run(dataset)

    _here_or_warm(here)


@main.command()
@click.argument("dataset")
def preprocess(dataset: str) -> None:
    """Cut DATASET into train, validation and test arrays.

    \b
    Example: resblock preprocess digits
    """

    def here() -> None:
        from resblock.stages import preprocess

        preprocess.run(dataset)

    _here_or_warm(here)


@main.command()
@click.argument("dataset")
def probe(dataset: str) -> None:
    """Measure how gradients flow in networks before training, on images of DATASET.

    Which networks, and on how many images: params.yaml, probes.

    \b
    Example: resblock probe digits
    """

    def here() -> None:
        from resblock.stages import probe

        probe.run(dataset)

    _here_or_warm(here)


@main.command()
@click.argument("dataset")
@click.argument("variant")
@click.argument("seed", type=click.IntRange(0, 2**32 - 1))
@click.option("--recipe", default="base", help="One of params.yaml's recipes; default: the data set's own.")
@click.pass_obj
def train(workplace: Workplace | None, dataset: str, variant: str, seed: int, recipe: str) -> None:
    """Train VARIANT on DATASET from SEED, by the data set's recipe or one that differs from it.

    VARIANT is <family>-<depth>[-<modifier>…], for instance residual-20 (all: resblock variants). A training that was
    killed goes on from its last epoch.

    \b
    Example: resblock train digits residual-20 0
    """
    if ELSEWHERE in os.environ:
        from resblock.running.caller import end_with_dvc
        from resblock.running.engines.ray import workshop_elsewhere
        from resblock.stages import train

        end_with_dvc()
        train.run(_key(dataset, variant, seed, recipe), workshop_elsewhere(), here=False)
        return

    def here() -> None:
        from resblock.stages import train

        train.run(_key(dataset, variant, seed, recipe), workplace.workshop if workplace else None)

    _here_or_warm(here)


@main.command()
@click.argument("dataset")
@click.argument("variants", nargs=-1, required=True, metavar="VARIANT...")
@click.option(
    "--seed",
    "seeds",
    multiple=True,
    type=click.IntRange(0, 2**32 - 1),
    help="Repeatable; default: as in params.yaml.",
)
@click.option("--recipe", default="base", help="One of params.yaml's recipes; default: the data set's own.")
def jobs(dataset: str, variants: tuple[str, ...], seeds: tuple[int, ...], recipe: str) -> None:
    """Print trainings of each VARIANT on DATASET as JSON for `python -m resblock.core`.

    That command needs nothing but Keras, a backend and NumPy: docs/gpu.md.

    \b
    Example: resblock jobs cifar10 residual-56 plain-56 --seed 0 > jobs.json
    """
    import json

    from resblock import paths
    from resblock.core.recipe import BASE
    from resblock.params import read_params
    from resblock.stages.train import job_of

    params = read_params(paths.PARAMS)
    chosen = seeds or (params.study.seeds if recipe == BASE else params.ablation.seeds)
    keys = [_key(dataset, name, seed, recipe) for name in variants for seed in chosen]
    click.echo(json.dumps([job_of(key, params).tree() for key in keys], indent=2))


@main.command()
@click.argument("dataset")
@click.argument("variant")
@click.argument("seed", type=click.IntRange(0, 2**32 - 1))
@click.option("--recipe", default="base", help="One of params.yaml's recipes; default: the data set's own.")
@click.pass_obj
def evaluate(workplace: Workplace | None, dataset: str, variant: str, seed: int, recipe: str) -> None:
    """Look at one training: VARIANT on DATASET from SEED, on train, validation and test images.

    One that is not what params.yaml asks for (other images, another recipe, other code) is refused.

    \b
    Example: resblock evaluate digits residual-20 0
    """

    def here() -> None:
        from resblock.stages import evaluate

        evaluate.run(_key(dataset, variant, seed, recipe), workplace)

    _here_or_warm(here)


@main.command()
@click.argument("dataset")
def report(dataset: str) -> None:
    """Write the page, figures and tables of DATASET, and register its champion in MLflow.

    \b
    Example: resblock report digits
    """

    def here() -> None:
        from resblock.stages import report

        report.run(dataset)

    _here_or_warm(here)


@main.command()
@click.argument("dataset")
def advise(dataset: str) -> None:
    """Say which network to use on DATASET, how sure that is, and what to run next if it is not.

    Computed from the scores and costs that are here.

    \b
    Example: resblock advise digits
    """
    from resblock.stages import advise

    for line in advise.run(dataset):
        click.echo(line)


@main.command()
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--dataset", help="Ask a network of this data set; default: the first of the study that has scores.")
@click.option("--variant", help="Ask this network; default: the champion, best by validation accuracy over seeds.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Ask this seed; default: the network's best.")
@click.option("--model-uri", help="Ask a model in MLflow, for instance models:/resblock-digits@champion.")
@click.option("--top", type=click.IntRange(1), help="Show so many classes; default: 1, with --json all.")
@click.option("--invert", is_flag=True, help="Turn dark strokes on light paper into light on dark, as digits are.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def predict(
    images: tuple[Path, ...],
    dataset: str | None,
    variant: str | None,
    seed: int | None,
    model_uri: str | None,
    top: int | None,
    invert: bool,
    as_json: bool,
) -> None:
    """Say what a trained network sees in each IMAGE, a PNG or JPEG file of any size and mode; - is standard input.

    A picture is turned upright, put onto white where it is transparent, cut to the network's aspect ratio around its
    centre and reduced to its size. Ends with 1 where a file cannot be read; the others are answered all the same.

    \b
    Example: resblock predict three.png --dataset digits --invert
             curl -s https://example.org/three.png | resblock predict -
    """
    from resblock.stages import predict

    if model_uri is not None and (dataset, variant, seed) != (None, None, None):
        raise UserError("--model-uri names a network already; leave out --dataset, --variant and --seed")
    choice = predict.Choice(dataset, _parse(variant) if variant else None, seed, model_uri)
    if not predict.run(images, choice, top=top, invert=invert, as_json=as_json):
        raise click.exceptions.Exit(1)


@main.command()
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@click.option("--jobs", "-j", type=click.IntRange(1), help="Stages side by side; default: what cores or cards carry.")
@click.option("--ray", "address", metavar="ADDRESS", help="Train on this Ray cluster; local: start one here.")
@click.option(
    "--cpus", type=click.FloatRange(0), default=Terms.cpus, show_default=True, help="With --ray, of each training."
)
@click.option(
    "--gpus", type=click.FloatRange(0), default=Terms.gpus, show_default=True, help="Likewise; fractions share one."
)
@click.option(
    "--tries", type=click.IntRange(1), default=Terms.tries, show_default=True, help="With --ray, of one training."
)
@click.option("--mixed", is_flag=True, help="With --ray, allow nodes that give other bytes than this machine.")
def run(
    targets: tuple[str, ...],
    jobs: int | None,
    address: str | None,
    cpus: float,
    gpus: float,
    tries: int,
    mixed: bool,
) -> None:
    """Bring the study up to date, stages of all data sets side by side, the longest first.

    A TARGET is a data set or what DVC calls a stage, and * in it stands for anything; default: the whole study. What it
    needs is run first. DVC decides what is stale; the results are those of `dvc repro`. A stage that fails stops none
    that does not need it, and the same command goes on from there.

    \b
    Example: resblock run digits --jobs 2
             resblock run 'train@cifar10-residual-*'
             resblock run cifar10 --ray 10.0.0.1:6379 --cpus 2
    """
    from resblock import paths
    from resblock.params import read_params
    from resblock.running.study import bring_up_to_date

    if not (math.isfinite(cpus) and math.isfinite(gpus)):
        raise click.UsageError("--cpus and --gpus: must be numbers")
    terms = Terms(address or "", cpus, gpus, tries, mixed)
    if address is None and terms != Terms(""):
        raise click.UsageError("--cpus, --gpus, --tries and --mixed say something with --ray alone")
    _require_git()
    _say_cautions(read_params(paths.PARAMS))
    if address is None:
        bring_up_to_date(targets, jobs)
    else:
        from resblock.running.engines.ray import Cluster

        bring_up_to_date(targets, jobs, partial(Cluster, terms))


def _run_warm(arguments: Sequence[str], workplace: Workplace) -> int | None:
    """Run a command in a process that has run others, as `main` would; None where it needs a process of its own."""
    try:
        ended = main.main(list(arguments), prog_name="resblock", standalone_mode=False, obj=workplace)
    except OtherThreadsError:
        return None
    except click.ClickException as error:
        error.show()
        return error.exit_code
    return ended if isinstance(ended, int) else 0


@main.command(hidden=True)
@click.argument("place", type=click.Path(path_type=Path))
def work(place: Path) -> None:
    """Run the stages that come to the socket at PLACE: what `resblock run` starts."""
    from resblock.running.warm import serve
    from resblock.stages.workplace import Workplace
    from resblock.startup import import_keras

    workplace = Workplace()
    with suppress(_Interrupted):  # who started it told it to end, and need not be told that it did
        serve(place, lambda arguments: _run_warm(arguments, workplace), prepare=import_keras)


@main.command()
@click.argument("datasets", nargs=-1)
@click.option("--check", is_flag=True, help="Change nothing; list what differs, and exit with 1 if anything does.")
def sync(datasets: tuple[str, ...], check: bool) -> None:
    """Bring MLflow to what the files say: one live run for each result on DATASETS (default: all).

    For results that were pulled, cloned, restored by DVC, or made while MLflow was out of reach.

    \b
    Example: resblock sync digits --check
    """
    from resblock.stages import sync

    shown = sync.run(datasets, check=check)
    if check and not shown:
        sys.exit(1)


@main.command()
@click.option("--dataset", help="Show this data set's training runs; default: the first of the study that has runs.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on; default: the first free one from 5000.")
@click.option("--allowed-hosts", default="", help="Names by which browsers may ask for it, separated by commas.")
@click.option("--open/--no-open", "browse", default=False, help="Open the page in a browser.")
def ui(dataset: str | None, host: str, port: int | None, allowed_hosts: str, browse: bool) -> None:
    """Start the MLflow UI and print the address that shows the training runs with charts.

    \b
    Example: resblock ui --port 5001
    """
    from resblock import paths
    from resblock.stages.sync import names_of_the_study
    from resblock.tracking.ui import serve

    names = [name for name in allowed_hosts.split(",") if name]
    here = paths.datasets()
    serve(dataset, host, port, allowed_hosts=names, browse=browse, named=names_of_the_study, here=here)


@main.command()
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@click.option("--epochs", type=click.IntRange(1), help="Train so many epochs of each; default: all.")
@click.option(
    "--accept", is_flag=True, help="Record the code that is here for what came out equal, without retraining."
)
def verify(targets: tuple[str, ...], epochs: int | None, accept: bool) -> None:
    """Train each TARGET again and compare it with what is published, byte for byte.

    A TARGET is what DVC calls a training, and * in it stands for anything; without one it is one seed of each network
    and recipe on the first data set. Ends with 1 where something differs. --accept is for trainings that only an edit
    of the code made stale: docs/verify.md.

    \b
    Example: resblock verify train@digits-residual-8-0 --epochs 3
    """
    from resblock.core.training.job import Workshop
    from resblock.running.verify import verify as verify_all
    from resblock.startup import start_keras

    if not verify_all(targets, Workshop(start_keras), epochs=epochs, record=accept):
        raise click.exceptions.Exit(1)


@main.command()
@click.argument("revisions", nargs=-1, metavar="[BEFORE] [AFTER]")
@click.option("--dataset", help="Compare the trainings on this data set; default: all that both sides have.")
@click.option("--markdown", is_flag=True, help="Print Markdown, for a pull request.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, every figure of every network.")
@click.option("--html", "page", type=click.Path(path_type=Path), help="Write a page with the curves into this file.")
def diff(revisions: tuple[str, ...], dataset: str | None, markdown: bool, as_json: bool, page: Path | None) -> None:
    """Compare two revisions of the study: what was changed, and what that moved.

    BEFORE and AFTER are revisions of git or names of DVC's experiments; default: HEAD, and the files as they lie here.
    Reads what git holds, needs neither DVC's cache nor Keras: docs/diff.md.

    \b
    Example: resblock diff main --markdown
    """
    from resblock.diff import command
    from resblock.diff.tree import WORKSPACE

    if len(revisions) > 2:
        raise UserError(f"got {len(revisions)} revisions, expected at most two: BEFORE and AFTER")
    if markdown and as_json:
        raise UserError("--markdown and --json exclude each other")
    before, after = (*revisions, *("HEAD", WORKSPACE)[len(revisions) :])
    command.run(before, after, dataset, markdown=markdown, as_json=as_json, page=page)


@main.command()
@click.argument("revisions", nargs=-1, required=True, metavar="REVISION…")
@click.option("--dataset", help="The data set; needed where the revisions have several.")
@click.option("--markdown", is_flag=True, help="Print Markdown, for a page or a pull request.")
@click.option("--csv", type=click.Path(path_type=Path), help="Write every accuracy into this file.")
def splits(revisions: tuple[str, ...], dataset: str | None, markdown: bool, csv: Path | None) -> None:
    """Tell what the split of the images moves from what the seeds move.

    REVISIONS are revisions of git or names of DVC's experiments that differ from the files as they lie here in
    `split_seed` alone: docs/methods.md#what-another-split-would-do.

    \b
    Example: resblock splits split-1 split-2 --dataset digits
    """
    from resblock.diff.splits import run

    run(revisions, dataset, as_markdown=markdown, csv=csv)


@main.command()
@click.argument("targets", nargs=-1)
@click.option("--jobs", "-j", type=click.IntRange(1), help="Trainings side by side; default: as `resblock run` does.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every cause.")
def plan(targets: tuple[str, ...], jobs: int | None, as_json: bool) -> None:
    """Say what is stale and why, what DVC has in its cache, and how long the rest will take; run nothing.

    TARGETS are data sets or DVC's stages (default: the whole study). Where nothing was trained on this machine before,
    its speed is measured for some seconds.

    \b
    Example: resblock plan digits
    """
    import json

    from resblock.running.plan import make_plan

    _require_git()
    made = make_plan(targets, jobs)
    click.echo(json.dumps(made.tree(), indent=2) if as_json else "\n".join(made.lines()))


@main.command()
@click.argument("dataset")
@click.option("--publish", is_flag=True, help="Put this folder's times in the place of the published ones.")
def times(dataset: str, publish: bool) -> None:
    """Show what the trainings on DATASET took: as published with the results, and in this folder.

    Times differ between repeats and machines, results do not. Medians over seeds, validation included.

    \b
    Example: resblock times digits
    """
    from resblock.running.times import lines, publish_all

    for line in [publish_all(dataset)] if publish else lines(dataset):
        click.echo(line)


@main.command()
@click.option("--mend", is_flag=True, help="Mend what can be mended without losing anything.")
def doctor(mend: bool) -> None:
    """Say what is wrong with this project on this machine, and what to do; ends with 1 if anything is.

    \b
    Example: resblock doctor --mend
    """
    from resblock.running.doctor import examine, report

    ill = False
    for line, wrong in report(examine(), mend=mend):
        click.echo(line)
        ill = ill or wrong
    if ill:
        raise click.exceptions.Exit(1)
