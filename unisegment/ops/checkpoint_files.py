# SPDX-License-Identifier: Apache-2.0
"""The files of a checkpoint in transformers' layout, looked at before transformers reads them.

transformers trusts them: an index may name weights anywhere, a JSON file hold anything.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import constants
from safetensors import safe_open
from transformers.utils import (
    ADAPTER_CONFIG_NAME,
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
    WEIGHTS_INDEX_NAME,
    WEIGHTS_NAME,
    cached_file,
    is_peft_available,
)

from unisegment.files import FULL_OR_READ_ONLY, WriteError, inside
from unisegment.ops.json_reading import read_json
from unisegment.ops.json_values import shown
from unisegment.ops.value_kinds import NOTHING, TEXT, Kind, mapping_of, require, require_shallow
from unisegment.ops.weight_files import require_sound

HUB_KEYS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder", "proxies")
"""Keywords of `from_pretrained` that say how to reach the Hub."""
READING_KEYS = (*HUB_KEYS, "variant", "use_safetensors", "weights_only")
"""Keywords of `from_pretrained` that say where and how to read, and have no part in what becomes of it."""
_SAFETENSORS, _INDEX = ".safetensors", ".json"
_MOST_WEIGHTS = 1_000_000
"""Weights of a checkpoint that is in several files."""


def chosen(kwargs: Mapping[str, Any], keys: Collection[str]) -> dict[str, Any]:
    """Return those of the keywords that are among the keys."""
    return {key: value for key, value in kwargs.items() if key in keys}


def read_object(name: str | os.PathLike[str], file_name: str, **hub: Any) -> dict[str, Any] | None:
    """Return the JSON object in a file of a checkpoint; None when there is no such file.

    Args:
        name: A folder, a name on the Hub, or the file itself.
        file_name: The file.
        **hub: How to reach the Hub, as `from_pretrained` takes it.

    Raises:
        ValueError: When it holds anything else; names the file.
    """
    file = os.fspath(name) if os.path.isfile(name) else find_file(name, file_name, **hub)
    return None if file is None else object_in(Path(file))


def object_in(file: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        FileNotFoundError: When there is no such file.
        ValueError: When it holds anything else; names the file.
    """
    content = read_json(file)
    if not isinstance(content, dict):
        raise ValueError(f"{file}: {shown(content)}, expected one JSON object, {{…}}.")
    with named(file):
        for key, value in content.items():
            require_shallow(shown(key), value)
    return content


def find_file(name: str | os.PathLike[str], file_name: str, **hub: Any) -> str | None:
    """Return the path of a file of a checkpoint, fetched where it must be; None when there is none.

    Args:
        name: A folder, or a name on the Hub.
        file_name: The file.
        **hub: How to reach the Hub, as `from_pretrained` takes it.

    Raises:
        WriteError: When what is fetched cannot be written into the Hub's cache (HF_HOME names another place).
    """
    try:
        return cached_file(
            os.fspath(name),
            file_name,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_connection_errors=False,
            **hub,
        )
    except OSError as error:
        if error.errno not in FULL_OR_READ_ONLY:
            raise
        raise WriteError.of(Path(hub.get("cache_dir") or constants.HF_HUB_CACHE), error) from error


def require_whole(name: str | os.PathLike[str], **hub: Any) -> None:
    """Raise for a checkpoint with an adapter of peft, whose file names the model that transformers would fetch for it.

    Args:
        name: A folder, or the name of a model on the Hub.
        **hub: How to reach the Hub, as `from_pretrained` takes it.

    Raises:
        ValueError: When there is an adapter.
        WriteError: As `find_file` does.
    """
    # Without peft, transformers does not look for one either.
    may_have = os.path.isdir(name) or is_peft_available()
    if may_have and find_file(name, ADAPTER_CONFIG_NAME, **hub) is not None:
        raise ValueError(
            f"{os.fspath(name)} holds an adapter ({ADAPTER_CONFIG_NAME}), and nothing is fetched because a file names "
            "it. Merge it into its model first, by peft's `merge_and_unload`."
        )


@contextmanager
def named(place: str | os.PathLike[str]) -> Iterator[None]:
    """Say in errors about values where these stand."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{os.fspath(place)}, {error}") from error


def weight_files(
    name: str | os.PathLike[str],
    *,
    file_name: Any = None,
    variant: str | None = None,
    use_safetensors: bool | None = None,
    **hub: Any,
) -> list[str]:
    """Return the paths of the files of weights that transformers would read of a checkpoint, which are checked.

    Args:
        name: A folder, or a name on the Hub.
        file_name: The file, where the config names it.
        variant: As `from_pretrained` takes it.
        use_safetensors: The same.
        **hub: How to reach the Hub, the same.

    Returns:
        The paths; none where there are no weights, which transformers will say.

    Raises:
        ValueError: When an index names files that are not in the checkpoint, or a file is not sound, see
            `require_sound`.
        SafetensorError: When a file of safetensors is damaged.
    """
    require("transformers_weights", file_name, TEXT | NOTHING)
    names = [SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME, WEIGHTS_NAME, WEIGHTS_INDEX_NAME]
    if use_safetensors is not None:
        names = names[:2] if use_safetensors else names[2:]
    if variant is not None:
        names = [f"{stem}.{variant}.{ending}" for stem, _, ending in (found.rpartition(".") for found in names)]
    if file_name:
        inside(Path(name), file_name)
        names = [file_name]
    file = next((path for wanted in names if (path := find_file(name, wanted, **hub)) is not None), None)
    if file is None:
        return []
    files = [file]
    if file.endswith(_INDEX):
        files = [_shard(name, shard, Path(file), hub) for shard in _shards(Path(file))]
    for path in files:
        if path.endswith(_SAFETENSORS):
            safe_open(path, framework="pt")  # which compares its header with its size
        else:
            require_sound(path)
    return files


def weight_bytes(name: str | os.PathLike[str], **keywords: Any) -> int | None:
    """Check the weights that transformers will read of a checkpoint; arguments and errors are those of `weight_files`.

    Returns:
        How many bytes the files have together; None when there is none.
    """
    files = weight_files(name, **keywords)
    return sum(map(os.path.getsize, files)) if files else None


def _shards(index: Path) -> list[str]:
    """Return the files that an index names."""
    content = object_in(index)
    with named(index):
        weights: Any = content.get("weight_map")
        require("weight_map", weights, mapping_of(TEXT, _MOST_WEIGHTS))
        require("metadata", content.get("metadata"), Kind("a mapping", lambda value: isinstance(value, dict)))
    return sorted(set(weights.values()))


def _shard(name: str | os.PathLike[str], shard: str, index: Path, hub: Mapping[str, Any]) -> str:
    """Return the path of a file that an index names."""
    with named(index):
        inside(index.parent, shard)
        file = find_file(name, shard, **hub)
        if file is None:
            raise ValueError(
                f"weight_map: {shown(shard)} is not there, expected a file beside the index. Fetch it again."
            )
    return file
