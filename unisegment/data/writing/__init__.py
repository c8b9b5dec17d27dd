# SPDX-License-Identifier: Apache-2.0
"""Annotated images in, data sets of the formats that tools read out: one writer for each format, streaming.

A writer is a file of this package and a line in `WRITERS`. Nothing here needs torch before a writer is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from unisegment.data.writing.data_set_writer import DataSetWriter

WRITERS: dict[str, str] = {
    "coco_panoptic": "coco.CocoPanopticWriter",
    "coco_instance": "coco.CocoInstanceWriter",
    "yolo_segmentation": "yolo_segmentation.YoloSegmentationWriter",
    "labelme": "labelme.LabelmeWriter",
    "png_semantic": "png_folders.PngSemanticWriter",
    "png_instance": "png_folders.PngInstanceWriter",
}
"""Module and class of the writer of each format, by the name that the format has in `unisegment.data.formats`."""

if TYPE_CHECKING:
    WriterName = str
else:
    WriterName = Literal[tuple(WRITERS)]
"""A format that has a writer."""

ImageMode = Literal["copy", "link", "none"]
"""Whether image files are copied, linked, or stay where they are."""


def find_writer(name: str) -> "type[DataSetWriter]":
    """Return the writer of a format.

    Raises:
        ValueError: When there is none.
    """
    if name not in WRITERS:
        raise ValueError(f"There is no writer of data sets for {name!r}, only for {', '.join(WRITERS)}.")
    module, writer = WRITERS[name].split(".")
    found: type[DataSetWriter] = getattr(import_module(f"{__name__}.{module}"), writer)
    return found
