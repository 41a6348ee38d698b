"""Raw files from every source there is: verified, whole or absent."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import lzma
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from resblock.core.seeds import generator
from resblock.data import cifar10, transfer
from resblock.data import download as module
from resblock.data.download import MIRROR_VARIABLE, Archive, DownloadError, Packaged, fetch, verified
from resblock.data.table import DATASETS

NAME = "set.tar.gz"
# Noise, so that a cut through the archive is a cut through the members.
MEMBERS = {name: generator(0, name).bytes(20_000) for name in ("first.bin", "second.bin")}
DIGESTS = {name: hashlib.sha256(content).hexdigest() for name, content in MEMBERS.items()}


def pack(members: Mapping[str, bytes], *, folder: str = "set", mode: str = "w:gz") -> bytes:
    """Return an archive of `members` in `folder`, an entry for the folder itself and a file nobody asked for."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # pyright: ignore[reportCallIssue, reportArgumentType]
        entry = tarfile.TarInfo(folder)
        entry.type = tarfile.DIRTYPE
        tar.addfile(entry)
        for name, content in {"readme.html": b"<p>", **members}.items():
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def pack_entry(entry: tarfile.TarInfo) -> bytes:
    """Return an archive whose first member is `entry`, the right members following."""
    content = b"planted" if entry.isfile() else b""
    entry.size = len(content)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.addfile(entry, io.BytesIO(content))
        for name, member in MEMBERS.items():
            right = tarfile.TarInfo(f"set/{name}")
            right.size = len(member)
            tar.addfile(right, io.BytesIO(member))
    return buffer.getvalue()


RIGHT = pack(MEMBERS)
DAMAGED_XZ = bytearray(lzma.compress(gzip.decompress(RIGHT)))
DAMAGED_XZ[len(DAMAGED_XZ) // 2] ^= 0x10
WRONG = pack({**MEMBERS, "second.bin": bytes([MEMBERS["second.bin"][0] ^ 1]) + MEMBERS["second.bin"][1:]})


@dataclass
class Server:
    """A web server on this machine: what it holds, what it was asked for, how many answers it breaks off."""

    address: str
    files: dict[str, bytes] = field(default_factory=dict[str, bytes])
    asked: list[str] = field(default_factory=list[str])
    breaks: int = 0
    version: str = '"first"'
    ranges: list[str] = field(default_factory=list[str])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(transfer, "PAUSE", 0)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked.append(self.path)
            content = served.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            start = 0
            if "Range" in self.headers and self.headers.get("If-Range") == served.version:
                served.ranges.append(self.headers["Range"])
                start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            content = content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", served.version)
            self.end_headers()
            if served.breaks:
                served.breaks -= 1
                content = content[: len(content) // 2]
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (http.server's name)
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        served = Server(f"http://127.0.0.1:{http.server_port}")
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield served
        http.shutdown()
        thread.join()


@dataclass
class Download:
    """One data set's archive at an official address, and the folder it goes to."""

    source: Archive
    folder: Path
    said: list[str] = field(default_factory=list[str])

    def fetch(self) -> bool:
        return fetch(self.source, self.folder, self.said.append)

    def refuse(self) -> str:
        """Fetch in vain; return the message."""
        with pytest.raises(DownloadError) as caught:
            self.fetch()
        return str(caught.value)

    @property
    def files(self) -> dict[str, bytes]:
        """All that lies in the folder or stayed behind on the way."""
        data = self.folder.parent.parent
        return {path.name: path.read_bytes() for path in data.rglob("*") if path.is_file()}


@pytest.fixture
def download(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Download:
    monkeypatch.delenv(MIRROR_VARIABLE, raising=False)
    return Download(Archive(f"{server.address}/official/{NAME}", "set", DIGESTS), tmp_path / "data" / "raw" / "set")


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes | None], Path]:
    """Make a mirror folder that holds the given archive, or none."""

    def make(content: bytes | None) -> Path:
        folder = tmp_path / "mirror"
        folder.mkdir()
        if content is not None:
            (folder / NAME).write_bytes(content)
        monkeypatch.setenv(MIRROR_VARIABLE, str(folder))
        return folder

    return make


def test_the_official_address_serves(download: Download, server: Server) -> None:
    server.files[f"/official/{NAME}"] = RIGHT
    assert download.fetch()
    assert download.files == MEMBERS
    assert server.asked == [f"/official/{NAME}"]


@pytest.mark.parametrize("mode", ["w:gz", "w", "w:bz2", "w:xz"])
def test_a_mirror_folder_serves_without_the_web(
    mode: str, download: Download, server: Server, mirror: Callable[[bytes | None], Path]
) -> None:
    folder = mirror(pack(MEMBERS, mode=mode))
    assert download.fetch()
    assert download.files == MEMBERS
    assert server.asked == []
    assert (folder / NAME).exists()


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_mirror_server_is_asked_first(
    slash: str, download: Download, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MIRROR_VARIABLE, f"{server.address}/mirror/of/ours{slash}")
    server.files[f"/mirror/of/ours/{NAME}"] = RIGHT
    assert download.fetch()
    assert download.files == MEMBERS
    assert server.asked == [f"/mirror/of/ours/{NAME}"]


@pytest.mark.parametrize(
    "content",
    [None, WRONG, RIGHT[:5000], bytes(DAMAGED_XZ)],
    ids=["lacks it", "one flipped byte", "truncated", "damaged xz"],
)
def test_a_mirror_that_does_not_serve_is_passed_over(
    content: bytes | None, download: Download, server: Server, mirror: Callable[[bytes | None], Path]
) -> None:
    folder = mirror(content)
    server.files[f"/official/{NAME}"] = RIGHT
    assert download.fetch()
    assert download.files == MEMBERS
    assert any(f"{folder}/{NAME} does not serve" in line for line in download.said)


def test_files_that_are_there_and_right_need_no_source(download: Download, server: Server) -> None:
    server.files[f"/official/{NAME}"] = RIGHT
    download.fetch()
    server.files.clear()
    server.asked.clear()
    assert not download.fetch()
    assert server.asked == []


@pytest.mark.parametrize("damage", ["removed", "changed"])
def test_a_file_that_is_not_right_is_fetched_again(damage: str, download: Download, server: Server) -> None:
    server.files[f"/official/{NAME}"] = RIGHT
    download.fetch()
    file = download.folder / "first.bin"
    file.unlink() if damage == "removed" else file.write_bytes(b"changed")
    assert not verified(download.source, download.folder)
    assert download.fetch()
    assert download.files == MEMBERS


def test_one_flipped_byte_is_refused(download: Download, server: Server) -> None:
    server.files[f"/official/{NAME}"] = WRONG
    message = download.refuse()
    assert f"second.bin from {NAME} has SHA-256" in message
    assert f"expected {DIGESTS['second.bin']}; refused" in message
    assert download.files == {}


@pytest.mark.parametrize(
    "name",
    ["/set/first.bin", "/tmp/planted", "../planted", "set/../../planted", "other/first.bin", "first.bin", "settle/x"],
)
def test_a_member_outside_its_folder_is_refused(
    name: str, download: Download, mirror: Callable[[bytes | None], Path], tmp_path: Path
) -> None:
    mirror(pack_entry(tarfile.TarInfo(name)))
    assert f"member {name!r} lies outside set/; archive refused" in download.refuse()
    assert download.files == {}
    assert not list(tmp_path.rglob("planted"))


def test_a_file_of_the_same_name_further_down_is_not_taken_for_one(
    download: Download, mirror: Callable[[bytes | None], Path]
) -> None:
    mirror(pack_entry(tarfile.TarInfo("set/older/first.bin")))
    assert download.fetch()
    assert download.files == MEMBERS


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_a_member_that_is_no_file_is_not_taken_for_one(
    kind: bytes, download: Download, mirror: Callable[[bytes | None], Path]
) -> None:
    entry = tarfile.TarInfo("set/first.bin")
    entry.type, entry.linkname = kind, "/etc/hostname"
    mirror(pack_entry(entry))
    assert download.fetch()
    assert download.files == MEMBERS
    assert not (download.folder / "first.bin").is_symlink()


@pytest.mark.parametrize(
    ("limit", "value"), [("MEMBERS_AT_MOST", 3), ("MEMBER_AT_MOST", 19_999), ("ALL_AT_MOST", 40_000)]
)
def test_an_archive_that_would_fill_memory_or_disk_is_refused(
    limit: str,
    value: int,
    download: Download,
    mirror: Callable[[bytes | None], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mirror(RIGHT)  # four members, of 0, 3, 20,000 and 20,000 bytes
    monkeypatch.setattr(module, limit, value)
    assert f"more than {value:,} " in download.refuse()
    assert "archive refused" in download.refuse()


def test_a_member_that_claims_more_than_fits_is_refused_before_it_is_read(
    download: Download, mirror: Callable[[bytes | None], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = tarfile.TarInfo("set/first.bin")
    entry.size = 2**40  # and nothing follows
    mirror(gzip.compress(entry.tobuf()))

    def read(*_: object) -> None:
        pytest.fail("read")

    monkeypatch.setattr(tarfile.TarFile, "extractfile", read)
    assert "archive refused" in download.refuse()


def test_an_archive_made_from_a_dotted_folder_serves(
    download: Download, mirror: Callable[[bytes | None], Path]
) -> None:
    mirror(pack(MEMBERS, folder="./set"))  # tar -czf set.tar.gz ./set
    assert download.fetch()
    assert download.files == MEMBERS


def test_an_archive_made_inside_the_parent_folder_serves(
    download: Download, mirror: Callable[[bytes | None], Path]
) -> None:
    entry = tarfile.TarInfo("./")  # tar -czf set.tar.gz .
    entry.type = tarfile.DIRTYPE
    mirror(pack_entry(entry))
    assert download.fetch()
    assert download.files == MEMBERS


def test_a_missing_member_is_named(download: Download, server: Server) -> None:
    server.files[f"/official/{NAME}"] = pack({"first.bin": MEMBERS["first.bin"]})
    assert "lacks second.bin" in download.refuse()


@pytest.mark.parametrize(
    "content",
    [b"", RIGHT[:15], RIGHT[: len(RIGHT) // 2], RIGHT[: len(RIGHT) * 9 // 10], b"<html>sign in first</html>"],
    ids=["empty", "a header", "half", "nine tenths", "a web page"],
)
def test_what_is_no_whole_archive_leaves_no_half_file(content: bytes, download: Download, server: Server) -> None:
    server.files[f"/official/{NAME}"] = content
    message = download.refuse()
    assert f"{server.address}/official/{NAME}: " in message
    assert download.files == {}


@pytest.mark.parametrize("breaks", [1, 2])
def test_a_connection_that_breaks_is_tried_again(breaks: int, download: Download, server: Server) -> None:
    server.files[f"/official/{NAME}"] = RIGHT
    server.breaks = breaks
    assert download.fetch()
    assert download.files == MEMBERS
    assert len(server.asked) == breaks + 1


def test_a_connection_that_always_breaks_is_given_up(download: Download, server: Server) -> None:
    server.files[f"/official/{NAME}"] = RIGHT
    server.breaks = 1000
    download.refuse()
    assert len(server.asked) == 3
    assert set(download.files) == {f"{NAME}.part", f"{NAME}.part.json"}  # for the next call to go on from


def test_a_cut_download_goes_on_where_it_was_cut(download: Download, server: Server) -> None:
    server.files[f"/official/{NAME}"] = RIGHT
    server.breaks = 3
    download.refuse()
    come = len(download.files[f"{NAME}.part"])
    assert 0 < come < len(RIGHT)
    server.ranges.clear()
    assert download.fetch()
    assert server.ranges == [f"bytes={come}-"]
    assert download.files == MEMBERS


def test_a_file_that_is_another_one_by_now_is_fetched_from_its_start(download: Download, server: Server) -> None:
    server.files[f"/official/{NAME}"] = pack({**MEMBERS, "second.bin": b"older"})
    server.breaks = 3
    download.refuse()
    server.files[f"/official/{NAME}"], server.version = RIGHT, '"second"'
    server.ranges.clear()
    assert download.fetch()
    assert server.ranges == []
    assert download.files == MEMBERS


def test_two_downloads_at_once_both_end_well(download: Download, server: Server) -> None:
    server.files[f"/official/{NAME}"] = RIGHT
    ended: list[bool] = []
    threads = [threading.Thread(target=lambda: ended.append(download.fetch())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ended) == 4
    assert len(server.asked) == 1
    assert download.files == MEMBERS


def test_a_full_disk_is_called_one(download: Download, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files[f"/official/{NAME}"] = RIGHT

    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("resblock.data.download.write_bytes", full)
    with pytest.raises(OSError, match="No space left") as caught:
        download.fetch()
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename
    monkeypatch.undo()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert download.fetch()


@pytest.mark.parametrize("form", ["the archive", "a folder", "extracted", "extracted in its folder"])
def test_a_mirror_may_name_the_archive_its_folder_or_its_members(
    form: str, download: Download, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = tmp_path / "mine"
    members = mirror / "set" if form == "extracted in its folder" else mirror
    members.mkdir(parents=True)
    if form.startswith("extracted"):
        for name, content in MEMBERS.items():
            (members / name).write_bytes(content)
    else:
        (mirror / NAME).write_bytes(RIGHT)
    monkeypatch.setenv(MIRROR_VARIABLE, str(mirror / NAME if form == "the archive" else mirror))
    assert download.fetch()
    assert download.files == MEMBERS
    assert server.asked == []


def test_extracted_files_that_are_wrong_are_refused(
    download: Download, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in MEMBERS:
        (tmp_path / name).write_bytes(b"other")
    monkeypatch.setenv(MIRROR_VARIABLE, str(tmp_path))
    assert "first.bin from" in download.refuse()
    assert download.files == {}


def test_an_archive_without_published_digests_is_known_by_its_md5_or_its_structure(
    download: Download, server: Server
) -> None:
    faults: list[str] = []
    md5 = hashlib.md5(RIGHT, usedforsecurity=False).hexdigest()
    unknown = dict.fromkeys(MEMBERS)
    download.source = Archive(download.source.url, "set", unknown, md5=md5, faults=lambda _: faults)
    server.files[f"/official/{NAME}"] = RIGHT
    assert download.fetch()
    assert download.source.evidence(download.folder) == "md5 of the archive"
    assert not download.fetch()
    (download.folder / "first.bin").write_bytes(b"changed")
    server.files[f"/official/{NAME}"] = pack(MEMBERS, mode="w")
    assert download.fetch()
    assert download.source.evidence(download.folder) == "structure"
    (download.folder / "first.bin").unlink()
    faults.append("first.bin is too short")
    assert "is not what was published: first.bin is too short" in download.refuse()


def test_no_source_at_all_names_what_was_tried_and_three_ways_out(
    download: Download, server: Server, mirror: Callable[[bytes | None], Path]
) -> None:
    folder = mirror(None)
    lines = download.refuse().splitlines()
    assert lines[0] == "the raw files could not be had; tried"
    assert lines[1] == f"  {folder}/{NAME}: no such file"
    assert lines[2].startswith(f"  {server.address}/official/{NAME}: 404")
    assert lines[3] == "Three ways out:"
    assert [line[:5] for line in lines[4:]] == ["  1. ", "  2. ", "  3. "]
    assert MIRROR_VARIABLE in lines[5]
    assert "report@digits" in lines[6]
    assert download.files == {}


def test_an_unreachable_address_is_a_message(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MIRROR_VARIABLE, raising=False)
    nowhere = Archive("http://127.0.0.1:9/set.tar.gz", "set", DIGESTS)  # the discard port: nobody listens
    with pytest.raises(DownloadError, match=r"http://127\.0\.0\.1:9/set\.tar\.gz: .*refused"):
        fetch(nowhere, tmp_path / "data" / "raw" / "set", lambda _: None)


def test_a_packaged_file_with_another_digest_is_refused(tmp_path: Path) -> None:
    source = Packaged("sklearn.datasets.data", {"digits.csv.gz": "0" * 64})
    with pytest.raises(DownloadError, match=r"digits.csv.gz from the package sklearn.datasets.data has SHA-256 09f66e"):
        fetch(source, tmp_path / "digits", lambda _: None)
    assert list(tmp_path.rglob("*.gz")) == []


@pytest.fixture(scope="module")
def cifar10_folder(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The real CIFAR-10 through the mirror variable, from an archive that is not the official one."""
    mirror = root.parent / "shared" / "data"
    if not (mirror / "cifar-10-binary.tar.gz").is_file():
        pytest.skip("needs a mirror of CIFAR-10 beside the project")
    folder = tmp_path_factory.mktemp("data") / "raw" / "cifar10"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MIRROR_VARIABLE, str(mirror))
        fetch(DATASETS["cifar10"].source, folder, lambda _: None)
    yield folder
    shutil.rmtree(folder)  # 180 MB


def test_a_repacked_cifar10_is_the_official_one(cifar10_folder: Path) -> None:
    train, test = cifar10.read(cifar10_folder)
    assert train.images.shape == (50_000, 32, 32, 3)
    assert test.images.shape == (10_000, 32, 32, 3)
    assert np.bincount(train.labels).tolist() == [5_000] * 10
    assert np.bincount(test.labels).tolist() == [1_000] * 10
    assert DATASETS["cifar10"].classes[train.labels[0]] == "frog"  # Krizhevsky's first training image
    assert DATASETS["cifar10"].classes[test.labels[0]] == "cat"
    # The channels' means and deviations that many programs carry along, for instance (0.4914, 0.4822, 0.4465).
    assert np.allclose(train.images.mean(axis=(0, 1, 2)) / 255, (0.4914, 0.4822, 0.4465), atol=5e-5)
