# SPDX-License-Identifier: Apache-2.0
"""Rows come one by one as they were written, whatever the row groups, and no more is read than is needed."""

import pickle

import fsspec
import numpy as np
import pytest
from datasets import Dataset
from pyarrow import parquet

from unisegment.data.reading import parquet_rows
from unisegment.data.reading.parquet_rows import ParquetRows

SIZES = (5, 1, 7)
"""Rows of each file; they are written in row groups of three."""


@pytest.fixture(params=["here", "memory"])
def files(request, tmp_path):
    place = str(tmp_path) if request.param == "here" else f"memory://{tmp_path.name}"
    names = [f"{place}/{number}.parquet" for number in range(len(SIZES))]
    numbers = iter(range(sum(SIZES)))
    for name, size in zip(names, SIZES, strict=True):
        mine = [next(numbers) for _ in range(size)]
        rows = Dataset.from_dict({"number": mine, "square": [number**2 for number in mine]})
        with fsspec.open(name, "wb") as file:
            rows.to_parquet(file, batch_size=3)
    return names


def numbers(rows, column="number"):
    return [rows[index][column].to_pylist() for index in range(len(rows))]


def test_rows_come_in_the_order_of_the_files(files):
    rows = ParquetRows(files)
    assert numbers(rows) == [[number] for number in range(13)]
    assert rows.block_bounds.tolist() == [0, 3, 5, 6, 9, 12, 13]
    assert list(rows.features) == ["number", "square"]


def test_only_the_chosen_columns_are_read(files):
    rows = ParquetRows(files).select_columns(["square"])
    assert numbers(rows, "square") == [[number**2] for number in range(13)]
    assert rows[0].column_names == list(rows.features) == ["square"]


def test_the_row_groups_used_last_are_kept(files, monkeypatch):
    monkeypatch.setattr(parquet_rows, "BLOCKS_AT_ONCE", 1)
    read = []
    rows = ParquetRows(files)
    monkeypatch.setattr(rows, "_read", lambda *place, read_it=rows._read: read.append(place) or read_it(*place))
    for index in (0, 3, 1, 4, 2):  # two row groups in turn
        assert rows[index]["number"].to_pylist() == [index]
    assert read == [(0, 0), (0, 1)]
    for index in (6, 0, 3):  # the third takes the place of the second, and the second of the third
        rows[index]
    assert read == [(0, 0), (0, 1), (2, 0), (0, 1)]


def test_copies_for_worker_processes_take_no_rows_along(files):
    rows = ParquetRows(files)
    rows[0]
    copied = pickle.loads(pickle.dumps(rows))
    assert rows._kept
    assert not copied._kept
    assert numbers(copied) == numbers(rows)


def test_broken_files_are_named(tmp_path):
    file = tmp_path / "a.parquet"
    file.write_bytes(b"PAR1 and no more")
    with pytest.raises(OSError, match=r"a\.parquet cannot be read as Parquet"):
        ParquetRows([str(file)])
    with pytest.raises(FileNotFoundError):
        ParquetRows([str(tmp_path / "b.parquet")])


def test_broken_row_groups_are_named(tmp_path):
    file = tmp_path / "a.parquet"
    Dataset.from_dict({"number": np.arange(1000)}).to_parquet(file)
    rows = ParquetRows([str(file)])
    content = bytearray(file.read_bytes())
    start = parquet.read_metadata(file).row_group(0).column(0).dictionary_page_offset
    content[start : start + 50] = b"\xff" * 50
    file.write_bytes(content)
    with pytest.raises(OSError, match=r"a\.parquet: row group 0 cannot be read"):
        rows[0]
