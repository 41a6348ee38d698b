"""The commands `resblock data …`: add your own images, and look at the data sets that are here."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def data() -> None:
    """Add your own images to the study, and look at the data sets that are here.

    \b
    Example: resblock data add flowers ~/flowers
    """


@data.command()
@click.argument("name")
@click.argument("path", required=False, type=click.Path(path_type=Path))
@click.option("--format", "form", help="folder | arrays | parquet | cifar10 | cifar100; default: found out.")
@click.option("--size", type=click.IntRange(8, 1024), help="Pixels of a side; default: as the images are, or 64.")
@click.option("--channels", type=click.Choice(["1", "3"]), help="1 (grey) or 3 (RGB); default: as the images are.")
@click.option("--skip-unreadable", is_flag=True, help="Skip and count pictures that cannot be read.")
def add(
    name: str, path: Path | None, form: str | None, size: int | None, channels: str | None, skip_unreadable: bool
) -> None:
    """Add the images at PATH to the study as NAME: link them, and write their entry into params.yaml.

    PATH is a folder with a folder per class, perhaps below train, validation and test; an .npz; or .parquet files. It
    may lie anywhere, and nothing in it is changed. Without PATH, what params.yaml lacks of NAME is written down.

    \b
    Example: resblock data add flowers ~/flowers --size 96
    """
    from resblock.stages import datasets

    datasets.add(name, path, datasets.Choices(form, size, int(channels) if channels else None, skip_unreadable))


@data.command(name="list")
def list_() -> None:
    """List the data sets that are known here.

    \b
    Example: resblock data list
    """
    from resblock.stages import datasets

    for line in datasets.overview():
        click.echo(line)


@data.command()
@click.argument("name")
def info(name: str) -> None:
    """Say what is known of NAME: sizes, digests, images per class, and what its owner must know.

    \b
    Example: resblock data info digits
    """
    from resblock.stages import datasets

    for line in datasets.details(name):
        click.echo(line)


@data.command()
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the sheets; default: contact-sheets/NAME.")
def show(name: str, out: Path | None) -> None:
    """Write a contact sheet per class of NAME: training images as they are, and as the recipe augments them.

    \b
    Example: resblock data show flowers --out sheets
    """
    from resblock.stages import datasets

    written = datasets.show(name, out)
    click.echo(f"{written[0].parent}: {len(written)} contact sheets, images as they are on the left, augmented right")
