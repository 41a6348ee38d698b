"""Files that are whole or absent, and their digests."""

from __future__ import annotations

import math
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resblock.files import (
    atomic,
    digest_bytes,
    digest_file,
    digest_sources,
    digest_tree,
    read_arrays,
    read_json,
    write_arrays,
    write_bytes,
    write_json,
    write_text,
)

# FIPS 180-2, appendix B.1
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("former", [None, b"former"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), SystemExit(143)])
def test_a_failed_write_leaves_what_was_there(tmp_path: Path, former: bytes | None, error: BaseException) -> None:
    path = tmp_path / "result"
    if former is not None:
        path.write_bytes(former)
    with pytest.raises(type(error)), atomic(path) as file:
        file.write(b"half of it")
        raise error
    assert [entry.name for entry in tmp_path.iterdir()] == ([] if former is None else ["result"])
    assert former is None or path.read_bytes() == former


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "result"
    with atomic(path) as file:
        file.write(b"half")
        file.flush()
        assert not path.exists()
        file.write(b" and half")
    assert path.read_bytes() == b"half and half"
    assert [entry.name for entry in path.parent.iterdir()] == ["result"]


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
