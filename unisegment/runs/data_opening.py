# SPDX-License-Identifier: Apache-2.0
"""The `data` section of a recipe, or a data set alone, in; the images of a split out: the same for every command."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from unisegment.data.annotated_images import AnnotatedImages
from unisegment.data.first_look import is_empty, read_first
from unisegment.data.formats import FORMATS, guess_format, open_data_set
from unisegment.data.problems import CollectedProblems, Problems
from unisegment.data.splitting import part_of_split
from unisegment.files import require_folder
from unisegment.ops.downloads import is_address
from unisegment.ops.weight_sources import find_checkpoint
from unisegment.runs.data_recipe import DataRecipe
from unisegment.runs.recipe import Recipe, load_recipe
from unisegment.runs.settings import RecipeError, check, construct
from unisegment.structures import TASKS


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
        wholes = [part_of_split(split, data.splits, data.val_share, data.split_seed)[0] for split in splits]
        return replace(data, format=guess_format(data.root, wholes))


def open_split(data: DataRecipe, split: str, problems: Problems | None = None) -> AnnotatedImages:
    """Open a split as training does, with every option of the recipe; nothing is made that is not there.

    Args:
        data: What the data set is, how it is read, and what becomes of images that cannot be (`on_error`).
        split: "train" or "val", or another part that the data set has.
        problems: Where readers tell what is wrong; None does with it as `on_error` says.

    Raises:
        FileNotFoundError: As `open_data_set` does.
        ValueError: As `open_data_set` does.
    """
    if problems is None:
        problems = CollectedProblems(listed=2**31) if data.on_error == "skip" else Problems()
    data = with_format(data, (split,))
    samples = open_data_set(data.root, data.format, split, problems=problems, **data.reader_options)
    if isinstance(problems, CollectedProblems):
        samples.left_out = [str(problem) for problem in problems.errors()]
    return samples


@contextmanager
def data_named(data: DataRecipe) -> Iterator[None]:
    """Within `with`, turn what readers raise into an error that says which keys of the recipe it is about.

    Raises:
        RecipeError: For what readers raise.
    """
    with named(f"data.root={data.root}, data.format={data.format}"):
        yield


@contextmanager
def named(keys: str) -> Iterator[None]:
    """Within `with`, turn errors into one that says which keys of a recipe it is about.

    Raises:
        RecipeError: For a ValueError or an OSError; one that is a RecipeError already stays as it is.
    """
    try:
        yield
    except RecipeError:
        raise
    except (ValueError, OSError) as error:
        raise RecipeError(f"{keys}: {error}") from error


def require_places(recipe: Recipe) -> None:
    """Look whether the data set and the checkpoint of a recipe are there, before anything is imported to open them.

    Raises:
        RecipeError: When one is missing.
    """
    root, pretrained = recipe.data.root, recipe.model.pretrained
    data_format = recipe.data.format
    is_folder = data_format == "auto" or (data_format != "synthetic" and FORMATS[data_format].is_folder)
    if is_folder and not is_address(root):
        with data_named(recipe.data):
            require_folder(Path(root))
    if pretrained is not None:
        with named(f"model.pretrained={pretrained}"):
            find_checkpoint(pretrained)


class EvaluationSettings(NamedTuple):
    """How a model is evaluated, or predicts.

    Args:
        tasks: What can be evaluated on them.
        skip_unreadable: Whether images that cannot be read are left out.
        size: The processor's `size`; None is that of the checkpoint.
        panoptic_threshold: Smallest score of a panoptic segment.
        top_k: Most objects of an image.
        batch_size: Most images that go through the model together.
        tf32: Whether GPUs that have TF32 compute in it.
    """

    tasks: tuple[str, ...] = TASKS
    skip_unreadable: bool = False
    size: int | dict[str, int] | None = None
    panoptic_threshold: float = 0.8
    top_k: int = 100
    batch_size: int = 1
    tf32: bool = True

    def with_given(self, **values: Any) -> "EvaluationSettings":
        """Return these settings with those of the values that are not None."""
        return self._replace(**{name: value for name, value in values.items() if value is not None})

    @property
    def of_predictor(self) -> dict[str, Any]:
        """Those that are keywords of `open_predictor`."""
        return {name: getattr(self, name) for name in ("size", "panoptic_threshold", "top_k")}


def open_evaluation_data(
    recipe: str | Path | None,
    root: str | None,
    data_format: str | None,
    split: str,
    on_error: str | None = None,
    needs_annotation: bool = True,
) -> tuple[AnnotatedImages, EvaluationSettings]:
    """Open a data set to evaluate on, and return what else the recipe says, too.

    Args:
        recipe: A recipe. Its data are opened as training opens them: with its columns, categories, splits and whatever
            else the reader takes.
        root: Another data set, a folder or what else its format takes; None takes that of the recipe.
        data_format: What `root` holds; None takes that of the recipe, or else what the folder's layout says. With
            another format than the recipe's, no option of its reader counts.
        split: Which part of the data set.
        on_error: "raise" or "skip" images that cannot be read; None takes what the recipe says, or else "raise".
        needs_annotation: Whether annotations are needed, and not only the images.

    Raises:
        RecipeError: When neither recipe nor data set is given, it cannot be opened, or no image of it has a segment.
    """
    read = None if recipe is None else load_recipe(recipe)
    data = with_format(_data(read, root, data_format), (split,))
    if on_error is not None:
        data = replace(data, on_error=on_error)  # type: ignore[arg-type]  # one of the two
    with data_named(data):
        samples = open_split(data, split)
        read_first(samples, data.on_error)
    if needs_annotation and is_empty(samples):
        raise RecipeError(
            f"{data.root}: there is nothing to evaluate on: none of the {len(samples)} images of {split!r} has a "
            "segment that is no crowd. `unisegment check-data` counts what there is."
        )
    settings = EvaluationSettings(FORMATS[data.format].tasks, data.on_error == "skip")
    if read is not None:
        settings = settings._replace(
            size={"shortest_edge": read.data.shortest_edge, "longest_edge": read.data.longest_edge},
            panoptic_threshold=read.evaluation.panoptic_threshold,
            top_k=read.evaluation.top_k,
            batch_size=read.evaluation.batch_size,
            tf32=read.run.tf32,
        )
    return samples, settings


def _data(recipe: Recipe | None, root: str | None, data_format: str | None) -> DataRecipe:
    if recipe is not None and data_format in (None, recipe.data.format):
        return recipe.data if root is None else replace(recipe.data, root=root)
    if recipe is not None and root is None:
        root = recipe.data.root
    if root is None:
        raise RecipeError("Say where the data are: evaluate CHECKPOINT DATA, or --recipe FILE.")
    values = {"root": root, "format": data_format or "auto"}
    return construct(DataRecipe, check(DataRecipe, values, root, "data."), root, "data.")
