# SPDX-License-Identifier: Apache-2.0
"""Data sets in the format of Ultralytics' YOLO for segmentation."""

from collections.abc import Sequence
from typing import Any

import yaml

from unisegment.data.writing.data_set_writer import DataSetWriter, WrittenImage
from unisegment.data.writing.outlines import joined, outlines_of_segments
from unisegment.files import write_text
from unisegment.structures import SegmentationTarget

_DIGITS = 7
"""Of coordinates that are shares of the image: a hundredth of a pixel in images of 100,000."""


class YoloSegmentationWriter(DataSetWriter):
    """`data.yaml`, images in `images/{split}/`, and a text file for each in `labels/{split}/`.

    A line of it is an object: its label and one polygon, x and y as shares of width and height. Holes, and the pieces
    of an object, are joined to one polygon by bridges without width, as Ultralytics' own converter joins pieces. Labels
    are numbered from 0; crowds are left out.

    Source: the data sets page for segmentation of docs.ultralytics.com.
    """

    holds_stuff = False
    holds_crowds = False
    holds_overlaps = True

    def new_ids(self, ids: list[int]) -> list[int]:
        """Return the labels: the files have no other numbers."""
        return list(range(len(ids)))

    def write(self, split: str, image: WrittenImage, target: SegmentationTarget) -> dict[str, Any]:
        """See `DataSetWriter`."""
        height, width = image.size
        lines = []
        for label, pieces in zip(target.labels.tolist(), outlines_of_segments(target), strict=True):
            shares = joined(pieces) / (width, height)
            lines.append(" ".join([str(label), *(f"{share:.{_DIGITS}g}" for share in shares.ravel())]) + "\n")
        write_text(self.place(f"labels/{split}/{image.stem}.txt"), "".join(lines))
        return {}

    def close(self, splits: Sequence[str]) -> None:
        """Write `data.yaml`; its paths are relative to itself."""
        content = {split: self.image_folder.format(split=split) for split in splits}
        names = {category.id: category.name for category in self.categories}
        text = yaml.safe_dump({**content, "names": names}, sort_keys=False, allow_unicode=True)
        write_text(self.place("data.yaml"), text)
