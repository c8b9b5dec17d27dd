# SPDX-License-Identifier: Apache-2.0
"""Annotated images without objects in, the same with an object for each connected region out."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Bool, Int64
from scipy.ndimage import find_objects, generate_binary_structure, label

from unisegment.data.annotated_images import AnnotatedImages, ImagesOfAnother
from unisegment.data.reading.object_drawing import draw_objects
from unisegment.structures import Sample, SegmentationTarget

Neighbors: TypeAlias = Literal[4, 8]
"""Pixels of one region touch along edges (4), or at corners, too (8)."""


class Components(ImagesOfAnother):
    """Images of another data set, where each connected region of a segment is an object of its own.

    Regions of stuff, and crowds, stay as they are. If no category is a thing, as in label files that do not say it, all
    become things.

    Args:
        images: The other data set.
        neighbors: Which pixels belong together.
    """

    def __init__(self, images: AnnotatedImages, neighbors: Neighbors) -> None:
        has_things = any(category.is_thing for category in images.categories)
        super().__init__(
            images,
            images.categories if has_things else [replace(item, is_thing=True) for item in images.categories],
        )
        self._structure = generate_binary_structure(2, 1 if neighbors == 4 else 2)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        """Return one annotated image."""
        sample = self.images[index]
        return replace(sample, target=draw_objects(self._objects(sample.target), sample.target.size))

    def _objects(self, target: SegmentationTarget) -> Iterator[tuple[int, bool, Int64[np.ndarray, " p"]]]:
        for place, (found, is_crowd) in enumerate(zip(target.labels.tolist(), target.is_crowd.tolist(), strict=True)):
            mask = target.mask(place).numpy()
            if is_crowd or not self.categories[found].is_thing:
                yield found, is_crowd, np.flatnonzero(mask)
                continue
            for pixels in _regions(mask, self._structure):
                yield found, False, pixels


def _regions(mask: Bool[np.ndarray, "h w"], structure: Bool[np.ndarray, "3 3"]) -> Iterator[Int64[np.ndarray, " p"]]:
    """Give the pixels of each connected region, as places in the image read row by row."""
    regions, _ = label(mask, structure)
    for number, (rows, columns) in enumerate(find_objects(regions), start=1):
        inner_rows, inner_columns = np.nonzero(regions[rows, columns] == number)
        yield (inner_rows + rows.start) * mask.shape[1] + inner_columns + columns.start
