# SPDX-License-Identifier: Apache-2.0
"""Name of a data set in, its rows out: a folder here, a data set on the Hugging Face Hub, or Parquet files anywhere."""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import datasets
from fsspec.core import url_to_fs
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError

from unisegment.data.formats.format import SPLIT_NAMES
from unisegment.data.reading.parquet_rows import ParquetRows
from unisegment.files import FULL_OR_READ_ONLY, WriteError
from unisegment.ops.yaml_reading import read_front_matter, read_yaml

_SAVED = ("dataset_dict.json", "state.json")
_HUB_NAME = re.compile(r"(?P<name>.+?)(?::(?P<config>[\w.-]+))?(?:@(?P<revision>[\w./-]+))?")


Rows: TypeAlias = datasets.Dataset | ParquetRows
Splits: TypeAlias = Mapping[str, Callable[[], Rows]]


class Source(NamedTuple):
    """A data set that was found."""

    splits: Splits
    """What opens each split, by its name."""
    find_file: Callable[[str], Path | None]
    """Returns a file that lies beside the rows, by its name, if there is one."""


def open_source(root: str, streaming: bool = False) -> Source:
    """Find a data set.

    Args:
        root: A folder that `save_to_disk` wrote; or what `datasets.load_dataset` takes, a folder or the name of a data
            set on the Hub, perhaps with a configuration and a revision: `user/name:config@revision`; or Parquet
            files, as a path or URL with `*`, and perhaps with `{split}` for the name of the split.
        streaming: Read Parquet files where they lie: nothing is downloaded or converted at first. Files that `root`
            names by a pattern are always read so.

    Raises:
        FileNotFoundError: When there is no such data set.
        ValueError: When it cannot be opened, or a package is missing for its address.
        WriteError: When `datasets` cannot write what it makes of it into its cache (HF_DATASETS_CACHE).
    """
    if "*" in root or root.endswith(".parquet"):
        return Source(_splits_of_pattern(root), lambda name: None)
    if "://" in root and not root.startswith("hf://datasets/"):
        raise ValueError(f"{root} names no Parquet files: write {root.rstrip('/')}/{{split}}-*.parquet.")
    # A folder may have `:` and `@` in its name, too.
    found = None if Path(root).is_dir() else _HUB_NAME.fullmatch(root.removeprefix("hf://datasets/"))
    name, config, revision = found.groups() if found else (root, None, None)
    folder = Path(name)
    if not folder.is_dir():
        return Source(_loaded_splits(name, config, revision, streaming), partial(_find_on_hub, name, revision))
    if any((folder / file).is_file() for file in _SAVED):
        return Source(_saved_splits(folder), partial(_find_beside, folder))
    _require_own_files(folder)
    # Absolute, as `datasets` means something else by names such as `parquet`.
    return Source(_loaded_splits(str(folder.resolve()), config, None, streaming), partial(_find_beside, folder))


def open_split(source: Source, split: str) -> Rows:
    """Return the rows of a split.

    Args:
        source: The data set.
        split: "train" or "val", which stands for `validation` or `test` where there is no `val`, or another name.

    Raises:
        ValueError: When there is no such split; says which there are.
    """
    name = next((name for name in SPLIT_NAMES.get(split, (split,)) if name in source.splits), None)
    if name is None:
        first = next(iter(source.splits), "train")
        raise ValueError(
            f"there is no split {split!r}, only {', '.join(source.splits)}. Say which rows to learn from and which to "
            f"hold out, such as data.splits={{train: '{first}[:90%]', val: '{first}[90%:]'}}."
        )
    return source.splits[name]()


def _splits_of_pattern(pattern: str) -> Splits:
    try:
        filesystem, path = url_to_fs(pattern)
    except ImportError as error:  # each protocol has a package of its own
        raise ValueError(f"{pattern} cannot be reached: {error}: install that package.") from error
    names = [name for names in SPLIT_NAMES.values() for name in names] if "{split}" in path else ["train"]
    files = {name: sorted(filesystem.glob(path.replace("{split}", name))) for name in names}
    splits = {
        name: partial(ParquetRows, [filesystem.unstrip_protocol(file) for file in found])
        for name, found in files.items()
        if found
    }
    if not splits:
        raise FileNotFoundError(f"{pattern}: there are no such files.")
    return splits


def _saved_splits(folder: Path) -> Splits:
    try:
        saved = datasets.load_from_disk(str(folder))
    except (OSError, ValueError):
        raise
    except Exception as error:  # of any kind, where its JSON files are broken
        raise ValueError(f"{folder} cannot be opened as a saved data set: {error!r}") from error
    return _given(saved if isinstance(saved, Mapping) else {str(saved.split or "train"): saved})


def _loaded_splits(name: str, config: str | None, revision: str | None, streaming: bool) -> Splits:
    try:
        if not streaming:
            return _given(datasets.load_dataset(name, config, revision=revision))
        builder = datasets.load_dataset_builder(name, config, revision=revision)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{name} is neither a folder with data nor a data set on the Hub: {error}") from error
    except ValueError as error:
        raise ValueError(f"{error} A configuration is chosen as {name}:CONFIG.") from error
    except OSError as error:
        # `datasets` looks for room itself, and says so without a number.
        if error.errno in FULL_OR_READ_ONLY or "disk space" in str(error):
            raise WriteError.of(Path(datasets.config.HF_DATASETS_CACHE), error) from error
        raise
    except Exception as error:  # of any kind, where files are broken
        raise ValueError(f"{name}: {error}") from error
    files = builder.config.data_files or {}
    others = [file for names in files.values() for file in names if not file.endswith(".parquet")]
    if others or not files:
        raise ValueError(
            f"only Parquet files can be read where they lie, and {name} has {', '.join(others[:2]) or 'none'}: set "
            "data.streaming=false, or write them with `Dataset.to_parquet`."
        )
    return {str(split): partial(ParquetRows, names, builder.info.features) for split, names in files.items()}


def _given(splits: Mapping[str, datasets.Dataset]) -> Splits:
    def opener(rows: Rows) -> Callable[[], Rows]:
        return lambda: rows

    # Other formats would decode images, by rules of their own.
    return {str(name): opener(rows.with_format("arrow")) for name, rows in splits.items()}


def _require_own_files(folder: Path) -> None:
    """Refuse a folder that names files elsewhere, which `datasets` would fetch or read."""
    for file, read in ((folder / "README.md", read_front_matter), (folder / ".huggingface.yaml", read_yaml)):
        said = read(file) if file.is_file() else None
        for name in _texts(said.get("configs") if isinstance(said, dict) else None):
            if "://" in name or Path(name).is_absolute() or ".." in Path(name).parts:
                raise ValueError(
                    f"{file}: configs names {name!r}, but nothing outside the folder is read because a file says so."
                )


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts in nested lists and mappings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _find_beside(folder: Path, name: str) -> Path | None:
    return folder / name if (folder / name).is_file() else None


def _find_on_hub(repository: str, revision: str | None, name: str) -> Path | None:
    try:
        return Path(hf_hub_download(repository, name, repo_type="dataset", revision=revision))
    except EntryNotFoundError:
        return None
