# SPDX-License-Identifier: Apache-2.0
"""A recipe or config of this machine in, what others may see of it out: no places, no passwords, no code by name.

Of a path or an address the last part is left. Names on the Hub stay where they are known to be such.
"""

import os
import re
from pathlib import Path, PureWindowsPath
from typing import Any

from unisegment.ops.downloads import is_address, public_address
from unisegment.ops.weight_sources import is_in_hub_cache, may_be_on_hub

_NAMES = frozenset(("columns", "splits", "targets", "expected", "id2label", "label2id"))
"""Keys below which all are names of columns, rows, layers or labels, or a text, whatever they look like."""
_ON_HUB = frozenset(("pretrained", "backbone"))
"""Keys whose value may be the name of a model on the Hub."""
_CODE = frozenset(("auto_map", "custom_pipelines"))
"""Keys that name code, which others would run with `trust_remote_code=True`."""
_HUB_DATA_SET = re.compile(r"hf://datasets/([\w.-]+/[\w.-]+)(?:[@/].*)?|([\w.-]+/[\w.-]+)(?::[\w.-]+)?(?:@[\w./-]+)?")


def shared_recipe(recipe: dict[str, Any], run: Path | None = None) -> dict[str, Any]:
    """Return a recipe as others may see it; it uploads nothing.

    Args:
        recipe: All keys of a run, by section.
        run: Folder of the run, absolute; it may tell which folder the recipe's paths start from.
    """
    public = shared({section: keys for section, keys in recipe.items() if section != "hub"})
    root = recipe.get("data", {}).get("root")
    if hub_data_set(recipe) and not _lies_beside(run, recipe, root):
        public["data"]["root"] = public_address(root)
    return public


def hub_data_set(recipe: dict[str, Any] | None) -> str | None:
    """Return the name of the data set on the Hub that a recipe learns from; None when it lies elsewhere."""
    data = (recipe or {}).get("data", {})
    found = _HUB_DATA_SET.fullmatch(public_address(data.get("root", "")))
    if found is None or data.get("format") != "hugging_face" or os.path.exists(data["root"]):
        return None
    return found[1] or found[2]


def shared(value: Any, key: object = None) -> Any:
    """Return what a YAML or JSON file holds as others may see it.

    Args:
        value: Nested mappings and lists.
        key: The key that it has.
    """
    if key in _NAMES or (key == "categories" and not isinstance(value, str)):
        return value
    if key == "base_weights":
        return [shared_record(record) for record in value or ()] or None
    if isinstance(value, dict):
        return {_last_part(name): shared(item, name) for name, item in value.items() if name not in _CODE}
    if isinstance(value, list | tuple):
        return [shared(item, key) for item in value]
    if key in _ON_HUB and isinstance(value, str) and not os.path.exists(value) and is_in_hub_cache(value):
        return value
    return _last_part(value)


def shared_record(record: dict[str, str]) -> dict[str, str]:
    """Return name and licence of a checkpoint that weights come from. A name on the Hub was recorded as such."""
    name = record.get("name", "unknown")
    is_on_hub = may_be_on_hub(name) and name.count("/") == 1
    return {"license": "unknown", **record, "name": name if is_on_hub else _last_part(name)}


def _last_part(text: Any) -> Any:
    """Return the last part of a path or address; anything else as it is."""
    if not isinstance(text, str) or not re.search(r"[/\\]|^~|^\.+$", text):
        return text
    if is_address(text):  # the host is a place, too
        text = public_address(text).partition("://")[2].partition("/")[2]
    name = PureWindowsPath(text).name  # Windows takes both kinds of slashes
    return name if name.strip(".") and not name.startswith("~") else "folder"


def _lies_beside(run: Path | None, recipe: dict[str, Any], root: str) -> bool:
    """Return whether data lie in the folder that the command of a run was given in, where that can be told."""
    output = Path(str(recipe.get("run", {}).get("output_dir", "")))
    if run is None or output.is_absolute() or run.parts[-len(output.parts) :] != output.parts:
        return False
    return Path(*run.parts[: -len(output.parts)], root).exists()
