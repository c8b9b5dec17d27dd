# SPDX-License-Identifier: Apache-2.0
"""A recipe, or a folder and its format, in; the data set that a finished model is judged on, and how, out."""

from pathlib import Path
from typing import Any

from unisegment.data.annotated_images import AnnotatedImages
from unisegment.data.first_look import is_empty
from unisegment.data.formats import open_data_set
from unisegment.inference.evaluation import TASKS
from unisegment.training.recipe import load_recipe
from unisegment.training.settings import RecipeError


def open_judged_data(
    recipe: Path | None, root: Path | None, data_format: str, split: str
) -> tuple[AnnotatedImages, dict[str, Any]]:
    """Return a data set and what else the recipe says, as keywords of `evaluate_checkpoint`.

    Args:
        recipe: A recipe, whose data are taken where `root` does not say others.
        root: Folder of the data set.
        data_format: What `root` holds.
        split: Which part of the data set.

    Raises:
        ValueError: When neither recipe nor folder is given, when there is nothing to judge by, and as `open_data_set`
            and `load_recipe`.
    """
    settings: dict[str, Any] = {}
    if recipe is not None:
        read = load_recipe(recipe)
        settings["size"] = {"shortest_edge": read.data.shortest_edge, "longest_edge": read.data.longest_edge}
        settings["panoptic_threshold"] = read.evaluation.panoptic_threshold
        settings["top_k"] = read.evaluation.top_k
        settings["batch_size"] = read.evaluation.batch_size
        if root is None:
            root, data_format = Path(read.data.root), read.data.format
    if root is None:
        raise RecipeError("Say where the data are: --data FOLDER, or --recipe FILE.")
    # Drawn scenes are written as COCO's panoptic data.
    samples = open_data_set("coco_panoptic" if data_format == "synthetic" else data_format, root, split)
    if is_empty(samples):
        raise RecipeError(
            f"{root}: there is nothing to judge by: none of the {len(samples)} images of {split!r} has a segment that "
            "is no crowd. `unisegment check-data` counts what there is."
        )
    return samples, settings | {"tasks": tasks_of_format(data_format)}


def tasks_of_format(data_format: str) -> tuple[str, ...]:
    """Return what can be judged on a data set: semantic files do not tell objects apart, instances leave out stuff."""
    return tuple(task for task in ("instance", "semantic") if data_format.endswith(f"_{task}")) or TASKS
