# SPDX-License-Identifier: Apache-2.0
"""The name of a recipe in, its file and its keys out: a user's own, or one of those that come with the library."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unisegment.ops.json_values import shown
from unisegment.ops.near_names import did_you_mean
from unisegment.ops.yaml_reading import read_yaml
from unisegment.runs.settings import RecipeError, check, merge

_MOST_FILES = 100
"""That one recipe may be made of."""
_EITHER = {
    "schedule.max_steps": "schedule.epochs", "schedule.epochs": "schedule.max_steps",
    "optim.accumulation": "optim.micro_batch", "optim.micro_batch": "optim.accumulation",
}  # fmt: skip
"""Keys that say the same in two ways: the one that is said later takes the place of the other."""
_REMOVED = {("model", "peer"): "benchmarks/training_peers.py trains transformers' Mask2Former beside ours"}
"""Keys of earlier releases, which are passed over where they say null, and what does their work now."""


def recipe_folder() -> Path:
    """Return where the library's recipes are: in the installed package, or in the repository it is imported from."""
    package = Path(__file__).resolve().parents[1]
    packaged = package / "_recipes"
    return packaged if packaged.is_dir() else package.parent / "recipes"


def recipe_names() -> list[str]:
    """Return the names of the library's recipes. Files whose names begin with `_` are parts of others."""
    return sorted(path.stem for path in recipe_folder().glob("*.yaml") if not path.name.startswith("_"))


def is_recipe(name: str) -> bool:
    """Tell whether a word means a recipe, where it may mean a folder as well."""
    return name.endswith((".yaml", ".yml")) or (name in recipe_names() and not Path(name).exists())


def find_recipe(name: str | Path, extended_by: Path | None = None) -> Path:
    """Return the file of a recipe.

    Args:
        name: A YAML file, or one of `recipe_names`, with or without `.yaml`. A file of that name goes before.
        extended_by: The recipe that asks for it; relative paths start from there.

    Raises:
        RecipeError: When there is neither, with the nearest name.
        PermissionError: When its folder may not be looked into.
    """
    path = Path(os.path.expanduser(name))
    path = path if extended_by is None else extended_by.parent / path
    if _is_file(path):
        return path
    ours = recipe_folder() / f"{str(name).removesuffix('.yaml')}.yaml"
    if Path(name).name == str(name) and _is_file(ours):
        return ours
    raise RecipeError(
        f"There is no recipe {path}"
        + (f" to extend in {extended_by}" if extended_by else "")
        + ", neither a file nor one that comes with unisegment."
        + (did_you_mean(Path(name).stem, recipe_names()) or " `unisegment recipes` lists those.")
    )


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except PermissionError:  # what nobody may see is not missing
        raise
    except (OSError, ValueError):  # no such file, or no name of one
        return False


def read_mapping(file: Path) -> dict[str, Any]:
    """Return the keys and values in a YAML file.

    Raises:
        RecipeError: When it holds anything else.
        OSError: When it cannot be read.
    """
    try:
        values = read_yaml(file)
    except ValueError as error:
        raise RecipeError(str(error)) from error
    if not isinstance(values, dict):
        raise RecipeError(f"{file} must hold the keys of a recipe, such as `optim:`, but holds {shown(values)}.")
    return values


def read_keys(section: Any, file: Path) -> dict[str, Any]:
    """Return the keys of a recipe, checked, over those of the recipes that it extends.

    Args:
        section: The dataclass of recipes.
        file: The recipe.

    Raises:
        RecipeError: For a key or a value that no recipe has, and when files extend themselves or a hundred others.
    """
    return _read(section, file, (), [])


def _read(section: Any, file: Path, extended_by: tuple[Path, ...], seen: list[Path]) -> dict[str, Any]:
    seen.append(file.resolve())
    if seen[-1] in extended_by:
        raise RecipeError(f"{file} extends itself. Remove one `extends`.")
    if len(seen) > _MOST_FILES:
        raise RecipeError(f"{seen[0]} extends more than {_MOST_FILES} files, counting those that files share.")
    chain = (*extended_by, seen[-1])
    values = read_mapping(file)
    bases = values.pop("extends", [])
    bases = bases if isinstance(bases, list) else [bases]
    if not all(isinstance(base, str) for base in bases):
        raise RecipeError(f"{file}: extends must be the name of a recipe or a list of names, got {shown(bases)}.")
    _remove_old_keys(values, file)
    check(section, values, str(file))
    merged: dict[str, Any] = {}
    for base in bases:
        merged = _over(section, merged, _read(section, find_recipe(base, file), chain, seen))
    merged.get("evaluation", {}).pop("expected", None)  # which is of another recipe
    return _over(section, merged, values)


def _over(section: Any, base: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    for part, keys in values.items():
        drop_replaced(base, {f"{part}.{key}": value for key, value in keys.items()})
    return merge(section, base, values)


def drop_replaced(values: dict[str, Any], said: Mapping[str, Any]) -> None:
    """Remove from the sections of a recipe the keys that say otherwise what others say now.

    Args:
        values: The sections.
        said: Values by dotted key; null says nothing.
    """
    for key, other in _EITHER.items():
        if said.get(key) is not None:
            part, _, name = other.partition(".")
            values.get(part, {}).pop(name, None)


def _remove_old_keys(values: dict[str, Any], file: Path) -> None:
    for (part, name), instead in _REMOVED.items():
        section = values.get(part)
        if not isinstance(section, dict) or name not in section:
            continue
        value = section.pop(name)
        if value is not None:
            raise RecipeError(f"{file}: {part}.{name}={shown(value)} is no key any more: {instead}. Remove it.")
