# SPDX-License-Identifier: Apache-2.0
"""The words of `unisegment predict` in, what to segment out; a prediction in, what is printed of it out."""

import glob
import json
import mimetypes
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import typer

from unisegment.runs.recipe_files import find_recipe, is_recipe


@dataclass(frozen=True)
class Inputs:
    """What to segment.

    Args:
        names: Files, folders, patterns and addresses of images; or one recipe, or one data set.
        output: Folder for the results; None is `predictions`.
        of_recipe: Whether it is a recipe.
        of_data_set: Whether it is a data set, or a recipe, rather than images.
    """

    names: list[str]
    output: Path | None
    of_recipe: bool
    of_data_set: bool

    @classmethod
    def of_words(cls, words: Sequence[str], is_data_set: bool) -> "Inputs":
        """Read `INPUT... [OUT]`, and the standard input where one of them is `-`.

        Raises:
            BadParameter: When there is nothing to segment, or no folder for the results of several inputs.
            FileNotFoundError: When a file is missing: nothing has been imported for it yet.
        """
        *names, last = words
        if names and _is_input(last):
            raise typer.BadParameter(
                f"The last of several names is the folder for the results, but {last} is not a folder: add one, such "
                "as predictions."
            )
        names, output = (names, Path(last)) if names else ([last], None)
        if "-" in names:
            place = names.index("-")
            names[place : place + 1] = [line.rstrip("\r\n") for line in sys.stdin if line.strip()]
        if not names:
            raise typer.BadParameter("Standard input names no image: a path a line is read there.")
        of_recipe = is_recipe(names[0])
        of_data_set = of_recipe or is_data_set or names[0].startswith("hf://")
        if of_data_set and len(names) > 1:
            raise typer.BadParameter(f"One data set is segmented at a time, got {', '.join(names)}.")
        if of_recipe:
            find_recipe(names[0])
        elif not of_data_set:
            for name in names:
                if not os.path.exists(name) and "://" not in name and not glob.has_magic(name):
                    raise FileNotFoundError(f"{name or 'A file without a name'} does not exist.")
        return cls(names, output, of_recipe, of_data_set)

    @property
    def is_one_image(self) -> bool:
        """Tell whether it is a single image, of which more can be said."""
        return not self.of_data_set and len(self.names) == 1 and os.path.isfile(self.names[0])

    @property
    def places(self) -> str:
        """Where they are, wherever the command is given: a command goes on with the results of the same places."""
        return " ".join(name if "://" in name else str(Path(name).resolve()) for name in self.names)

    def open(self, image_list: Path | None, format: str | None, split: str, on_error: str | None) -> tuple[Any, Any]:
        """Return the images, as `Segmenter.predict` takes them, and the settings of the recipe, or the default ones."""
        from unisegment.data.image_sources import ImageFolder, open_images, require_some
        from unisegment.runs.data_opening import EvaluationSettings, open_evaluation_data

        name = self.names[0]
        if self.of_data_set:
            recipe, root = (name, None) if self.of_recipe else (None, name)
            return open_evaluation_data(recipe, root, format, split, on_error, needs_annotation=False)
        # Here, so that nothing has been loaded for what is refused.
        if image_list is not None:
            images: Any = ImageFolder(name, image_list)
        else:
            images = open_images(name if len(self.names) == 1 else self.names)
        if on_error != "skip":
            require_some(images)
        return images, EvaluationSettings(skip_unreadable=on_error != "raise")

    def outputs(self) -> Iterator[Path]:
        """Give the folders to try: the named one; or `predictions`, or the first after it without other results."""
        if self.output is not None:
            yield self.output
            return
        yield Path("predictions")
        for number in count(2):
            yield Path(f"predictions-{number}")


def _is_input(name: str) -> bool:
    """Tell whether a name must be that of images, there or not, rather than of a folder for results."""
    if os.path.isdir(name):
        return False
    kind = mimetypes.guess_type(name)[0] or ""
    is_pattern = "://" in name or name == "-" or glob.has_magic(name)
    return is_pattern or os.path.exists(name) or kind.startswith(("image/", "video/"))


def print_image(
    image: Any, predictions: Mapping[str, Any], as_json: bool, as_table: bool, threshold: float | None = None
) -> None:
    """Print what was found in an image, on a line or as a table.

    Files for evaluation list objects of every score, which would tell a person little: without a threshold, those above
    0.5 are printed.
    """
    from tqdm import tqdm

    from unisegment.inference.measures import measure
    from unisegment.inference.table import summary, table

    (task, prediction), *_ = predictions.items()
    height, width = image.size
    if as_json:
        found = {"image": image.file_name, "height": height, "width": width, "task": task}
        text = json.dumps(found | {"segments": measure(prediction)})
    else:
        if task == "instance" and threshold is None:
            prediction = prediction.filter(score=0.5)
        seen = "\n" + table(prediction) if as_table else " " + summary(prediction)
        # Names of files need not be text, and may have line breaks.
        name = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in image.file_name)
        text = f"{name}, {width}x{height}:{seen}"
    tqdm.write(text)
