"""Many picture files at once, in the order given and the same bytes, whatever the number of processes."""

from __future__ import annotations

import hashlib
import signal
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from resblock.core.backends.machine import available_cores
from resblock.data.collection import ReadError, Seen, Unreadable, Wishes
from resblock.data.pictures import PictureError, look_at, read_seen

AT_ONCE = 64  # pictures that a process takes
HEAVY = 2**24  # bytes of their files beyond which it takes no more at once, where these are in memory
AHEAD = 4  # such portions for each process that wait to be written: bounds memory
FEW = 1_000  # pictures that are decoded sooner than processes start
LOOKED_AT = 100  # pictures whose headers tell what a data set is like
USUAL, LARGEST_KEPT = 64, 96  # pixels of a side: where pictures differ, and up to which equal ones stay as they are

Shape = tuple[int, int, int]


class Encoded(NamedTuple):
    """A picture file: where it lies and what it held when it was listed, or its content."""

    file: Path | bytes
    digest: str = ""


def shape_for(pictures: Iterable[Encoded], wishes: Wishes) -> Shape:
    """Return height, width and channel as wished for; what is left open follows from the `pictures`, one at a time."""
    size, channels = wishes.size, wishes.channels
    if size is None or channels is None:
        seen = list(looked_at(pictures))
        sizes = {(width, height) for width, height, _ in seen}
        short = min(sizes.pop()) if len(sizes) == 1 else USUAL
        size = size or (short if short <= LARGEST_KEPT else USUAL)
        channels = channels or (3 if any(colour for _, _, colour in seen) or not seen else 1)
    return (size, size, channels)


def spread(pictures: Sequence[Encoded]) -> Sequence[Encoded]:
    """Return about LOOKED_AT of the pictures, spread evenly."""
    return pictures[:: max(1, len(pictures) // LOOKED_AT)]


def looked_at(pictures: Iterable[Encoded]) -> Iterator[tuple[int, int, bool]]:
    """Yield width, height and whether there is colour of each picture that can be read."""
    for picture in pictures:
        try:
            yield look_at(picture.file)
        except PictureError:
            continue


def decoded(
    pictures: Iterable[Encoded], count: int, shape: Shape, processes: int | None = None
) -> Iterator[Seen | Unreadable]:
    """Yield each of `count` pictures as uint8 of `shape`, or why it cannot be read.

    Raises ReadError where a file is no longer what was listed.
    """
    portions = _portions(pictures)
    processes = processes or (1 if count < FEW else available_cores())
    if processes == 1:
        for portion in portions:
            yield from _checked(decode(portion, shape))
        return
    pool = ProcessPoolExecutor(processes, get_context("spawn"), initializer=_ignore_interrupts)
    try:
        at_work = deque(pool.submit(decode, portion, shape) for portion in islice(portions, AHEAD * processes))
        while at_work:
            ready = at_work.popleft().result()
            at_work.extend(pool.submit(decode, portion, shape) for portion in islice(portions, 1))
            yield from _checked(ready)
    finally:
        pool.shutdown(cancel_futures=True)


def _portions(pictures: Iterable[Encoded]) -> Iterator[list[Encoded]]:
    portion: list[Encoded] = []
    for picture in pictures:
        portion.append(picture)
        if len(portion) == AT_ONCE or sum(len(each.file) for each in portion if isinstance(each.file, bytes)) > HEAVY:
            yield portion
            portion = []
    if portion:
        yield portion


def decode(pictures: Sequence[Encoded], shape: Shape) -> list[Seen | Unreadable | str]:
    """Return each of `pictures` decoded, why it is unreadable, or the name of a file that is not what was listed."""
    return [_decode(picture, shape) for picture in pictures]


def _decode(picture: Encoded, shape: Shape) -> Seen | Unreadable | str:
    content = picture.file
    if isinstance(content, Path):
        try:
            content = content.read_bytes()
        except OSError as error:
            return Unreadable(error.strerror or str(error))
        if picture.digest and hashlib.sha256(content).hexdigest() != picture.digest:
            return str(picture.file)
    if not content:
        return Unreadable("is empty")
    try:
        return Seen(*read_seen(content, shape))
    except PictureError as error:
        return Unreadable(str(error))
    except MemoryError:
        return Unreadable("needs more memory than there is; make it smaller first")


def _checked(portion: Sequence[Seen | Unreadable | str]) -> Iterator[Seen | Unreadable]:
    for picture in portion:
        if isinstance(picture, str):
            raise ReadError(f"{picture}: has changed since it was listed; run the same command again")
        yield picture


def _ignore_interrupts() -> None:
    """Leave Ctrl-C to the process that waits for this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
