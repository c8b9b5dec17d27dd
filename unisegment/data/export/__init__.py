# SPDX-License-Identifier: Apache-2.0
"""Predictions in, files that other programs and evaluation servers read out: one class for each format."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from unisegment.data.export.cityscapes import CityscapesServer
from unisegment.data.export.coco import CocoInstanceResults, CocoPanopticResults, CocoTestDev
from unisegment.data.export.format import ExportFormat
from unisegment.data.export.label_png import LabelPng
from unisegment.structures import Category

EXPORT_FORMATS: Mapping[str, type[ExportFormat]] = {
    "coco_panoptic": CocoPanopticResults,
    "coco_instance": CocoInstanceResults,
    "coco_test_dev": CocoTestDev,
    "label_png": LabelPng,
    "cityscapes": CityscapesServer,
}

__all__ = ["EXPORT_FORMATS", "ExportFormat", "open_export"]


def open_export(
    name: str,
    output: Path,
    categories: Sequence[Category],
    run_name: str = "unisegment",
    formats: Mapping[str, type[ExportFormat]] = EXPORT_FORMATS,
) -> ExportFormat:
    """Return the writer of a format.

    Args:
        name: One of the formats; the error lists them.
        output: Folder that everything goes to.
        categories: What each label is in the files, by its place in the list.
        run_name: Name of the algorithm in the names of files for COCO's server.
        formats: All formats.

    Raises:
        ValueError: When the format is unknown, or cannot hold the categories.
    """
    if name not in formats:
        raise ValueError(f"There is no export format {name!r}, only {', '.join(formats)}.")
    return formats[name](output, categories, run_name)
