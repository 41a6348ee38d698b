"""Raw files onto this machine: from a mirror, the official address or an installed package, verified.

A file stands under its final name only when it is whole and right. Two processes that want the same archive take turns.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.resources
import lzma
import os
import shutil
import tarfile
import time
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Literal, Protocol
from urllib.parse import urlsplit

from resblock.core.errors import UserError
from resblock.core.files import digest_bytes, digest_file, exclusive, read_json, write_bytes, write_json
from resblock.data.collection import Files
from resblock.data.listing import Own
from resblock.data.transfer import Progress, forget, transfer
from resblock.data.words import told

MIRROR_VARIABLE = "RESBLOCK_MIRROR"
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
RECORD = "verified.json"  # how files were verified whose digests nobody publishes
PATIENCE = 0.5  # seconds between looks at a lock
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no other source would help
# What an archive may hold, so that a small file cannot fill memory or take hours: far above the largest data sets here.
MEMBERS_AT_MOST = 100_000
MEMBER_AT_MOST, ALL_AT_MOST = 2**30, 2**34  # bytes, unpacked

Say = Callable[[str], None]
Evidence = Literal["digests", "md5 of the archive", "structure"]


class DownloadError(UserError):
    """The raw files could not be had; the text says what was tried and what to do."""


# Raised by archives that are cut short, damaged or something else.
DAMAGED = (OSError, ValueError, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, DownloadError)


class Source(Protocol):
    """Where raw files come from."""

    @property
    def digests(self) -> Mapping[str, str | None]:
        """SHA-256 of each file that `fetch` leaves, by name; None where nobody publishes it."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """The files that `fetch` leaves."""
        ...

    def fetch(self, folder: Path, mirror: str | None, say: Say) -> None:
        """Bring the files into `folder`. Raises UserError where that cannot be."""
        ...

    def files(self, folder: Path) -> Files:
        """Return the files to be read, once `folder` holds what `fetch` brings."""
        ...


@dataclass(frozen=True)
class Packaged:
    """Files that an installed package ships."""

    package: str
    digests: Mapping[str, str]  # file name to SHA-256

    @property
    def names(self) -> Sequence[str]:
        """The files' names."""
        return tuple(self.digests)

    def fetch(self, folder: Path, mirror: str | None, say: Say) -> None:
        """Copy the files into `folder`. `mirror` plays no part."""
        for name, digest in self.digests.items():
            content = (importlib.resources.files(self.package) / name).read_bytes()
            _check(name, content, digest, origin=f"the package {self.package}")
            write_bytes(folder / name, content)

    def files(self, folder: Path) -> Files:
        """Return the files as they lie in `folder`."""
        return Files(folder, self.digests)

    def __str__(self) -> str:
        return f"package {self.package}"


@dataclass(frozen=True)
class Archive:
    """A tar archive on the web whose members are verified one by one, so that a re-packed mirror serves as well.

    Where nobody publishes the members' digests, the archive's MD5 or, of one that was re-packed, the members' structure
    stands in.
    """

    url: str
    folder: str  # the one folder that every member lies in
    digests: Mapping[str, str | None]  # member's file name to SHA-256; None where nobody publishes it
    md5: str | None = None  # of the archive as published
    faults: Callable[[Path], list[str]] | None = None  # what is wrong with the structure of the members in a folder

    @property
    def names(self) -> Sequence[str]:
        """The members' names."""
        return tuple(self.digests)

    def fetch(self, folder: Path, mirror: str | None, say: Say, progress: Progress = lambda done, total: None) -> None:
        """Bring the members into `folder`: from `mirror` if given, else from the web.

        A mirror is a folder or a base URL that holds the archive, the archive itself, or a folder with its members.
        Raises DownloadError when no source serves, and OSError where the disk is full.
        """
        downloads = folder.parent.parent / "downloads"
        with _alone(downloads / f"{self.file_name}.lock", say):
            if not verified(self, folder):  # else another process has fetched it meanwhile
                self._fetch(folder, downloads, mirror, say, progress)

    def _fetch(self, folder: Path, downloads: Path, mirror: str | None, say: Say, progress: Progress) -> None:
        failures: list[str] = []
        for source in self._sources(mirror):
            say(f"fetching {source}")
            try:
                self._take(source, folder, downloads, progress)
                return
            except DAMAGED as error:
                if isinstance(error, OSError) and error.errno in FULL:
                    raise
                reason = " ".join(str(error).split()) or type(error).__name__
                say(f"{source} does not serve: {reason}")
                failures.append(f"  {source}: {reason}")
        raise DownloadError(
            "the raw files could not be had; tried\n" + "\n".join(failures) + "\nThree ways out:\n"
            f"  1. connect this machine to the network and run the same command again; what came already is kept\n"
            f"  2. put {self.file_name} into a folder (or onto a server) and set {MIRROR_VARIABLE} to it\n"
            f"  3. work on the bundled data, which needs no network: dvc repro report@digits"
        )

    def files(self, folder: Path) -> Files:
        """Return the members as they lie in `folder`."""
        return Files(folder, {name: digest or "" for name, digest in self.digests.items()})

    @property
    def file_name(self) -> str:
        """The archive's name, the same on every mirror."""
        return PurePosixPath(urlsplit(self.url).path).name

    def evidence(self, folder: Path) -> Evidence:
        """Return by what the files in `folder` were verified."""
        return read_json(folder / RECORD)["by"] if None in self.digests.values() else "digests"

    def _sources(self, mirror: str | None) -> Iterator[str]:
        if mirror:
            path = Path(mirror.removeprefix("file://")).expanduser()
            whole = path.is_file() or mirror.lower().endswith(ARCHIVES)
            unpacked = next((place for place in (path, path / self.folder) if self._lies_in(place)), None)
            yield mirror if whole else str(unpacked) if unpacked else f"{mirror.rstrip('/')}/{self.file_name}"
        yield self.url

    def _lies_in(self, place: Path) -> bool:
        return all((place / name).is_file() for name in self.digests)

    def _take(self, source: str, folder: Path, downloads: Path, progress: Progress) -> None:
        """Bring the members from one source into `folder`, all of them verified."""
        scratch = downloads / f"{self.file_name}.members"
        shutil.rmtree(scratch, ignore_errors=True)  # of a killed process
        try:
            if urlsplit(source).scheme in ("http", "https", "ftp"):
                archive = downloads / f"{self.file_name}.part"
                transfer(source, archive, progress)
                try:
                    evidence = self._unpack(archive, scratch)
                except DAMAGED as error:
                    if not (isinstance(error, OSError) and error.errno in FULL):
                        forget(archive)  # it is whole and wrong: there is nothing to continue
                    raise
                self._put(scratch, folder, evidence)
                forget(archive)
                return
            path = Path(source.removeprefix("file://")).expanduser()
            if not path.exists():
                raise FileNotFoundError("no such file")
            self._put(scratch, folder, self._copy(path, scratch) if path.is_dir() else self._unpack(path, scratch))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _unpack(self, archive: Path, scratch: Path) -> Evidence:
        """Write the members of `archive` into `scratch`; read in one pass, nothing else is extracted."""
        missing, size = dict(self.digests), 0
        with tarfile.open(archive, "r:*") as tar:
            for count, member in enumerate(tar, 1):
                size += member.size
                if count > MEMBERS_AT_MOST or member.size > MEMBER_AT_MOST or size > ALL_AT_MOST:
                    raise DownloadError(
                        f"holds more than {MEMBERS_AT_MOST:,} members, more than {MEMBER_AT_MOST:,} bytes in one, or "
                        f"more than {ALL_AT_MOST:,} bytes in all; archive refused"
                    )
                path = PurePosixPath(member.name)
                if not path.parts:  # "./", the root of an archive made with tar -czf … .
                    continue
                if path.is_absolute() or ".." in path.parts or path.parts[:1] != (self.folder,):
                    raise DownloadError(f"member {member.name!r} lies outside {self.folder}/; archive refused")
                if path.parent != PurePosixPath(self.folder) or path.name not in missing or not member.isfile():
                    continue
                file = tar.extractfile(member)
                assert file is not None  # isfile() holds
                self._write(path.name, file, scratch, missing.pop(path.name), archive.name)
        if missing:
            raise DownloadError(f"lacks {', '.join(missing)}")
        if None not in self.digests.values():
            return "digests"
        return "md5 of the archive" if self.md5 and _md5(archive) == self.md5 else self._structured(scratch)

    def _copy(self, place: Path, scratch: Path) -> Evidence:
        """Copy members that somebody has extracted already."""
        for name, digest in self.digests.items():
            with (place / name).open("rb") as file:
                self._write(name, file, scratch, digest, str(place))
        return self._structured(scratch) if None in self.digests.values() else "digests"

    def _write(self, name: str, file: IO[bytes], scratch: Path, digest: str | None, origin: str) -> None:
        content = file.read()
        if digest is not None:
            _check(name, content, digest, origin=origin.removesuffix(".part"))
        write_bytes(scratch / name, content)

    def _structured(self, scratch: Path) -> Evidence:
        if faults := self.faults(scratch) if self.faults else ["nothing tells whether it is the right one"]:
            raise DownloadError(f"is not what was published: {'; '.join(faults)}")
        return "structure"

    def _put(self, scratch: Path, folder: Path, evidence: Evidence) -> None:
        """Put verified members under their names, and say how they were verified where no digest tells."""
        folder.mkdir(parents=True, exist_ok=True)
        if None in self.digests.values():
            found = {name: digest_file(scratch / name) for name in self.digests}
            write_json(folder / RECORD, {"by": evidence, "files": found})
        for name in self.digests:
            try:
                (scratch / name).replace(folder / name)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                write_bytes(folder / name, (scratch / name).read_bytes())  # the folder lies on another disk

    def __str__(self) -> str:
        return self.url


def fetch(source: Source, folder: Path, say: Say, progress: Progress = lambda done, total: None) -> bool:
    """Make sure that `folder` holds the verified files of `source`; return whether anything had to be fetched.

    Files that are there and right are kept, so a second call needs no network.
    """
    if verified(source, folder):
        return False
    mirror = os.environ.get(MIRROR_VARIABLE) or None
    if isinstance(source, Archive):
        source.fetch(folder, mirror, say, progress)
    else:
        source.fetch(folder, mirror, say)
    return True


def held(source: Source, folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of `source` as it lies in `folder`."""
    return {name: digest_file(folder / name) for name in source.names if (folder / name).is_file()}


def verified(source: Source, folder: Path) -> bool:
    """Return whether every file of `source` lies in `folder` with the right digest."""
    expected = expected_digests(source, folder)
    return all(
        (folder / name).is_file() and digest_file(folder / name) == expected.get(name) for name in source.digests
    )


def named(source: Source, folder: Path) -> str:
    """Return where the files in `folder` come from, and whether their structure alone says so."""
    return (
        f"{source}, re-packed (verified by its structure)" if evidence(source, folder) == "structure" else str(source)
    )


def outcome(source: Source, folder: Path, *, fetched: bool) -> str:
    """Say what `folder` holds now, and whether it was there before."""
    if isinstance(source, Own):
        origin = f"of {source}, by digest"
        return f"{'' if fetched else 'still '}lists {told(len(source.files(folder).digests), 'file', origin, origin)}"
    done = f"{'fetched and' if fetched else 'here already,'} verified ({evidence(source, folder)})"
    return told(len(source.names), "file", done, done)


def evidence(source: Source, folder: Path) -> str:
    """Return by what the files of `source` in `folder` were verified."""
    return source.evidence(folder) if isinstance(source, Archive) else "digests"


def expected_digests(source: Source, folder: Path) -> dict[str, str]:
    """Return the digest that each file in `folder` must have: as published, or as it was when it was verified."""
    recorded: Mapping[str, str] = {}
    if None in source.digests.values() and (folder / RECORD).is_file():
        try:
            recorded = read_json(folder / RECORD)["files"]
        except (ValueError, KeyError):
            recorded = {}
    known = {name: digest or recorded.get(name) for name, digest in source.digests.items()}
    return {name: digest for name, digest in known.items() if digest}


def _check(name: str, content: bytes, expected: str, *, origin: str) -> None:
    found = digest_bytes(content)
    if found != expected:
        raise DownloadError(f"{name} from {origin} has SHA-256 {found}, expected {expected}; refused")


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


@contextmanager
def _alone(lock: Path, say: Say) -> Generator[None]:
    """Hold a lock for the block, waiting for another process that holds it."""
    with ExitStack() as stack:
        waited = False
        while True:
            try:
                stack.enter_context(exclusive(lock))
                break
            except BlockingIOError:
                if not waited:
                    say("another process is fetching it; waiting")
                waited = True
                time.sleep(PATIENCE)
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP):  # a file system without locks
                    raise
                break
        yield
