"""A collection to splits on disk: cut, written as its pictures come, and reviewed on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from resblock.core.splits import SPLIT_NAMES, DatasetDescription, SplitName
from resblock.data.collection import Collection, ReadError, Seen, Unreadable
from resblock.data.cutting import Indices, divide
from resblock.data.review import Review
from resblock.data.splits import SplitWriter
from resblock.data.words import told
from resblock.params import Preparation

NAMED = 20  # unreadable pictures in a message
DISHONEST = 0.5  # share of validation or test images that equal training images, from which accuracy measures memory
BETWEEN = 500  # images between two reports of progress

Progress = Callable[[int, int], None]  # images done, images in all


def write_collection(
    folder: Path,
    collection: Collection,
    preparation: Preparation,
    *,
    name: str,
    source: str,
    progress: Progress = lambda done, total: None,
) -> tuple[DatasetDescription, Review]:
    """Write the splits of a collection into `folder`; return what they are and what was found out.

    Pictures that cannot be read are skipped where the entry says so. Raises ReadError where it does not, or where no
    honest split exists, and ParamsError where the cut cannot be as asked.
    """
    kept = np.ones(len(collection.labels), np.bool_)
    skipped: dict[str, str] = {}
    while True:
        splits = _cut(collection, kept, preparation, name)
        labels: dict[SplitName, np.ndarray] = {split: collection.labels[indices] for split, indices in splits.items()}
        with SplitWriter(folder, labels, collection.image_shape) as writer:
            finding = _pass(collection, kept, splits, writer, progress)
            if finding.unreadable:
                skipped = {collection.names[index]: reason for index, reason in finding.unreadable.items()}
                if preparation.on_error == "refuse":
                    raise ReadError(_unreadable(skipped, name))
                kept[list(finding.unreadable)] = False
                continue  # the cut is another one without them
            review = finding.review(collection, labels, skipped)
            _refuse_dishonest(review, name)
            return writer.finish(name=name, classes=collection.classes, source=source), review


def _cut(collection: Collection, kept: np.ndarray, preparation: Preparation, name: str) -> Indices:
    """Return the indices of each split among all images. Raises ReadError where classes do not allow a study."""
    there = np.flatnonzero(kept)
    present = np.unique(collection.labels[there])
    if len(collection.classes) < 2:
        raise ReadError(f"data.{name}: there is one class only; a network that tells classes apart needs two at least")
    if len(present) < len(collection.classes):
        empty = [repr(each) for number, each in enumerate(collection.classes) if number not in present]
        raise ReadError(f"data.{name}: no picture of {', '.join(empty[:5])} can be read; remove the class or mend them")
    splits = divide(collection.labels[there], collection.parts[there], preparation, name, collection.classes)
    whole: Indices = {split: there[indices] for split, indices in splits.items()}
    cut_here = "test" not in collection.ships
    for split in ("train", "test") if cut_here else ("train",):
        counts = np.bincount(collection.labels[whole[split]], minlength=len(collection.classes))
        if lacking := [f"{collection.classes[number]!r}" for number in np.flatnonzero(counts == 0)]:
            raise ReadError(
                f"data.{name}: {len(lacking)} class{' is' if len(lacking) == 1 else 'es are'} too small to have a "
                f"{split} picture: "
                f"{', '.join(lacking[:5])}{' …' if len(lacking) > 5 else ''}; add pictures, merge classes, or ship a "
                "test set of your own"
            )
    return whole


@dataclass
class _Finding:
    """What a pass over the pictures brings to light."""

    unreadable: dict[int, str] = field(default_factory=dict[int, str])
    smallest: tuple[int, int] = (0, 0)
    largest: tuple[int, int] = (0, 0)
    enlarged: int = 0
    digests: dict[SplitName, list[bytes]] = field(default_factory=lambda: {split: [] for split in SPLIT_NAMES})

    def note(self, split: SplitName, seen: Seen) -> None:
        """Take in one picture."""
        pixels, size = seen
        if not self.largest[0]:
            self.smallest = self.largest = size
        self.smallest = min(self.smallest, size, key=lambda each: each[0] * each[1])
        self.largest = max(self.largest, size, key=lambda each: each[0] * each[1])
        self.enlarged += size[0] < pixels.shape[1] or size[1] < pixels.shape[0]
        self.digests[split].append(hashlib.blake2b(pixels.tobytes(), digest_size=16).digest())

    def review(
        self, collection: Collection, labels: Mapping[SplitName, np.ndarray], skipped: Mapping[str, str]
    ) -> Review:
        """Return what was found, with what follows from it."""
        first: dict[bytes, int] = {}
        training, validation = set(self.digests["train"]), set(self.digests["validation"])
        validation -= training
        contradictory = 0
        for split in SPLIT_NAMES:
            for digest, label in zip(self.digests[split], labels[split].tolist(), strict=True):
                contradictory += first.setdefault(digest, label) != label
        return Review(
            classes=collection.classes,
            counts={
                split: np.bincount(values, minlength=len(collection.classes)).tolist()
                for split, values in labels.items()
            },
            image_shape=collection.image_shape,
            smallest=self.smallest,
            largest=self.largest,
            enlarged=self.enlarged,
            skipped=skipped,
            repeated={
                split: sum(digest in training for digest in self.digests[split])
                for split in SPLIT_NAMES
                if split != "train"
            },
            repeated_within=sum(len(digests) - len(set(digests)) for digests in self.digests.values()),
            shared=sum(digest in validation for digest in self.digests["test"]),
            contradictory=contradictory,
            notes=collection.notes,
        )


def _pass(
    collection: Collection, kept: np.ndarray, splits: Indices, writer: SplitWriter, progress: Progress
) -> _Finding:
    """Write every picture that is kept; once one cannot be read, only look for others that cannot."""
    places: dict[int, SplitName] = {int(index): split for split, indices in splits.items() for index in indices}
    finding, total = _Finding(), len(collection.labels)
    for index, picture in enumerate(collection.pictures()):
        if index % BETWEEN == 0:
            progress(index, total)
        if not kept[index]:
            continue
        if isinstance(picture, Unreadable):
            finding.unreadable[index] = picture.reason
        elif not finding.unreadable:
            writer.add(places[index], picture.pixels)
            finding.note(places[index], picture)
    progress(total, total)
    return finding


def _unreadable(skipped: Mapping[str, str], name: str) -> str:
    lines = [f"  {picture!r} {reason}" for picture, reason in list(skipped.items())[:NAMED]]
    more = [f"  and {len(skipped) - NAMED:,} more"] if len(skipped) > NAMED else []
    start = f"data.{name}: {told(len(skipped), 'picture', 'cannot be read', 'cannot be read')}"
    them = "it" if len(skipped) == 1 else "them"
    return "\n".join((start, *lines, *more, f"mend or remove {them}, or set data.{name}.on_error: skip"))


def _refuse_dishonest(review: Review, name: str) -> None:
    for split, number in review.repeated.items():
        total = sum(review.counts[split])
        if number >= DISHONEST * total:
            raise ReadError(
                f"data.{name}: {number:,} of {total:,} {split} images equal training images to the pixel, so accuracy "
                "on them would measure memory; remove the copies"
            )
    if review.shared >= DISHONEST * (total := sum(review.counts["test"])):
        raise ReadError(
            f"data.{name}: {review.shared:,} of {total:,} test images equal validation images to the pixel, by which "
            "networks are chosen; remove the copies"
        )
