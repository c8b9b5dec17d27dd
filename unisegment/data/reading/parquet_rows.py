# SPDX-License-Identifier: Apache-2.0
"""Rows of Parquet files, read where the files lie, here or elsewhere: number of a row in, table with that row out."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy

import numpy as np
import pyarrow as pa
from datasets import Features
from fsspec.core import url_to_fs
from jaxtyping import Int64
from pyarrow import parquet

from unisegment.data.annotated_images import BLOCKS_AT_ONCE

# Footers are small and the way to them may be long.
_FOOTERS_AT_ONCE = 16


class ParquetRows:
    """Rows of Parquet files by number, as `datasets.Dataset` gives them in its Arrow format.

    A Parquet file is read a row group at a time, usually some hundred rows; the last few row groups that were used are
    kept in memory. At first, only the footers are read, which say how many rows there are.

    Args:
        files: Paths, or URLs that fsspec knows, such as hf://datasets/user/name/train-00000-of-00001.parquet.
        features: What the columns hold. None means as the first file says.

    Raises:
        FileNotFoundError: When a file is missing.
        OSError: When a file cannot be reached, or is no Parquet file.
        ValueError: When what the first file says of its columns cannot be read.
    """

    features: Features
    """What the columns hold."""
    block_bounds: Int64[np.ndarray, " n"]
    """As in `AnnotatedImages`: where the rows of each row group begin, and the number of all rows."""

    def __init__(self, files: Sequence[str], features: Features | None = None) -> None:
        self._files = list(files)
        with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
            self._footers = list(pool.map(_read_footer, self._files))
        self.features = features or _features_of(self._footers[0], self._files[0])
        places = [(file, group) for file, footer in enumerate(self._footers) for group in range(footer.num_row_groups)]
        sizes = [self._footers[file].row_group(group).num_rows for file, group in places]
        self._places = np.array(places, dtype=np.int64).reshape(-1, 2)
        self.block_bounds = np.cumsum([0, *sizes])
        self._kept: dict[tuple[int, int], pa.Table] = {}

    def __len__(self) -> int:
        return int(self.block_bounds[-1])

    def __getitem__(self, index: int) -> pa.Table:
        """Return a table with one row.

        Raises:
            OSError: When the file cannot be reached, or is broken.
        """
        block = int(np.searchsorted(self.block_bounds, index, side="right")) - 1
        file, group = self._places[block].tolist()
        return self._row_group(file, group).slice(index - self.block_bounds[block], 1)

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_kept": {}}

    def select_columns(self, names: Sequence[str]) -> "ParquetRows":
        """Return the rows with these columns alone; the others are not read."""
        chosen = copy(self)
        chosen.features = Features({name: self.features[name] for name in names})
        chosen._kept = {}
        return chosen

    def _row_group(self, file: int, group: int) -> pa.Table:
        table = self._kept.pop((file, group), None)
        if table is None:
            while len(self._kept) > BLOCKS_AT_ONCE:
                del self._kept[next(iter(self._kept))]
            table = self._read(file, group)
        # What was used last stands last.
        self._kept[file, group] = table
        return table

    def _read(self, file: int, group: int) -> pa.Table:
        filesystem, path = url_to_fs(self._files[file])
        try:
            # Opened anew each time, as an open file cannot be shared with worker processes.
            with filesystem.open(path, "rb", cache_type="none") as stream:
                content = parquet.ParquetFile(stream, metadata=self._footers[file], pre_buffer=True)
                return content.read_row_group(group, columns=list(self.features), use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise OSError(f"{self._files[file]}: row group {group} cannot be read: {error}") from error


def _read_footer(file: str) -> parquet.FileMetaData:
    filesystem, path = url_to_fs(file)
    try:
        with filesystem.open(path, "rb") as stream:
            return parquet.read_metadata(stream)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise OSError(f"{file} cannot be read as Parquet: {error}") from error


def _features_of(footer: parquet.FileMetaData, file: str) -> Features:
    try:
        return Features.from_arrow_schema(footer.schema.to_arrow_schema())
    except Exception as error:  # of any kind, where the JSON in it is broken
        raise ValueError(f"{file}: what it says of its columns cannot be read: {error!r}") from error
