# SPDX-License-Identifier: Apache-2.0
"""The `data` section of a recipe in, the images of one of its splits out: the same ones for every command."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

from unisegment.data.annotated_images import AnnotatedImages
from unisegment.data.formats import guess_format, open_data_set
from unisegment.data.label_maps import Pairing, forgiving_pairs
from unisegment.runs.recipe import DataRecipe
from unisegment.runs.settings import RecipeError


def with_format(data: DataRecipe, splits: Sequence[str] = ("train", "val")) -> DataRecipe:
    """Return a section that names its format: where it says `auto`, the one whose layout its folder has.

    Args:
        data: The section.
        splits: Names of the parts of which one must be there.

    Raises:
        RecipeError: When the folder has the layout of no format or of several, or the format does not go with other
            keys.
    """
    if data.format != "auto":
        return data
    with data_named(data):
        return replace(data, format=guess_format(data.root, splits))  # type: ignore[arg-type]  # one of them


def open_split(data: DataRecipe, split: str) -> AnnotatedImages:
    """Open a split as training does, with every option of the recipe; nothing is made that is not there.

    Args:
        data: What the data set is, how it is read, and what becomes of images that cannot be (`on_error`).
        split: "train" or "val", or another part that the data set has.

    Raises:
        FileNotFoundError: As `open_data_set` does.
        ValueError: As `open_data_set` does.
    """
    data = with_format(data, (split,))
    # Drawn scenes are written as COCO's panoptic data.
    data_format = "coco_panoptic" if data.format == "synthetic" else data.format
    skips = data.on_error == "skip"
    opening: AbstractContextManager[list[Pairing]] = forgiving_pairs() if skips else nullcontext([])
    with opening as pairings:
        samples = open_data_set(data_format, data.root, split, **data.reader_options)
    if skips:
        samples.left_out = [problem for pairing in pairings for problem in pairing.left_out(Path(data.root))]
    return samples


@contextmanager
def data_named(data: DataRecipe) -> Iterator[None]:
    """Within `with`, turn what readers raise into an error that says which keys of the recipe it is about.

    Raises:
        RecipeError: For what readers raise.
    """
    try:
        yield
    except RecipeError:
        raise
    except (ValueError, OSError) as error:
        raise RecipeError(f"data.root={data.root}, data.format={data.format}: {error}") from error
