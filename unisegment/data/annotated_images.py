# SPDX-License-Identifier: Apache-2.0
"""What all readers of data sets share: labels and their names, and files that are found or missed with clear words."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from os.path import isfile
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from jaxtyping import Int32, Int64, UInt8
from torch.utils.data import Dataset

from unisegment.data.categories import category_name
from unisegment.data.reading.image_problems import absence, other_size, unreadable
from unisegment.data.reading.image_reading import ImageReading, read_image
from unisegment.ops.json_values import read_flag, value_of, whole_number
from unisegment.ops.value_range import ValueRange
from unisegment.structures import Category, Sample
from unisegment.types import Size

BLOCKS_AT_ONCE = 4
"""How many blocks training takes images from at one time; see `AnnotatedImages.block_bounds`."""

_GREY = (128, 128, 128)


class SampleFiles(NamedTuple):
    """The files of one sample, and what is said about them elsewhere.

    Args:
        image: The image.
        label_map: The PNG file with its labels, in formats that have one.
        source: The annotation file that says what follows.
        size: Height and width of the image.
        segment_ids: Those in the PNG file.
        num_annotations: How many objects there are.
    """

    image: Path
    label_map: Path | None = None
    source: Path | None = None
    size: Size | None = None
    segment_ids: list[int] | None = None
    num_annotations: int | None = None


class AnnotatedImages(Dataset[Sample]):
    """Images that are read, with their targets, when they are asked for.

    Args:
        categories: The labels; the place in the list is the label.
    """

    categories: list[Category]
    """The place in this list is the label."""
    label_of: dict[int, int]
    """Label of each category id."""
    reading: ImageReading = ImageReading()
    """How image files are read."""
    left_out: Sequence[str] = ()
    """What is wrong with images that were left out at opening, where that was asked for."""
    void_ids: frozenset[int] = frozenset()
    """Ids in the files that are void because the user says so."""
    tells_at_opening: bool = False
    """Whether all that is wrong with annotations is told at opening, to those who want all; else, of each sample."""
    block_bounds: Int64[np.ndarray, " n"] | None = None
    """Where each block of images that are quickly read together begins, and the number of images. None means that
    images are read in any order equally fast."""

    def __init__(self, categories: list[Category]) -> None:
        self.categories = categories
        self.label_of = {category.id: label for label, category in enumerate(categories)}

    @property
    def id2label(self) -> dict[int, str]:
        """Name of each label."""
        return {label: category.name for label, category in enumerate(self.categories)}

    @property
    def stuff_label_ids(self) -> list[int]:
        """The labels that are stuff."""
        return [label for label, category in enumerate(self.categories) if not category.is_thing]

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, index: int) -> Sample:
        """Return one annotated image."""
        raise NotImplementedError

    def files(self, index: int) -> SampleFiles | None:
        """Return the files of an image; None where it is no file of its own."""
        return None

    def stored_image(self, index: int) -> Any:
        """Return an image that is no file of its own as it is stored, Pillow's or an array; None for files."""
        return None

    def stored_bytes(self, index: int) -> bytes | None:
        """Return the content of an image file that is stored in another one; None for files, and for arrays."""
        return None

    def numbers(self, index: int) -> set[int] | None:
        """Return the numbers in the map of an image, where numbers are ids of categories; None where they are not."""
        return None

    def labels_in(self, index: int) -> set[int]:
        """Return the labels of which an image has a segment that is no crowd. Reads it, unless its reader knows better.

        Raises:
            OSError: As reading does.
            ValueError: As reading does.
        """
        target = self[index].target
        return {*target.labels[~target.is_crowd].tolist()}


class ImagesOfAnother(AnnotatedImages):
    """Images of another data set, which reads them.

    Args:
        images: The other data set.
        categories: The labels, its own or others.
    """

    def __init__(self, images: AnnotatedImages, categories: list[Category]) -> None:
        super().__init__(categories)
        self.images = images
        self.left_out = images.left_out
        self.void_ids = images.void_ids

    @property
    def reading(self) -> ImageReading:  # an attribute of those that read
        """How image files are read; to change it leaves the other data set as it is."""
        return self.images.reading

    @reading.setter
    def reading(self, reading: ImageReading) -> None:
        self.images = copy(self.images)
        self.images.reading = reading

    def files(self, index: int) -> SampleFiles | None:
        """Return the files of an image."""
        return self.images.files(self._place(index))

    def stored_image(self, index: int) -> Any:
        """Return an image that is no file of its own as it is stored."""
        return self.images.stored_image(self._place(index))

    def stored_bytes(self, index: int) -> bytes | None:
        """Return the content of an image file that is stored in another one."""
        return self.images.stored_bytes(self._place(index))

    def _place(self, index: int) -> int:
        """Return the place in the other data set of an image."""
        return index


def without_void(categories: Iterable[Category], void_ids: Collection[int]) -> list[Category]:
    """Return the categories that are labels.

    Args:
        categories: Those of the files.
        void_ids: Ids of those that are void.

    Raises:
        ValueError: When none is left.
    """
    kept = [category for category in categories if category.id not in void_ids]
    if not kept:
        raise ValueError(f"void_ids={sorted(void_ids)} are the ids of all categories: leave at least one of them.")
    return kept


def may_have_objects(images: AnnotatedImages, place: int) -> bool:
    """Tell whether an image has a segment that is no crowd, or cannot be read."""
    try:
        return bool(images.labels_in(place))
    except (ValueError, OSError):
        return True


class _Reads(Protocol):
    """A data set, or a folder of images."""

    reading: ImageReading


_Images = TypeVar("_Images", bound=_Reads)


def with_range(images: _Images, value_range: ValueRange) -> _Images:
    """Return a data set whose images are read with another range, such as that of the model that is to see them."""
    changed = copy(images)
    changed.reading = replace(images.reading, range=value_range)
    return changed


def category_of_entry(entry: Mapping[str, Any], is_thing: bool | None = None) -> Category:
    """Return the category that an entry of a JSON file describes.

    Args:
        entry: `id` and `name`, and perhaps `isthing` and `color`, red, green and blue; grey stands for any other.
        is_thing: What it is where the entry does not say; None means that it must.

    Raises:
        ValueError: When something is missing or of another kind, such as a name that is neither a text nor a number.
    """
    is_known_thing = read_flag(entry, "isthing", is_thing)
    name = category_name(value_of(entry, "name"))
    return Category(read_category_id(entry), name, is_known_thing, _color(entry.get("color")))


def _color(given: Any) -> tuple[int, int, int]:
    """Return what is given, if it is a colour of 8 bits: tools write other forms, and nothing but pictures needs it."""
    try:
        red, green, blue = (whole_number(level, "color", 0, 255) for level in given)
    except (TypeError, ValueError):
        return _GREY
    return red, green, blue


def read_category_id(entry: Any) -> int:
    """Return the id of a category: a whole number, or the text of one.

    Raises:
        ValueError: When it is neither.
    """
    value = value_of(entry, "id")
    is_digits = isinstance(value, str) and value.isdecimal() and len(value) < 20
    return whole_number(int(value) if is_digits else value, "id")


def category_entry(category: Category) -> dict[str, Any]:
    """Return what a JSON file says about a category, as COCO's do; `category_of_entry` reads it."""
    return {"id": category.id, "name": category.name, "isthing": int(category.is_thing)}


def categories_from_table(ids: range | tuple[int, ...], table: Mapping[str, bool]) -> list[Category]:
    """Return the categories of a table in `unisegment.data.categories`, numbered as in the files of the data set."""
    return [
        Category(number, name, is_thing, _GREY) for number, (name, is_thing) in zip(ids, table.items(), strict=True)
    ]


def read_listed_image(file: Path, reading: ImageReading, missing: str = "missing-image") -> UInt8[np.ndarray, "h w 3"]:
    """Read an image that an annotation names.

    Args:
        file: The image.
        reading: How it is read.
        missing: Kind of the problem where there is none.

    Raises:
        FileNotFoundError: When it is missing.
        DataError: When it cannot be read.
    """
    if not isfile(file) and (problem := absence(file, missing)) is not None:
        raise problem.error()
    try:
        return read_image(file, reading=reading)
    except ValueError as error:
        raise unreadable(file, error).error() from error


def check_size(file: Path, size: Size, expected: Size, source: Path) -> None:
    """Raise a DataError unless an image has the height and width that another file says it has."""
    if tuple(size) != tuple(expected):
        raise other_size(file, size, expected, source).error()


def distinct_ids(id_map: Int32[np.ndarray, "h w"]) -> set[int]:
    """Return the numbers that occur in a map."""
    # Only pixels that differ from the one before are looked at, which is a few per cent of them.
    pixels = id_map.ravel()
    return {*pixels[:1].tolist(), *pixels[1:][pixels[1:] != pixels[:-1]].tolist()}
