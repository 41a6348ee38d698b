"""Parquet files as the Hub's image data sets are stored."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resblock.data import decoding, parquet
from resblock.data.collection import ReadError, Seen, Unreadable
from tests.own import collect, cut, encoded, images_of, pixels, put


def write(path: Path, numbers: Sequence[int], names: Sequence[str] = (), **columns: Any) -> Path:
    """Write pictures with the labels 0, 1, 0, 1, …, as the Hub does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = [{"bytes": encoded(pixels(number)), "path": f"{number}.png"} for number in numbers]
    table = pa.table({"image": pictures, "label": pa.array([n % 2 for n in numbers], pa.int64()), **columns})
    if names:
        features = {"info": {"features": {"label": {"names": list(names), "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    pq.write_table(table, path, row_group_size=7)
    return path


def test_files_are_read_in_order_with_names_and_splits(tmp_path: Path) -> None:
    folder = tmp_path / "hub"
    write(folder / "data/train-00001-of-00002.parquet", range(20, 30), ("cat", "dog"))
    write(folder / "data/train-00000-of-00002.parquet", range(20), ("cat", "dog"))
    write(folder / "data/test-00000-of-00001.parquet", range(100, 110), ("cat", "dog"))
    collection = collect(folder, format="parquet")
    assert collection.classes == ("cat", "dog")
    assert collection.ships == {"train", "test"}
    assert collection.image_shape == (8, 8, 3)
    expected = [pixels(number) for number in (*range(30), *range(100, 110))]
    assert np.array_equal(np.stack(list(images_of(collection))), np.stack(expected))
    assert collection.labels.tolist() == [0, 1] * 20
    assert collection.names[31] == "data/test-00000-of-00001.parquet, row 1"


def test_names_with_points_tell_their_split_too(tmp_path: Path) -> None:
    write(tmp_path / "hub/train.00000.parquet", range(20))
    write(tmp_path / "hub/test.00000.parquet", range(100, 110))
    assert collect(tmp_path / "hub", format="parquet").ships == {"train", "test"}


def test_paths_alone_are_no_pictures(tmp_path: Path) -> None:
    pictures = [{"bytes": None, "path": f"{number}.png"} for number in range(20)]
    pq.write_table(
        pa.table(
            {"image": pa.array(pictures, pa.struct({"bytes": pa.binary(), "path": pa.string()})), "label": [0, 1] * 10}
        ),
        tmp_path / "all.parquet",
    )
    with pytest.raises(ReadError, match=r"column image holds no content of pictures, perhaps their paths alone"):
        collect(tmp_path / "all.parquet", format="parquet")


def test_plain_bytes_and_words_are_read_from_columns_that_are_named(tmp_path: Path) -> None:
    content = [encoded(pixels(number)) for number in range(20)]
    table = pa.table({"scan": content, "thumb": content, "kind": ["x", "y"] * 10, "place": ["z"] * 20})
    pq.write_table(table, tmp_path / "all.parquet")
    with pytest.raises(ReadError, match=r"data\.all\.parquet\.image: got nothing, must be one of .* scan, thumb"):
        collect(tmp_path / "all.parquet", format="parquet")
    with pytest.raises(ReadError, match=r"label: got 'sort', must be one of .* kind, place"):
        collect(tmp_path / "all.parquet", format="parquet", image="scan", label="sort")
    described, _, _ = cut(tmp_path / "all.parquet", format="parquet", image="scan", label="kind", size=8)
    assert described.classes == ("x", "y")
    assert described.sizes == {"train": 14, "validation": 2, "test": 4}


def test_a_row_without_a_picture_is_unreadable(tmp_path: Path) -> None:
    content = [encoded(pixels(number)) for number in range(20)]
    content[3] = b"bad"
    table = pa.table({"image": [None, *content[1:]], "label": [0, 1] * 10})
    pq.write_table(table, tmp_path / "all.parquet")
    with pytest.raises(ReadError, match=r"2 pictures cannot be read\n  'all.parquet, row 0' is empty"):
        cut(tmp_path / "all.parquet", format="parquet")
    assert len(cut(tmp_path / "all.parquet", format="parquet", on_error="skip")[1].skipped) == 2


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet at all"])
def test_what_is_no_parquet_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ReadError, match=r"all\.parquet: cannot be read"):
        collect(put(tmp_path / "all.parquet", content), format="parquet")


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    whole = write(tmp_path / "all.parquet", range(20)).read_bytes()
    with pytest.raises(ReadError, match=r"all\.parquet: cannot be read"):
        collect(put(tmp_path / "all.parquet", whole[:-20]), format="parquet")


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1), content=st.binary(min_size=1, max_size=40))
def test_whatever_stands_in_a_file_is_read_or_refused_in_words(tmp_path: Path, place: float, content: bytes) -> None:
    whole = write(tmp_path / "all.parquet", range(20)).read_bytes()
    at = int(place * (len(whole) - 1))
    changed = put(tmp_path / "all.parquet", whole[:at] + content + whole[at + len(content) :])
    try:
        assert all(isinstance(each, Seen | Unreadable) for each in collect(changed, format="parquet").pictures())
    except ReadError as error:
        assert str(error)


def test_a_column_that_unpacks_to_what_no_pictures_do_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "SAFE", 100_000)
    table = pa.table({"image": [b"\0" * 1_000_000] * 2, "label": [0, 1]})
    pq.write_table(table, tmp_path / "all.parquet", compression="zstd", use_dictionary=False)
    with pytest.raises(ReadError, match=r"column image unpacks from [\d,]+ bytes to [\d,]+; no pictures do that"):
        collect(tmp_path / "all.parquet", format="parquet")


def test_a_dictionary_that_many_rows_unpack_from_is_read_a_few_rows_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its size in the file is that of one row: 2 kB unpacked to gigabytes, a batch of 256 rows at a time."""
    table = pa.table({"image": [b"\0" * 10_000_000] * 40, "label": [0, 1] * 20})
    pq.write_table(table, tmp_path / "all.parquet", compression="zstd")
    held: list[int] = []
    batches = pq.ParquetFile.iter_batches
    monkeypatch.setattr(
        pq.ParquetFile,
        "iter_batches",
        lambda self, **options: (held.append(batch.nbytes) or batch for batch in batches(self, **options)),
    )
    pictures = collect(tmp_path / "all.parquet", format="parquet", on_error="skip").pictures()
    assert len([each for each in pictures if isinstance(each, Unreadable)]) == 40
    assert max(held) <= 100_000_000


def test_portions_are_bounded_by_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "HEAVY", 1_000)
    portions = decoding._portions(decoding.Encoded(b"0" * 400) for _ in range(7))  # pyright: ignore[reportPrivateUsage]
    assert [len(portion) for portion in portions] == [3, 3, 1]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (pa.array(["x", "y"] * 10, pa.large_string()), ("x", "y")),
        (pa.array(["x", "y"] * 10).dictionary_encode(), ("x", "y")),
        (pa.array([False, True] * 10), ("False", "True")),
    ],
    ids=["large strings", "dictionary", "booleans"],
)
def test_labels_of_any_usual_type_are_read(tmp_path: Path, labels: Any, classes: tuple[str, ...]) -> None:
    content = [encoded(pixels(number)) for number in range(20)]
    pq.write_table(pa.table({"image": content, "label": labels}), tmp_path / "all.parquet")
    collection = collect(tmp_path / "all.parquet", format="parquet")
    assert collection.classes == classes
    assert collection.labels.tolist() == [0, 1] * 10


def test_rows_without_a_label_are_refused(tmp_path: Path) -> None:
    table = pa.table({"image": [encoded(pixels(0))] * 3, "label": pa.array([0, None, 1], pa.int64())})
    pq.write_table(table, tmp_path / "all.parquet")
    with pytest.raises(ReadError, match="1 row has no label; take them out"):
        collect(tmp_path / "all.parquet", format="parquet")


def test_text_where_pictures_are_wanted_names_no_file_to_be_read(tmp_path: Path) -> None:
    write(tmp_path / "hub/a.parquet", range(10))
    secret = put(tmp_path / "secret.png", encoded(pixels(99)))
    table = pa.table({"image": [str(secret)] * 10, "label": [0, 1] * 5})
    pq.write_table(table, tmp_path / "hub/b.parquet")
    with pytest.raises(ReadError, match=r"image: got 'image', must be one of .*b\.parquet's columns"):
        collect(tmp_path / "hub", format="parquet")
    nested = pa.table({"image": [{"bytes": str(secret), "path": "x"}] * 10, "label": [0, 1] * 5})
    pq.write_table(nested, tmp_path / "hub/b.parquet")
    with pytest.raises(ReadError, match="image: got 'image', must be one of"):
        collect(tmp_path / "hub", format="parquet")


def test_files_that_differ_in_their_columns_are_told_of(tmp_path: Path) -> None:
    write(tmp_path / "hub/a.parquet", range(10))
    pq.write_table(pa.table({"label": [0, 1]}), tmp_path / "hub/b.parquet")
    with pytest.raises(ReadError, match=r"it has none that could be: the content of picture files"):
        collect(tmp_path / "hub", format="parquet")
    pq.write_table(pa.table({"image": [encoded(pixels(50))], "label": ["cat"]}), tmp_path / "hub/b.parquet")
    with pytest.raises(ReadError, match="label holds numbers in one file and words in another"):
        collect(tmp_path / "hub", format="parquet")


def test_a_label_below_zero_is_no_class_of_the_hub(tmp_path: Path) -> None:
    path = write(tmp_path / "all.parquet", range(10), ("cat", "dog"))
    table = pq.read_table(path)
    pq.write_table(table.set_column(1, "label", pa.array([0, 1, -1, 0, 1, 0, 1, 0, 1, 0])), path)
    with pytest.raises(ReadError, match="rows with label -1 have no class; take them out"):
        collect(path, format="parquet")


def test_a_file_that_is_a_link_out_of_the_folder_is_not_dropped_in_silence(tmp_path: Path) -> None:
    write(tmp_path / "hub/train-0.parquet", range(10))
    (tmp_path / "hub/train-1.parquet").symlink_to(write(tmp_path / "blobs/x.parquet", range(10, 20)))
    with pytest.raises(ReadError, match=r"'train-1.parquet' is a link that leaves the folder; put the file itself"):
        collect(tmp_path / "hub", format="parquet")
