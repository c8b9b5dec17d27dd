# SPDX-License-Identifier: Apache-2.0
"""The section `data` of a recipe in, its images for a while out: nothing is left of what had to be made for it."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from unisegment.data.annotated_images import AnnotatedImages
from unisegment.runs.data_recipe import DataRecipe
from unisegment.structures import Category
from unisegment.training.assembly import open_samples


@contextmanager
def opened_for_a_while(
    data: DataRecipe, most: int, categories: list[Category] | None = None
) -> Iterator[tuple[AnnotatedImages, AnnotatedImages, bool]]:
    """Give the training and the held-out images, and whether they are those of the recipe.

    Others are drawn scenes that are not there yet: a few of them, in a folder that goes away.

    Args:
        data: Where they are.
        most: Scenes to draw for training, if so many are asked for.
        categories: See `open_samples`.

    Raises:
        RecipeError: As `open_samples` does.
    """
    with tempfile.TemporaryDirectory() as folder:
        is_there = data.format != "synthetic" or Path(data.root).exists()
        if not is_there:
            data = replace(data, root=f"{folder}/scenes", num_train=min(most, data.num_train), num_val=1)
        yield *open_samples(data, categories), is_there
