# SPDX-License-Identifier: Apache-2.0
"""Semantic predictions as PNG files whose pixels hold the ids of categories, as the data set's own label files do."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Integer, Shaped

from unisegment.data.annotated_images import category_entry
from unisegment.data.export.format import ExportedImage, ExportFormat, Parts, save_png, stream_json
from unisegment.structures import SemanticPrediction
from unisegment.structures.predictions import NO_LABEL


class LabelPng(ExportFormat):
    """A PNG file for each image in `labels/`, of 8 bits, or of 16 where ids need them, and `categories.json`."""

    tasks = ("semantic",)

    def write(self, image: ExportedImage, predictions: Mapping[str, Any]) -> dict[str, Any]:
        """See `ExportFormat`."""
        ids = [category.id for category in self.categories]
        save_png(self.place(f"labels/{self.stem(image.file_name)}.png"), category_map(predictions["semantic"], ids))
        return {}

    def finish(self, parts: Parts) -> None:
        """See `ExportFormat`."""
        stream_json(self.output / "categories.json", map(category_entry, self.categories))


def category_map(prediction: SemanticPrediction, ids: list[int]) -> Shaped[np.ndarray, "h w"]:
    """Return the category's id for each pixel, as `png_pixels` does.

    Args:
        prediction: The label of each pixel, or -1 for void.
        ids: The id of each label.

    Raises:
        ValueError: When an id needs more than 16 bits, or is negative.
    """
    if not 0 <= min(ids) <= max(ids) < 2**16:
        raise ValueError(f"Ids of categories must be from 0 to 65535 for PNG files, got {min(ids)} to {max(ids)}.")
    # The last one is what void finds, whose index is -1.
    table = np.array([*ids, NO_LABEL])
    return png_pixels(table[prediction.cpu().numpy()], max(ids))


def png_pixels(numbers: Integer[np.ndarray, "h w"], largest: int) -> Shaped[np.ndarray, "h w"]:
    """Return labels or ids as uint8, or as uint16 where the largest needs it; void is the type's largest number.

    Where there is void, that number is no label: 255 as a label makes it 16 bits.
    """
    is_void = numbers == NO_LABEL
    dtype = np.uint8 if largest < 2**8 - is_void.any() else np.uint16
    return np.where(is_void, np.iinfo(dtype).max, numbers).astype(dtype)
