# SPDX-License-Identifier: Apache-2.0
"""What a user names (a recipe, folders, or a JSON file and folders) in, the parts of data sets to check out."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unisegment.checking.opening import Part
from unisegment.runs.data_opening import with_format
from unisegment.runs.data_recipe import DataRecipe
from unisegment.runs.recipe import load_recipe
from unisegment.runs.recipe_files import is_recipe
from unisegment.runs.settings import check, construct, parse_overrides


def find_parts(
    sources: Sequence[str],
    data_format: str | None = None,
    splits: Sequence[str] = ("train", "val"),
    overrides: Mapping[str, Any] | None = None,
) -> list[Part]:
    """Return the parts that a user means, with the name of their format; nothing of them is read.

    Args:
        sources: One recipe, a file or the name of one of ours; or one folder or several, or other names that the format
            takes for a data set; or a COCO JSON file, the folder of its images and, for panoptic files, that of its PNG
            files.
        data_format: What the folders are; None looks at what lies in them.
        splits: Splits of each data set.
        overrides: Values by dotted key of a recipe; for folders, those of `data`.

    Raises:
        ValueError: When that is not what is named; says what to name.
    """
    overrides = dict(overrides or {})
    first = sources[0] if sources else ""
    if is_recipe(first):
        if len(sources) > 1:
            raise ValueError(f"One recipe is checked at a time, got {', '.join(sources)}.")
        if data_format is not None:
            overrides["data.format"] = data_format
        recipe = load_recipe(first, overrides)
        data = with_format(recipe.data, splits)
        return [Part(data, split, top_k=recipe.evaluation.top_k) for split in splits]
    if first.endswith(".json"):
        return [_part_of_file([Path(source) for source in sources], data_format)]
    if not sources:
        raise ValueError("Name a recipe, a folder, or a COCO JSON file and the folder of its images.")
    return [
        Part(_data_of_folder(source, data_format, splits, overrides), split) for source in sources for split in splits
    ]


def sources_and_overrides(words: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Tell the words of a command apart: `key.path=value` overrides, unless there is such a file, and sources.

    Raises:
        RecipeError: When a value is not YAML.
    """
    sources = [word for word in words if "=" not in word or os.path.exists(word)]
    return sources, parse_overrides(word for word in words if word not in sources)


def _part_of_file(paths: list[Path], data_format: str | None) -> Part:
    guessed = {2: "coco_instance", 3: "coco_panoptic"}.get(len(paths))
    if guessed is None or data_format not in (None, guessed):
        raise ValueError(
            "A JSON file comes with the folder of its images (COCO instance) or with the folders of its images and of "
            f"its PNG files (COCO panoptic), got {', '.join(map(str, paths))}."
        )
    annotations, images, segments = [str(path.absolute()) for path in paths] + [None] * (3 - len(paths))
    root = str(paths[0].parent)
    data = DataRecipe(root=root, format=guessed, annotations=annotations, images=images, segments=segments)
    return Part(data, "train", str(paths[0]))


def _data_of_folder(
    source: str, data_format: str | None, splits: Sequence[str], overrides: Mapping[str, Any]
) -> DataRecipe:
    values: dict[str, Any] = {"root": source, "format": data_format or "auto"}
    for key, value in overrides.items():
        section, _, name = key.partition(".")
        if section != "data":
            raise ValueError(f"{key}: of a folder, only keys of `data` can be set.")
        values[name] = value
    return with_format(construct(DataRecipe, check(DataRecipe, values, source, "data."), source, "data."), splits)
