# SPDX-License-Identifier: Apache-2.0
"""What all readers of data sets share: labels and their names, and files that are found or missed with clear words."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32, UInt8
from torch.utils.data import Dataset

from unisegment.data.image_reading import read_image
from unisegment.structures import Category, Sample
from unisegment.types import Size

_GREY = (128, 128, 128)


class AnnotatedImages(Dataset[Sample]):
    """Images that are read, with their targets, when they are asked for.

    Args:
        categories: The labels; the place in the list is the label.
    """

    categories: list[Category]
    """The place in this list is the label."""
    label_of: dict[int, int]
    """Label of each category id."""

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


def category_of_entry(entry: Mapping[str, Any], is_thing: bool | None = None) -> Category:
    """Return the category that an entry of a JSON file describes.

    Args:
        entry: `id` and `name`, and perhaps `isthing` and `color`.
        is_thing: What it is where the entry does not say; None means that it must.

    Raises:
        KeyError: When something is missing.
    """
    known = entry["isthing"] if is_thing is None else entry.get("isthing", is_thing)
    return Category(int(entry["id"]), entry["name"], bool(known), tuple(entry.get("color") or _GREY))


def categories_from_table(ids: range | tuple[int, ...], table: Mapping[str, bool]) -> list[Category]:
    """Return the categories of a table in `unisegment.data.categories`, numbered as in the files of the data set."""
    return [
        Category(number, name, is_thing, _GREY) for number, (name, is_thing) in zip(ids, table.items(), strict=True)
    ]


def read_listed_image(file: Path) -> UInt8[np.ndarray, "h w 3"]:
    """Read an image that an annotation names.

    Raises:
        FileNotFoundError: When it is missing.
        ValueError: When it cannot be read.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file}: there is no such file, but the annotations name it.")
    return read_image(file)


def check_size(file: Path, size: Size, expected: Size, source: Path) -> None:
    """Raise a ValueError unless an image has the height and width that another file says it has."""
    if tuple(size) != tuple(expected):
        raise ValueError(
            f"{file} is {size[0]}x{size[1]} (height x width, upright), but {source} says "
            f"{expected[0]}x{expected[1]}: resize one of them, or correct the annotation."
        )


def long_split_name(split: str) -> str:
    """Return what ADE20K and Mapillary Vistas call the split that others call "train" or "val"."""
    return {"train": "training", "val": "validation"}.get(split, split)


def distinct_ids(id_map: Int32[np.ndarray, "h w"]) -> set[int]:
    """Return the numbers that occur in a map."""
    # Only pixels that differ from the one before are looked at, which is a few per cent of them.
    pixels = id_map.ravel()
    return {*pixels[:1].tolist(), *pixels[1:][pixels[1:] != pixels[:-1]].tolist()}
