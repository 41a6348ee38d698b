"""Files that are whole or absent, and their digests."""

from __future__ import annotations

import errno
import math
import os
import resource
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resblock.core.files import (
    digest_bytes,
    digest_file,
    digest_sources,
    digest_tree,
    exclusive,
    read_arrays,
    read_json,
    write_arrays,
    write_bytes,
    write_json,
    write_text,
    write_together,
)

# FIPS 180-2, appendix B.1
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def write(former: bytes | None, path: Path) -> None:
    if former is not None:
        path.write_bytes(former)


@pytest.mark.parametrize("former", [None, b"former"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), SystemExit(143)])
@pytest.mark.parametrize("at", ["os.fsync", "pathlib.Path.replace"])
def test_a_failed_write_leaves_what_was_there(
    tmp_path: Path, former: bytes | None, error: BaseException, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    path = tmp_path / "result"
    write(former, path)
    monkeypatch.setattr(at, fail)
    with pytest.raises(type(error)):
        write_bytes(path, b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ([] if former is None else ["result"])
    assert former is None or path.read_bytes() == former


def test_files_written_together_appear_when_all_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut may come at any moment: content first, then names in the order given, then the folder itself."""
    events: list[str] = []
    sync, replace = os.fsync, Path.replace

    def record_sync(handle: int) -> None:
        name = Path(f"/proc/self/fd/{handle}").readlink().name
        events.append(f"sync {'folder' if stat.S_ISDIR(os.fstat(handle).st_mode) else name.split('.')[1]}")
        sync(handle)

    def record_replace(partial: Path, path: Path) -> Path:
        events.append(f"name {path.name}")
        return replace(partial, path)

    folder = tmp_path / "new"
    folder.mkdir()
    monkeypatch.setattr("os.fsync", record_sync)
    monkeypatch.setattr("pathlib.Path.replace", record_replace)
    write_together({folder / "weights": b"w", folder / "manifest": b"m"})
    assert events == ["sync weights", "sync manifest", "name weights", "name manifest", "sync folder"]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"weights": b"w", "manifest": b"m"}


def test_a_folder_made_for_a_file_outlives_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    sync = os.fsync

    def record(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink())
        sync(handle)

    monkeypatch.setattr("os.fsync", record)
    write_bytes(tmp_path / "a/b/result", b"whole")
    assert [path for path in synced if path.is_dir()] == [tmp_path, tmp_path / "a", tmp_path / "a/b"]


HALF = """
import os, sys
from pathlib import Path
from resblock.core.files import write_bytes
sys.addaudithook(lambda event, _: os.kill(os.getpid(), 9) if event == "os.rename" else None)
write_bytes(Path(sys.argv[1]), b"whole")
"""


def test_what_a_killed_writer_left_goes_with_the_next_write(tmp_path: Path) -> None:
    path = tmp_path / "result[0].json"  # a name that is a pattern, too
    write_bytes(path, b"former")
    other = tmp_path / ".another.x.partial"
    other.write_bytes(b"of another file")
    assert subprocess.run([sys.executable, "-c", HALF, path], check=False).returncode == -9
    left = set(tmp_path.iterdir()) - {path, other}
    assert len(left) == 1
    assert path.read_bytes() == b"former"
    write_bytes(path, b"new")
    assert set(tmp_path.iterdir()) == {path, other}
    assert path.read_bytes() == b"new"


RACE = """
import sys
from pathlib import Path
from resblock.core.files import write_bytes
for number in range(200):
    write_bytes(Path(sys.argv[1]), sys.argv[2].encode() * (1 + number * 50))
"""


def test_writers_of_one_file_at_once_take_nothing_from_each_other(tmp_path: Path) -> None:
    path = tmp_path / "result"
    writers = [subprocess.Popen([sys.executable, "-c", RACE, path, letter]) for letter in "abc"]
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            assert len(set(path.read_bytes())) == 1
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert list(tmp_path.iterdir()) == [path]


def test_a_lock_is_held_by_one_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "one"
    with exclusive(path):
        assert path.read_text() == f"{os.getpid()}\n"
        with pytest.raises(BlockingIOError), exclusive(path):
            pass
        with exclusive(path.with_name("other")):
            pass
    assert not list(path.parent.iterdir())
    with exclusive(path):
        pass


HOLD = """
import sys, time
from pathlib import Path
from resblock.core.files import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_lock_is_free_when_its_holder_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError), exclusive(path):
            pass
        holder.kill()
    assert path.exists()
    with exclusive(path):
        assert path.read_text() == f"{os.getpid()}\n"
    assert not path.exists()


COUNT = """
import sys
from pathlib import Path
from resblock.core.files import exclusive
lock, total = Path(sys.argv[1]), Path(sys.argv[2])
done = 0
while done < 200:
    try:
        with exclusive(lock):
            before = int(total.read_text())
            total.write_text(str(before + 1))
            done += 1
    except BlockingIOError:
        pass
"""


def test_a_lock_that_comes_and_goes_is_never_held_twice(tmp_path: Path) -> None:
    total = tmp_path / "total"
    total.write_text("0")
    command = [sys.executable, "-c", COUNT, tmp_path / "lock", total]
    counters = [subprocess.Popen(command) for _ in range(3)]
    assert [counter.wait() for counter in counters] == [0, 0, 0]
    assert total.read_text() == "600"


def limited(limit: int, code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run Python with a limit on the size of files, in bytes."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
        check=False,
    )


TOGETHER = """
import sys
from pathlib import Path
import numpy as np
from resblock.core.files import arrays_bytes, write_together
folder = Path(sys.argv[1])
try:
    write_together({folder / "small": b"new", folder / "weights.npz": arrays_bytes({"w": np.zeros(5000)})})
except OSError as error:
    print(error.errno, error.filename)
"""


def test_a_file_too_large_is_named_and_nothing_is_replaced(tmp_path: Path) -> None:
    for name in ("small", "weights.npz"):
        (tmp_path / name).write_bytes(b"former")
    ended = limited(20_000, TOGETHER, tmp_path)
    assert (ended.stdout, ended.stderr) == (f"{errno.EFBIG} {tmp_path / 'weights.npz'}\n", "")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "small": b"former",
        "weights.npz": b"former",
    }


def test_written_files_are_readable_to_a_team(tmp_path: Path) -> None:
    write_text(tmp_path / "result", "naïve")
    assert stat.S_IMODE((tmp_path / "result").stat().st_mode) == 0o644
    assert (tmp_path / "result").read_bytes() == b"na\xc3\xafve"


def test_equal_arrays_give_equal_bytes(tmp_path: Path) -> None:
    arrays = {"a/kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array(7, np.int32)}
    for name in ("one", "two"):
        write_arrays(tmp_path / name, {key: array.copy() for key, array in arrays.items()})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    arrays["b"] = np.array(8, np.int32)
    write_arrays(tmp_path / "two", arrays)
    assert (tmp_path / "one").read_bytes() != (tmp_path / "two").read_bytes()


def test_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    arrays = {"x/kernel:0": np.array([[0.1, np.nan, -np.inf]], np.float32), "empty": np.zeros((0, 3), np.uint8)}
    write_arrays(tmp_path / "arrays", arrays)
    found = read_arrays(tmp_path / "arrays")
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert found[name].tobytes() == array.tobytes()
        assert found[name].shape == array.shape


def test_arrays_are_never_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "objects.npz", danger=np.array([{}], object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        read_arrays(tmp_path / "objects.npz")


numbers = st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
leaves = st.none() | st.booleans() | numbers | st.text()
trees = st.dictionaries(
    st.text(), st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)


@settings(max_examples=20)  # each writes a file through to the disk
@given(trees)
def test_json_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, tree: dict[str, Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "tree.json"
    write_json(path, tree)
    assert read_json(path) == tree


def test_json_has_null_where_json_has_no_number(tmp_path: Path) -> None:
    tree = {
        "nan": math.nan,
        "list": [np.float32("inf"), (1.5, -math.inf)],
        "whole": np.int64(3),
        "half": np.float32(0.5),
    }
    write_json(tmp_path / "tree.json", tree)
    assert read_json(tmp_path / "tree.json") == {"nan": None, "list": [None, [1.5, None]], "whole": 3, "half": 0.5}


def test_digests_are_sha256(tmp_path: Path) -> None:
    write_bytes(tmp_path / "abc", b"abc")
    assert digest_bytes(b"abc") == digest_file(tmp_path / "abc") == ABC


def test_tree_digests_ignore_the_order_of_keys_and_nothing_else() -> None:
    tree = {"a": 1, "b": {"c": [1, 2], "d": None}}
    assert digest_tree(tree) == digest_tree({"b": {"d": None, "c": [1, 2]}, "a": 1})
    assert digest_tree({"a": 1}) == digest_bytes(b'{"a":1}')
    for other in ({**tree, "a": 2}, {**tree, "b": {"c": [2, 1], "d": None}}, {**tree, "e": None}):
        assert digest_tree(other) != digest_tree(tree)


def test_source_digests_see_contents_and_names_but_not_places(tmp_path: Path) -> None:
    def digest(place: str, sources: dict[str, str]) -> str:
        for name, text in sources.items():
            write_text(tmp_path / place / "room" / name, text)
        return digest_sources(tmp_path / place / "room")

    sources = {"a.py": "x = 1\n", "inner/b.py": "y = 2\n"}
    found = digest("first", sources)
    assert digest("second", {**sources, "notes.md": "no source"}) == found
    assert digest("third", {**sources, "a.py": "x = 2\n"}) != found
    assert digest("fourth", {"c.py": "x = 1\n", "inner/b.py": "y = 2\n"}) != found
    single = tmp_path / "first" / "room" / "a.py"
    assert digest_sources(single) == digest_bytes(f"a.py\0{digest_file(single)}\n".encode())
