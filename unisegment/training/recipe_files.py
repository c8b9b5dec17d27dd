# SPDX-License-Identifier: Apache-2.0
"""The name of a recipe in, its file out: a user's own, or one of those that come with the library."""

from pathlib import Path

from unisegment.ops.near_names import did_you_mean
from unisegment.training.settings import RecipeError


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
    """
    path = Path(name).expanduser()
    path = path if extended_by is None else extended_by.parent / path
    if path.is_file():
        return path
    ours = recipe_folder() / f"{str(name).removesuffix('.yaml')}.yaml"
    if Path(name).name == str(name) and ours.is_file():
        return ours
    raise RecipeError(
        f"There is no recipe {path}"
        + (f" to extend in {extended_by}" if extended_by else "")
        + ", neither a file nor one that comes with unisegment."
        + (did_you_mean(Path(name).stem, recipe_names()) or " `ls recipes` and recipes/README.md list those.")
    )
