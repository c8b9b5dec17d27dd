# SPDX-License-Identifier: Apache-2.0
"""Data sets in the format of the annotation tool LabelMe."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unisegment.data.writing.data_set_writer import DataSetWriter, WrittenImage
from unisegment.data.writing.outlines import outlines_of_segments
from unisegment.files import write_text
from unisegment.structures import Category, SegmentationTarget

_VERSION = "5.5.0"
"""Of LabelMe, whose form of the files it is."""

_OTHERS = ("__ignore__", "_background_")
"""What stands before the labels in the file that lists them."""


class LabelmeWriter(DataSetWriter):
    """A JSON file beside each image, both in `{split}/`, and `labels.txt`, which lists the names of the categories.

    The pieces of an object are polygons of one `group_id`; a hole is joined to what is around it by a bridge without
    width. Names are all that there is of categories, so no two may have the same; crowds are left out.

    Raises:
        ValueError: When two categories have one name, or one could not be listed.

    Source: the format of LabelMe (GPL-3.0), as its documentation and files show it.
    """

    holds_stuff = False
    holds_crowds = False
    holds_overlaps = True
    image_folder = "{split}"

    def __init__(self, output: Path, categories: Sequence[Category]) -> None:
        super().__init__(output, categories)
        names = [category.name for category in self.categories]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"Two categories are named {name!r}, which LabelMe could not tell apart: rename one.")
            if name in _OTHERS or [name] != name.strip().splitlines():
                raise ValueError(f"{name!r} cannot be a label of LabelMe, whose file lists one a line: rename it.")

    def new_ids(self, ids: list[int]) -> list[int]:
        """Return the places of the names: the files have no numbers."""
        return list(range(len(ids)))

    def write(self, split: str, image: WrittenImage, target: SegmentationTarget) -> dict[str, Any]:
        """See `DataSetWriter`."""
        shapes = [
            {
                "label": self.categories[label].name,
                "points": piece.tolist(),
                "group_id": number if len(pieces) > 1 else None,
                "description": "",
                "shape_type": "polygon",
                "flags": {},
                "mask": None,
            }
            for number, (label, pieces) in enumerate(
                zip(target.labels.tolist(), outlines_of_segments(target), strict=True), start=1
            )
            for piece in pieces
        ]
        height, width = image.size
        content: dict[str, Any] = {
            "version": _VERSION,
            "flags": {},
            "shapes": shapes,
            "imagePath": image.file_name,
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }
        write_text(self.place(f"{split}/{image.stem}.json"), json.dumps(content, ensure_ascii=False, indent=2) + "\n")
        return {}

    def close(self, splits: Sequence[str]) -> None:
        """Write `labels.txt`."""
        names = [*_OTHERS, *(category.name for category in self.categories)]
        write_text(self.place("labels.txt"), "".join(f"{name}\n" for name in names))
