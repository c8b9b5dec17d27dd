# SPDX-License-Identifier: Apache-2.0
"""The recipes that come with the library, one line each, for people who look for one; read without torch."""

import re
from pathlib import Path
from typing import Any

from unisegment.runs.recipe_files import find_recipe, read_mapping, recipe_names

_OWN_DATA = "data/mine"
"""Stands for the user's folder."""
_HASH = re.compile(r"-[0-9a-f]{8}$")


def list_recipes(word: str = "") -> list[str]:
    """Return a line for each recipe of the library: its name, format of the data, model and number of steps.

    Args:
        word: Leaves out the lines that it is not in, capital letters or not.

    Raises:
        ValueError: When it is in none.
    """
    names = recipe_names()
    width = max(map(len, names))
    lines = [f"{name:<{width}}  {_describe(_merged(find_recipe(name)))}" for name in names]
    found = [line for line in lines if word.lower() in line.lower()]
    if not found:
        raise ValueError(f"No recipe has {word!r} in its line. `unisegment recipes` lists all of them.")
    return found


def _describe(values: dict[str, Any]) -> str:
    data = values["data"].get("format", "any format")
    if values["data"]["root"] == _OWN_DATA:
        data = f"your own data as {data}"
    return f"{data}; {_model(values.get('model', {}))}; {values['schedule']['max_steps']:,} steps"


def _model(model: dict[str, Any]) -> str:
    config = model.get("config", {})
    name = model.get("pretrained") or config.get("backbone")
    if name is not None:
        return _HASH.sub("", str(name).rpartition("/")[2].partition(".")[0])
    return f"small {config.get('backbone_config', {}).get('model_type', 'network')} from scratch"


def _merged(file: Path) -> dict[str, Any]:
    """Return the values of a recipe over those that it extends; the library's own are right, and need no check."""
    values = read_mapping(file)
    bases = values.pop("extends", [])
    merged: dict[str, Any] = {}
    for base in [bases] if isinstance(bases, str) else bases:
        merged = _over(merged, _merged(find_recipe(base, file)))
    return _over(merged, values)


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = {**below, **above}
    for key in below.keys() & above.keys():
        if isinstance(below[key], dict) and isinstance(above[key], dict):
            both[key] = _over(below[key], above[key])
    return both
