# SPDX-License-Identifier: Apache-2.0
"""A recipe, or a data set and its format, in; the images that a finished model is judged on, and how, out."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from unisegment.data.annotated_images import AnnotatedImages
from unisegment.data.first_look import is_empty
from unisegment.inference.evaluation import TASKS
from unisegment.runs.recipe import DataRecipe, Recipe, load_recipe
from unisegment.runs.recipe_data import data_named, open_split, with_format
from unisegment.runs.settings import RecipeError, check, construct


def open_judged_data(
    recipe: str | Path | None,
    root: str | None,
    data_format: str | None,
    split: str,
    on_error: str | None = None,
    judges: bool = True,
) -> tuple[AnnotatedImages, dict[str, Any]]:
    """Return a data set and what else the recipe says, as keywords of `evaluate_checkpoint`.

    Args:
        recipe: A recipe. Its data are opened as training opens them: with its columns, categories, splits and whatever
            else the reader takes.
        root: Another data set, a folder or what else its format takes; None takes that of the recipe.
        data_format: What `root` holds; None takes that of the recipe, or else what the folder's layout says. With
            another format than the recipe's, no option of its reader counts.
        split: Which part of the data set.
        on_error: "raise" or "skip" images that cannot be read; None takes what the recipe says, or else "raise".
        judges: Whether annotations are needed, and not only the images.

    Raises:
        RecipeError: When neither recipe nor data set is given, it cannot be opened, or there is nothing to judge by.
    """
    read = None if recipe is None else load_recipe(recipe)
    data = with_format(_data(read, root, data_format), (split,))
    if on_error is not None:
        data = replace(data, on_error=on_error)  # type: ignore[arg-type]  # one of the two
    settings: dict[str, Any] = {"tasks": tasks_of_format(data.format), "skip_unreadable": data.on_error == "skip"}
    if read is not None:
        settings["size"] = {"shortest_edge": read.data.shortest_edge, "longest_edge": read.data.longest_edge}
        settings["panoptic_threshold"] = read.evaluation.panoptic_threshold
        settings["top_k"] = read.evaluation.top_k
        settings["batch_size"] = read.evaluation.batch_size
        settings["tf32"] = read.run.tf32
    with data_named(data):
        samples = open_split(data, split)
    if judges and is_empty(samples):
        raise RecipeError(
            f"{data.root}: there is nothing to judge by: none of the {len(samples)} images of {split!r} has a segment "
            "that is no crowd. `unisegment check-data` counts what there is."
        )
    return samples, settings


def _data(recipe: Recipe | None, root: str | None, data_format: str | None) -> DataRecipe:
    if recipe is not None and data_format in (None, recipe.data.format):
        return recipe.data if root is None else replace(recipe.data, root=root)
    if recipe is not None and root is None:
        root = recipe.data.root
    if root is None:
        raise RecipeError("Say where the data are: --data FOLDER, or --recipe FILE.")
    values = {"root": root, "format": data_format or "auto"}
    return construct(DataRecipe, check(DataRecipe, values, root, "data."), root, "data.")


def tasks_of_format(data_format: str) -> tuple[str, ...]:
    """Return what can be judged on a data set: semantic files do not tell objects apart, instances leave out stuff."""
    return tuple(task for task in ("instance", "semantic") if data_format.endswith(f"_{task}")) or TASKS
