# SPDX-License-Identifier: Apache-2.0
"""What COCO's two formats share: a file lists categories and images, and annotations name them by their ids."""

from array import array
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64

from unisegment.data.annotated_images import category_of_entry
from unisegment.data.reading.packed_columns import PackedIds, PackedTexts
from unisegment.ops.json_reading import read_json_lists
from unisegment.ops.json_values import INT32, read_id, read_text, read_whole_number
from unisegment.structures import Category
from unisegment.types import Size


class ListedImage(NamedTuple):
    """An entry of `images`."""

    id: int | str
    file_name: str
    size: Size
    """Height and width."""


class ListedImages:
    """The images that a file lists, in its order, a few bytes for each."""

    def __init__(self) -> None:
        self._ids: array[int] | PackedTexts = array("q")
        self._files = PackedTexts()
        self._sizes = array("i")

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, place: int) -> ListedImage:
        """Return one of them."""
        place = range(len(self))[place]
        height, width = self._sizes[2 * place : 2 * place + 2]
        return ListedImage(self._ids[place], self._files[place], (height, width))

    def append(self, image: ListedImage) -> None:
        """Add one.

        Raises:
            ValueError: When its id is a text, and those of others are numbers, or the reverse.
        """
        if len(self) == 0 and isinstance(image.id, str):
            self._ids = PackedTexts()
        try:
            self._ids.append(image.id)  # type: ignore[arg-type]  # or else it raises
        except (TypeError, AttributeError) as error:
            raise ValueError("its id is a text, but those of others are numbers, or the reverse") from error
        self._files.append(image.file_name)
        self._sizes.extend(image.size)


class CocoLists:
    """The categories and images of a file, and what its annotations name them by.

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
    images: ListedImages

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
        self.images = ListedImages()
        self._file = file
        self._place_of: dict[int | str, int] = {}
        repeated: dict[int | str, list[str]] = {}

        def add_category(entry: Mapping[str, Any]) -> None:
            categories.append(category_of_entry(entry, is_thing))

        def add_image(entry: Mapping[str, Any]) -> None:
            size = read_size(entry)
            image = ListedImage(read_id(entry), read_text(entry, "file_name"), size)
            place = self._place_of.setdefault(image.id, len(self.images))
            self.images.append(image)
            if place < len(self.images) - 1:
                repeated.setdefault(image.id, [self.images[place].file_name]).append(image.file_name)

        readers = {"categories": add_category, "images": add_image, "annotations": add_annotation}
        read_json_lists(file, readers, data_format=data_format, hint=hint, optional=optional)
        names: dict[int | str, list[str]] = {}
        for category in categories:
            names.setdefault(category.id, []).append(category.name)
        self._refuse_repeated("categories", names)
        self._refuse_repeated("images", repeated)
        self.categories = sorted(categories, key=lambda category: category.id)

    def places_of(self, image_ids: PackedIds) -> Int64[np.ndarray, " n"]:
        """Return where in the list the images with these ids are.

        Raises:
            ValueError: When it has no such images.
        """
        return self._look_up(image_ids, self._place_of, "annotations of images")

    def labels_of(self, category_ids: PackedIds, label_of: Mapping[int, int], what: str) -> Int64[np.ndarray, " n"]:
        """Return the labels of categories.

        Args:
            category_ids: Their ids.
            label_of: Label of each id.
            what: What is of these categories, for the message.

        Raises:
            ValueError: When `label_of` has no such category.
        """
        return self._look_up(category_ids, label_of, f"{what} of categories")

    def _look_up(self, ids: PackedIds, value_of: Mapping[Any, int], what: str) -> Int64[np.ndarray, " n"]:
        unknown = [item for item in ids.distinct() if item not in value_of]
        if unknown:
            raise ValueError(f"{self._file} has {what} that it does not list: {sorted(unknown, key=str)[:5]}.")
        return ids.look_up(value_of[item] for item in ids.distinct())

    def _refuse_repeated(self, what: str, names: Mapping[int | str, Sequence[str]]) -> None:
        for number, owners in names.items():
            if len(owners) > 1:
                raise ValueError(
                    f"{self._file} lists several {what} of the id {number!r}: {', '.join(owners[:5])}. Each needs an "
                    "id of its own: what belongs to which cannot be known."
                )


def read_size(entry: Any) -> Size:
    """Return the height and width that an entry of `images` has; that no image is so large shows when it is read.

    Raises:
        ValueError: When they are no whole numbers of 32 bits.
    """
    return read_whole_number(entry, "height", *INT32), read_whole_number(entry, "width", *INT32)
