"""The command line. Rooms are imported by the command that needs them: help answers at once."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from resblock.errors import UserError

if TYPE_CHECKING:
    from resblock.spec import ModelSpec

INTERRUPTED = 130  # 128 + SIGINT, by convention


class _Group(click.Group):
    """A group that shows a person's mistakes as messages, not as tracebacks."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            click.echo(f"resblock: {error}", err=True)
            ctx.exit(1)
        except BrokenPipeError:  # a reader such as `head` has had enough
            raise
        except OSError as error:
            if error.errno is None:
                raise
            click.echo(f"resblock: {error.strerror}: {error.filename or ''}".rstrip(": "), err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            click.echo("resblock: interrupted", err=True)
            ctx.exit(INTERRUPTED)


def _terminated(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


def _parse(variant: str) -> ModelSpec:
    from resblock.spec import ModelSpec

    try:
        return ModelSpec.parse(variant)
    except ValueError as error:
        raise UserError(str(error)) from None


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="resblock", message="resblock %(version)s")
def main() -> None:
    r"""Measure what the residual block buys, and how accuracy changes with depth.

    \b
    The stages below are what `dvc repro` calls; params.yaml says what they do.
    \b
      resblock check                     is params.yaml right?
      resblock run digits                the whole study on the bundled digits
      dvc repro report@cifar10           the whole study on CIFAR-10
      resblock sync                      show in MLflow what the files say
      resblock ui                        compare the runs in MLflow
    """
    signal.signal(signal.SIGTERM, _terminated)


@main.command()
def check() -> None:
    r"""Check params.yaml and say what the study comprises.

    \b
    Example: resblock check
    """
    from resblock import paths
    from resblock.data.table import find_dataset
    from resblock.params import read_params

    study = read_params(paths.PARAMS).study
    for dataset in study.datasets:
        find_dataset(dataset)
    trainings = len(study.datasets) * len(study.variants) * len(study.seeds)
    click.echo(f"{paths.PARAMS} is right: {trainings} trainings")
    click.echo(f"  data sets  {', '.join(study.datasets)}")
    click.echo(f"  networks   {', '.join(study.variants)}")
    click.echo(f"  seeds      {', '.join(str(seed) for seed in study.seeds)}")


@main.command()
@click.argument("dataset")
def download(dataset: str) -> None:
    r"""Fetch and verify the raw files of DATASET.

    RESBLOCK_MIRROR, a folder or a base URL, is tried before the official address.

    \b
    Example: RESBLOCK_MIRROR=/srv/mirror resblock download cifar10
    """
    from resblock.stages import download

    download.run(dataset)


@main.command()
@click.argument("dataset")
def preprocess(dataset: str) -> None:
    r"""Cut DATASET into train, validation and test arrays.

    \b
    Example: resblock preprocess digits
    """
    from resblock.stages import preprocess

    preprocess.run(dataset)


@main.command()
@click.argument("dataset")
@click.argument("variant")
@click.argument("seed", type=click.IntRange(0, 2**32 - 1))
def train(dataset: str, variant: str, seed: int) -> None:
    r"""Train VARIANT on DATASET from SEED, by the data set's recipe.

    VARIANT is <family>-<depth>, for instance residual-20. A training that was killed goes on from its last epoch.

    \b
    Example: resblock train digits residual-20 0
    """
    from resblock.spec import RunKey
    from resblock.stages import train

    train.run(RunKey(dataset, _parse(variant), seed))


@main.command()
@click.argument("dataset")
def evaluate(dataset: str) -> None:
    r"""Score every training of the study on DATASET; those not there yet are listed as missing.

    \b
    Example: resblock evaluate digits
    """
    from resblock.stages import evaluate

    evaluate.run(dataset)


@main.command()
@click.argument("dataset")
def report(dataset: str) -> None:
    r"""Write the page, figures and tables of DATASET.

    \b
    Example: resblock report digits
    """
    from resblock.stages import report

    report.run(dataset)


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
    r"""Say what a trained network sees in each IMAGE, a PNG or JPEG file of any size and mode.

    A picture is turned upright, put onto white where it is transparent, cut to the network's aspect ratio around its
    centre and reduced to its size. Ends with 1 where a file cannot be read; the others are answered all the same.

    
    Example: resblock predict three.png --dataset digits --invert
    """
    from resblock.stages import predict

    if model_uri is not None and (dataset, variant, seed) != (None, None, None):
        raise UserError("--model-uri names a network already; leave out --dataset, --variant and --seed")
    choice = predict.Choice(dataset, _parse(variant) if variant else None, seed, model_uri)
    if not predict.run(images, choice, top=top, invert=invert, as_json=as_json):
        raise click.exceptions.Exit(1)


@main.command()
@click.argument("datasets", nargs=-1)
@click.option(
    "--jobs", "-j", type=click.IntRange(1), help="Trainings side by side; default: as many as the cores carry."
)
def run(datasets: tuple[str, ...], jobs: int | None) -> None:
    r"""Bring the study on DATASETS (default: all) up to date, trainings side by side.

    DVC decides what is stale; the results are those of `dvc repro`.

    \b
    Example: resblock run digits --jobs 2
    """
    from resblock.pipeline import bring_up_to_date

    bring_up_to_date(datasets, jobs)


@main.command()
@click.argument("datasets", nargs=-1)
@click.option("--check", is_flag=True, help="Change nothing; list what differs, and exit with 1 if anything does.")
def sync(datasets: tuple[str, ...], check: bool) -> None:
    r"""Bring MLflow to what the files say: one live run for each result on DATASETS (default: all).

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
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="Port to listen on.")
@click.option("--open/--no-open", "browse", default=False, help="Open the page in a browser.")
def ui(dataset: str | None, host: str, port: int, browse: bool) -> None:
    r"""Start the MLflow UI and print the address that shows the training runs with charts.

    \b
    Example: resblock ui --port 5001
    """
    from resblock.tracking.ui import serve

    serve(dataset, host, port, browse=browse)
