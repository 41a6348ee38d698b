"""The data sets at hand: how one is added, what is known of each, and what its images look like."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ruamel.yaml import YAML

from resblock import defaults, paths
from resblock.core.errors import UserError
from resblock.core.files import write_bytes
from resblock.core.splits import DESCRIPTION, SPLIT_NAMES, DatasetDescription, read_description, read_split
from resblock.data.collection import Collection, Files, ReadError, Wishes
from resblock.data.cutting import AUTO_TEST, AUTO_VALIDATION
from resblock.data.entries import NAME, write_entry
from resblock.data.listing import SOURCES, UNWATCHED, files_below
from resblock.data.review import read_review
from resblock.data.table import DATASETS, READERS, known_datasets
from resblock.data.words import some
from resblock.params import read_params
from resblock.stages.asked import refuse_what_is_not_studied
from resblock.stages.contact import SHOWN, augmenter, sheet
from resblock.stages.terminal import say, warn

SHEETS = Path("contact-sheets")
SIDES = (8, 1024)  # pixels, of params.yaml's `size`


@dataclass(frozen=True)
class Choices:
    """What a person says of a data set when it is added; what is None is found out."""

    format: str | None = None
    size: int | None = None
    channels: int | None = None
    skip: bool = False


def add(name: str, place: Path | None, choices: Choices) -> None:
    """Link a person's images to ``sources/<name>`` and write what params.yaml lacks of their entry."""
    _check_name(name, place)
    params = read_params(paths.PARAMS)  # a file that is wrong already is not added to
    if name in DATASETS:
        if choices != Choices():
            raise UserError(f"{name} is published as it is, and options change nothing in it")
        described = name in params.data and params.preparation(name).format is None  # in full, since without defaults
        values = defaults.sections()
        values["data"] = {"format": name, **values["data"]}
        added = write_entry(paths.PARAMS, name, {} if described else values)
    else:
        here = _own(name, place)
        if name in params.data:
            if choices != Choices():
                raise UserError(
                    f"{name} is in {paths.PARAMS} already, and options change nothing there; edit data.{name}"
                )
            known = params.preparation(name)
            choices = Choices(known.format, known.size, known.channels)
        form = choices.format or guess_format(here)
        found = _look(here, form, name, choices)
        added = write_entry(paths.PARAMS, name, _values(found, form, choices))
        _link(SOURCES / name, here)
        _describe(name, found)
    say(f"{paths.PARAMS}: {len(added)} keys of {name} written" if added else f"{paths.PARAMS}: {name} is there already")
    say(f"next: `resblock data show {name}` once `dvc repro preprocess@{name}` has run, or `resblock run {name}`")


def _check_name(name: str, place: Path | None) -> None:
    if not re.fullmatch(NAME, name):
        raise UserError(f"{name!r}: a data set's name is made of lower-case letters, digits and single hyphens")
    if not isinstance(YAML(typ="safe").load(name), str):
        raise UserError(f"{name!r}: YAML takes this for something else than a name; choose another")
    if name in DATASETS and place is not None:
        raise UserError(f"{name}: is the name of a published data set; choose another for your own images")


def _own(name: str, place: Path | None) -> Path:
    """Return where a person's images lie: at `place`, or where ``sources/<name>`` says. Raises UserError."""
    link = SOURCES / name
    if place is None:
        if not link.exists():
            next(files_below(link), None)  # says what is wrong
        return link.resolve()
    here = place.expanduser()
    if not here.exists():
        raise UserError(f"{place}: is not there")
    if (link.exists() or link.is_symlink()) and link.resolve() != here.resolve():
        raise UserError(f"{link}: is there already and is not {place}; remove it first")
    return here.resolve()


def _link(link: Path, here: Path) -> None:
    link.parent.mkdir(exist_ok=True)
    if not link.is_symlink() and not link.exists():
        link.symlink_to(here)


def guess_format(place: Path) -> str:
    """Return how the files at `place` are to be read, by their names."""
    names = [name.lower() for name, _, _ in files_below(place)]
    for form, word in (("parquet", ".parquet"), ("arrays", ".npz"), ("cifar100", "fine_label_names.txt")):
        if any(name.endswith(word) for name in names):
            return form
    return "cifar10" if any(name.endswith("data_batch_1.bin") for name in names) else "folder"


def _look(place: Path, form: str, name: str, choices: Choices) -> Collection:
    """Return the images at `place`, none of them decoded yet. Raises ReadError."""
    reader = READERS.get(form)
    if reader is None:
        raise UserError(f"--format: got {form!r}, must be one of {', '.join(READERS)}")
    found = list(files_below(place))
    if unwatched := [(lost, problem) for lost, _, problem in found if problem in UNWATCHED]:
        more = f" (and {len(unwatched) - 1:,} more of the kind)" if len(unwatched) > 1 else ""
        raise ReadError(f"{place}: DVC cannot watch {unwatched[0][0]!r}, which {unwatched[0][1]}{more}; remove it")
    files = Files(
        place,
        {name: "" for name, _, problem in sorted(found) if not problem},
        {name: problem for name, _, problem in sorted(found) if problem},
    )
    collection = reader(files, Wishes(f"data.{name}", size=choices.size, channels=choices.channels))
    if not np.any(collection.parts == 0):
        raise ReadError(f"{place}: there are no training images")
    height, width, _ = collection.image_shape
    if not SIDES[0] <= min(height, width) <= max(height, width) <= SIDES[1]:
        raise ReadError(f"{place}: the images are {width}x{height}; say with --size what to bring them to (8 to 1024)")
    if len(collection.classes) < 2:
        only = ", ".join(map(repr, collection.classes))
        deeper = form == "folder" and all(str(picture).count("/") > 1 for picture in collection.names)
        hint = "; if its folders are the classes, name it instead" if deeper else ""
        raise ReadError(f"{place}: there is one class only ({only}); two are needed at least{hint}")
    return collection


def _values(found: Collection, form: str, choices: Choices) -> dict[str, dict[str, object]]:
    share = 1.0
    for split, cut in (("test", AUTO_TEST), ("validation", AUTO_VALIDATION)):
        share *= 1.0 if split in found.ships else 1 - cut
    values = defaults.sections(int(share * int(np.sum(found.parts == 0))))
    height, width, channels = found.image_shape
    entry: dict[str, object] = {"format": form}
    if choices.size or form in ("folder", "parquet") or height == width:
        entry["size"] = height
    entry |= {"channels": channels, "on_error": "skip" if choices.skip else "refuse"}
    values["data"] = {
        **entry,
        **values["data"],
        **{f"{split}_fraction": "official" for split in ("test", "validation") if split in found.ships},
    }
    return values


def _describe(name: str, found: Collection) -> None:
    counts = np.bincount(found.labels, minlength=len(found.classes))
    height, width, channels = found.image_shape
    each = f"{counts.min():,}" if counts.min() == counts.max() else f"{counts.min():,} to {counts.max():,}"
    say(
        f"{name}: {len(found.labels):,} images of {len(found.classes)} classes ({each} each: "
        f"{some(found.classes)}), read as {width}x{height}x{channels}; splits of its own: "
        f"{', '.join(sorted(found.ships - {'train'})) or 'none'}"
    )
    for note in found.notes:
        warn(f"{name}: {note}")


def overview() -> Iterator[str]:
    """Yield a line for each data set: whether the study has it, its images, classes and digest where they are known."""
    study = read_params(paths.PARAMS).study.datasets
    rows = [("name", "kind", "in the study", "images", "classes", "size", "digest")]
    for name in known_datasets():
        kind = "published" if name in DATASETS else "your own"
        row = (name, kind, "yes" if name in study else "no")
        if (paths.splits(name) / DESCRIPTION).is_file():
            known = read_description(paths.splits(name))
            size = "x".join(map(str, known.image_shape))
            rows.append((*row, f"{sum(known.sizes.values()):,}", str(len(known.classes)), size, known.digest[:12]))
        else:
            rows.append((*row, "–", "–", "–", "not cut yet"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def details(name: str) -> Iterator[str]:
    """Yield what is known of a data set that was cut: sizes, digests, images per class, what its owner must know."""
    known = _cut(name)
    height, width, channels = known.image_shape
    yield f"{name}: {width}x{height}, {channels} channels, from {known.source}; digest {known.digest}"
    for split in SPLIT_NAMES:
        yield f"  {split:<10} {known.sizes[split]:>9,} images  SHA-256 {known.digests[split]}"
    counts = [
        np.bincount(read_split(paths.splits(name), split).labels, minlength=len(known.classes)) for split in SPLIT_NAMES
    ]
    longest = max(len(repr(label)) for label in known.classes)
    yield f"  {'class':<{longest}} " + " ".join(f"{split:>10}" for split in SPLIT_NAMES)
    for number, label in enumerate(known.classes):
        yield f"  {label!r:<{longest}} " + " ".join(f"{count[number]:>10,}" for count in counts)
    if paths.review(name).is_file():
        yield from (f"  {sentence}" for sentence in read_review(paths.review(name)).warnings())


def _cut(name: str) -> DatasetDescription:
    """Return what is known of a data set that was cut. Raises UserError where it was not, saying what cuts it."""
    if not (paths.splits(name) / DESCRIPTION).is_file():
        refuse_what_is_not_studied(read_params(paths.PARAMS), name)
    return read_description(paths.splits(name))


def show(name: str, elsewhere: Path | None = None) -> Sequence[Path]:
    """Write a contact sheet per class: training images as they are, and as the recipe augments them.

    They go into a folder of their own, where sheets of classes that are no more are removed, or into `elsewhere`, where
    a person may keep other pictures.
    """
    out = elsewhere or SHEETS / name
    known = _cut(name)
    recipe = read_params(paths.PARAMS).recipe(name)
    train = read_split(paths.splits(name), "train")
    augment = augmenter(known.image_shape, recipe)
    written: list[Path] = []
    for number, label in enumerate(known.classes):
        images = train.images[np.flatnonzero(train.labels == number)[:SHOWN]]
        slug = re.sub(r"[^A-Za-z0-9]+", "-", label).strip("-")[:40]
        path = out / (f"{number:03d}-{slug}.png" if slug else f"{number:03d}.png")
        write_bytes(path, sheet(images, augment(images)))
        written.append(path)
    if elsewhere is None:
        for former in set(out.glob("[0-9][0-9][0-9]*.png")) - set(written):
            former.unlink()  # of classes that are no more
    return written
