"""Raw files onto this machine: from a mirror, the official address or an installed package, verified by SHA-256.

A file stands under its final name only when it is whole and its digest is right.
"""

from __future__ import annotations

import importlib.resources
import os
import shutil
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from resblock.core.errors import UserError
from resblock.core.files import digest_bytes, digest_file, write_bytes

MIRROR_VARIABLE = "RESBLOCK_MIRROR"
ATTEMPTS = 3
TIMEOUT = 30  # seconds without a byte


class DownloadError(UserError):
    """The raw files could not be had; the text says what was tried and what to do."""


@dataclass(frozen=True)
class Packaged:
    """Files that an installed package ships."""

    package: str
    digests: Mapping[str, str]  # file name to SHA-256

    def fetch(self, folder: Path, mirror: str | None, say: Callable[[str], None]) -> None:
        """Copy the files into `folder`. `mirror` plays no part."""
        for name, digest in self.digests.items():
            content = (importlib.resources.files(self.package) / name).read_bytes()
            _check(name, content, digest, origin=f"the package {self.package}")
            write_bytes(folder / name, content)

    def __str__(self) -> str:
        return f"package {self.package}"


@dataclass(frozen=True)
class Archive:
    """A tar archive on the web whose members are verified one by one, so that a re-packed mirror serves as well."""

    url: str
    folder: str  # the one folder that every member lies in
    digests: Mapping[str, str]  # member's file name to SHA-256

    def fetch(self, folder: Path, mirror: str | None, say: Callable[[str], None]) -> None:
        """Bring the members into `folder`: from `mirror` (a folder or a base URL) if given, else from the web.

        Raises DownloadError when no source serves.
        """
        failures: list[str] = []
        for source in self._sources(mirror):
            say(f"fetching {source}")
            try:
                with _LocalArchive(source, folder.parent.parent / "downloads") as archive:
                    self._unpack(archive, folder)
                return
            except (OSError, ValueError, tarfile.TarError, EOFError, zlib.error, DownloadError) as error:
                reason = _root_cause(error)
                say(f"{source} does not serve: {reason}")
                failures.append(f"  {source}: {reason}")
        raise DownloadError(
            "the raw files could not be had; tried\n" + "\n".join(failures) + "\nThree ways out:\n"
            f"  1. connect this machine to the network and run the same command again\n"
            f"  2. put {self.file_name} into a folder (or onto a server) and set {MIRROR_VARIABLE} to it\n"
            f"  3. work on the bundled data, which needs no network: dvc repro report@digits"
        )

    @property
    def file_name(self) -> str:
        """The archive's name, the same on every mirror."""
        return PurePosixPath(urlsplit(self.url).path).name

    def _sources(self, mirror: str | None) -> Iterator[str]:
        if mirror:
            yield f"{mirror.rstrip('/')}/{self.file_name}"
        yield self.url

    def _unpack(self, archive: Path, folder: Path) -> None:
        """Write the verified members of `archive` into `folder`; read in one pass, nothing else is extracted."""
        missing = dict(self.digests)
        with tarfile.open(archive, "r:*") as tar:
            for member in tar:
                path = PurePosixPath(member.name)
                if not path.parts:  # "./", the root of an archive made with tar -czf … .
                    continue
                if path.is_absolute() or ".." in path.parts or path.parts[:1] != (self.folder,):
                    raise DownloadError(f"member {member.name!r} lies outside {self.folder}/; archive refused")
                if path.parent != PurePosixPath(self.folder) or path.name not in missing or not member.isfile():
                    continue
                file = tar.extractfile(member)
                assert file is not None  # isfile() holds
                content = file.read()
                _check(path.name, content, missing.pop(path.name), origin=archive.name)
                write_bytes(folder / path.name, content)
        if missing:
            raise DownloadError(f"lacks {', '.join(missing)}")

    def __str__(self) -> str:
        return self.url


Source = Packaged | Archive


def fetch(source: Source, folder: Path, say: Callable[[str], None]) -> bool:
    """Make sure that `folder` holds the verified files of `source`; return whether anything had to be fetched.

    Files that are there and right are kept, so a second call needs no network.
    """
    if verified(source, folder):
        return False
    source.fetch(folder, os.environ.get(MIRROR_VARIABLE) or None, say)
    return True


def verified(source: Source, folder: Path) -> bool:
    """Return whether every file of `source` lies in `folder` with the right digest."""
    return all(
        (folder / name).is_file() and digest_file(folder / name) == digest for name, digest in source.digests.items()
    )


def _check(name: str, content: bytes, expected: str, *, origin: str) -> None:
    found = digest_bytes(content)
    if found != expected:
        raise DownloadError(f"{name} from {origin} has SHA-256 {found}, expected {expected}; refused")


def _root_cause(error: BaseException) -> str:
    """Return what an error says in the end: network libraries wrap "name not known" in four layers of their own."""
    while type(error).__module__.startswith(("requests", "urllib3")) and error.__context__ is not None:
        error = error.__context__
    return " ".join(str(error).split()) or type(error).__name__


class _LocalArchive:
    """The archive as a local file: a mirror's own, or a download that is removed when it has been unpacked."""

    def __init__(self, source: str, downloads: Path) -> None:
        self.source, self.downloads = source, downloads
        self.remote = urlsplit(source).scheme in ("http", "https", "ftp")

    def __enter__(self) -> Path:
        if not self.remote:
            path = Path(self.source.removeprefix("file://")).expanduser()
            if not path.is_file():
                raise FileNotFoundError("no such file")
            return path
        import pooch  # 0.3 s to import, and only downloads need it

        shutil.rmtree(self.downloads, ignore_errors=True)  # what a killed download left: start clean
        base, _, name = self.source.rpartition("/")
        downloader = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=TIMEOUT)
        pooch.get_logger().setLevel("ERROR")
        # Digests are those of the members: an honest mirror may re-pack the archive.
        registry = pooch.create(
            self.downloads, base_url=f"{base}/", registry={name: None}, retry_if_failed=ATTEMPTS - 1
        )
        return Path(registry.fetch(name, downloader=downloader))

    def __exit__(self, *_: object) -> None:
        if self.remote:
            shutil.rmtree(self.downloads, ignore_errors=True)
