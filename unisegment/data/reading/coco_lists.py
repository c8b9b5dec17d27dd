# SPDX-License-Identifier: Apache-2.0
"""What COCO's two formats share: a file lists categories and images, and annotations name them by their ids."""

from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32, Int64, Shaped

from unisegment.data.annotated_images import category_of_entry
from unisegment.ops.json_reading import read_json_lists
from unisegment.ops.json_values import INT32, read_id, read_text, read_whole_number
from unisegment.structures import Category
from unisegment.types import Size


class ListedImages:
    """The categories and images of a file, in arrays.

    Arrays rather than lists: worker processes would copy the memory of every Python object that they touch.

    Args:
        file: The JSON file; its lists may come in any order.
        add_annotation: Called with each entry of `annotations`; may raise what `read_json_lists` turns into a message.
        is_thing: As for `category_of_entry`.
        data_format: As for `read_json_lists`, as are the next two.
        hint: See there.
        optional: See there.

    Raises:
        FileNotFoundError: When there is no such file.
        ValueError: When it is not valid JSON, not in the format, or has two images or categories of one id.
    """

    categories: list[Category]
    """In ascending order of their ids."""
    ids: Shaped[np.ndarray, " images"]
    """Numbers or names."""
    files: Shaped[np.ndarray, " images"]
    """Names of files."""
    sizes: Int32[np.ndarray, "images 2"]
    """Height and width."""

    def __init__(
        self,
        file: Path,
        add_annotation: Callable[[Any], None],
        *,
        data_format: str,
        hint: str,
        optional: Collection[str] = (),
        is_thing: bool | None = None,
    ) -> None:
        categories: list[Category] = []
        ids: list[Any] = []
        files: list[str] = []
        sizes = array("i")

        def add_category(entry: Mapping[str, Any]) -> None:
            categories.append(category_of_entry(entry, is_thing))

        def add_image(entry: Mapping[str, Any]) -> None:
            sizes.extend(read_size(entry))
            files.append(read_text(entry, "file_name"))
            ids.append(read_id(entry))

        readers = {"categories": add_category, "images": add_image, "annotations": add_annotation}
        read_json_lists(file, readers, data_format=data_format, hint=hint, optional=optional)
        category_ids, names = [category.id for category in categories], [category.name for category in categories]
        _refuse_repeated(f"{file} lists several categories", category_ids, names)
        _refuse_repeated(f"{file} lists several images", ids, files)
        if len({*map(type, ids)}) > 1:
            raise ValueError(f"{file} has images whose id is a number, and others whose id is a text: use one of them.")
        self.categories = sorted(categories, key=lambda category: category.id)
        self.ids = np.array(ids)
        self.files = np.array(files, dtype=np.str_)
        self.sizes = np.array(sizes, dtype=np.int32).reshape(-1, 2)
        self._file = file

    def places_of(self, ids: Iterable[Any]) -> Int64[np.ndarray, " n"]:
        """Return where in the list the images with these ids are.

        Raises:
            ValueError: When it has no such images.
        """
        place_of = {image_id: place for place, image_id in enumerate(self.ids.tolist())}
        return look_up(ids, place_of, f"{self._file} has annotations of images")


def read_size(entry: Any) -> Size:
    """Return the height and width that an entry of `images` has; that no image is so large shows when it is read.

    Raises:
        ValueError: When they are no whole numbers of 32 bits.
    """
    return read_whole_number(entry, "height", *INT32), read_whole_number(entry, "width", *INT32)


def look_up(ids: Iterable[Any], place_of: Mapping[Any, int], what: str) -> Int64[np.ndarray, " n"]:
    """Return what a table says for each id.

    Args:
        ids: Numbers or names.
        place_of: The table.
        what: Which file has which ids, for the message.

    Raises:
        ValueError: When the table lacks an id.
    """
    ids = list(ids)
    unknown = set(ids) - place_of.keys()
    if unknown:
        raise ValueError(f"{what} that it does not list: {sorted(unknown, key=str)[:5]}.")
    return np.array([place_of[item] for item in ids], dtype=np.int64)


def _refuse_repeated(what: str, ids: Sequence[Any], names: Sequence[str]) -> None:
    if len(set(ids)) == len(ids):
        return
    number, _ = Counter(ids).most_common(1)[0]
    owners = [name for item, name in zip(ids, names, strict=True) if item == number]
    raise ValueError(
        f"{what} of the id {number!r}: {', '.join(owners[:5])}. Each needs an id of its own: what belongs to which "
        "cannot be known."
    )
