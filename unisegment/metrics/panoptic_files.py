# SPDX-License-Identifier: Apache-2.0
"""A JSON file in COCO's panoptic format in, the segments of each image out, every value checked."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from unisegment.ops.json_reading import read_json_lists
from unisegment.ops.json_values import (
    INT32,
    read_each,
    read_flag,
    read_id,
    read_number,
    read_text,
    read_whole_number,
    value_of,
)


class Annotation(NamedTuple):
    """The segments of an image in a JSON file, and where its PNG file is."""

    image_id: int | str
    file: Path
    infos: list[dict[str, Any]]


class AnnotationFile:
    """A JSON file in COCO's panoptic format, of a ground truth or of predictions.

    Args:
        file: The file.
        folder: Folder of its PNG files. Names in the JSON file may lead out of it: they are only read.
    """

    def __init__(self, file: Path, folder: Path) -> None:
        self.file, self.folder = file, folder
        self.annotations: list[Annotation] = []
        self.is_thing: dict[int, bool] = {}

    def read(self, with_categories: bool = False) -> None:
        """Take what it lists: its annotations and, if asked for, whether each category is a thing.

        Raises:
            FileNotFoundError: When it is missing.
            ValueError: When it is not in the format, names file and entry.
        """
        readers = {"annotations": self._add_annotation}
        if with_categories:
            readers["categories"] = self._add_category
        read_json_lists(self.file, readers, data_format="COCO's panoptic format", hint="", optional=["annotations"])

    def _add_annotation(self, entry: Mapping[str, Any]) -> None:
        infos: list[dict[str, Any]] = []

        def add_segment(segment: Mapping[str, Any]) -> None:
            infos.append(
                {
                    "id": read_whole_number(segment, "id", *INT32),
                    "category_id": read_whole_number(segment, "category_id"),
                    "iscrowd": int(read_flag(segment, "iscrowd")),
                    "area": read_number(segment, "area", default=math.nan),
                }
            )

        read_each(value_of(entry, "segments_info"), "segments_info", add_segment)
        file = self.folder / read_text(entry, "file_name")
        self.annotations.append(Annotation(read_id(entry, "image_id"), file, infos))

    def _add_category(self, entry: Mapping[str, Any]) -> None:
        category_id = read_whole_number(entry, "id")
        if category_id in self.is_thing:
            raise ValueError(f"the id {category_id} is that of another category, too")
        self.is_thing[category_id] = read_flag(entry, "isthing", default=None)
