# SPDX-License-Identifier: Apache-2.0
"""Data sets of images and PNG files, whose pixels hold ids of categories, or objects."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from unisegment.data.annotated_images import category_entry
from unisegment.data.export.format import save_png, stream_json
from unisegment.data.writing.data_set_writer import DataSetWriter, WrittenImage, numbered_map
from unisegment.ops.masks import ids_to_rgb
from unisegment.structures import SegmentationTarget

_DIVISOR = 1000
"""The object n of a category is `1000 * id + n`."""


class _PngWriter(DataSetWriter):
    """`images/{split}/`, PNG files of the same names in another folder, and `categories.json`."""

    folder: ClassVar[str]
    """Where the PNG files are."""
    void_numbers: ClassVar[Sequence[int]]
    """Numbers that a reader takes for void where they are no ids."""

    def numbers(self, target: SegmentationTarget) -> list[int]:
        """Return the number of each segment's pixels."""
        raise NotImplementedError

    def keys(self, target: SegmentationTarget) -> list[int]:
        """See `DataSetWriter`."""
        return self.numbers(target)

    def write(self, split: str, image: WrittenImage, target: SegmentationTarget) -> dict[str, Any]:
        """See `DataSetWriter`."""
        ids = {category.id for category in self.categories}
        numbers = self.numbers(target)
        # A number that is void in all images, whatever they show.
        void = next(number for number in self.void_numbers if number not in ids)
        pixels = numbered_map(target, numbers, void)
        largest = max(self._largest(), void)
        dtype = np.uint8 if largest < 2**8 else np.uint16
        file = self.place(f"{self.folder}/{split}/{image.stem}.png")
        save_png(file, pixels.astype(dtype) if largest < 2**16 else ids_to_rgb(pixels))
        return {}

    def _largest(self) -> int:
        """Return the largest number that PNG files may hold."""
        return max(category.id for category in self.categories)

    def close(self, splits: Sequence[str]) -> None:
        """Write `categories.json`."""
        entries = (category_entry(item) | {"color": list(item.color)} for item in self.categories)
        stream_json(self.place("categories.json"), entries)


class PngSemanticWriter(_PngWriter):
    """`labels/{split}/`: the id of each pixel's category in 8 bits, or in 16 where ids need them; no objects.

    Void is 255 unless that is an id, else 0 or 65535.
    """

    folder = "labels"
    void_numbers = (255, 0, 65535)
    ids = range(2**16)

    def new_ids(self, ids: list[int]) -> list[int]:
        """See `DataSetWriter`; one number must be left for void."""
        found = super().new_ids(ids)
        return found if not set(self.void_numbers) <= {*found} else list(range(1, len(ids) + 1))

    def fitted(self, target: SegmentationTarget) -> tuple[SegmentationTarget, dict[str, int]]:
        """See `DataSetWriter`; pixels of crowds are pixels of their category."""
        found, lost = super().fitted(target)
        return replace(found, is_crowd=None), lost  # type: ignore[arg-type]  # made in __post_init__

    def numbers(self, target: SegmentationTarget) -> list[int]:
        """See `_PngWriter`."""
        return [self.categories[label].id for label in target.labels.tolist()]


class PngInstanceWriter(_PngWriter):
    """`instances/{split}/`: 1000 * id + n for the object n, the id alone for stuff, and for all crowds of a category.

    PNG files have 16 bits, or three channels (red + 256 green + 65536 blue) where ids are above 64. Void is 0.
    """

    folder = "instances"
    void_numbers = (0,)
    ids = range(1, _DIVISOR)

    def numbers(self, target: SegmentationTarget) -> list[int]:
        """See `_PngWriter`.

        Raises:
            ValueError: When an image has more objects of a category than there are numbers.
        """
        count: dict[int, int] = defaultdict(int)
        numbers = []
        for label, is_crowd in zip(target.labels.tolist(), target.is_crowd.tolist(), strict=True):
            category = self.categories[label]
            if is_crowd or not category.is_thing:
                numbers.append(category.id)
                continue
            count[label] += 1
            if count[label] >= _DIVISOR:
                raise ValueError(
                    f"it has {_DIVISOR} objects or more of {category.name!r}, but the format numbers up to "
                    f"{_DIVISOR - 1} of each category. Take another format, such as coco_panoptic."
                )
            numbers.append(_DIVISOR * category.id + count[label])
        return numbers

    def _largest(self) -> int:
        return max(_DIVISOR * category.id + _DIVISOR - 1 for category in self.categories)
