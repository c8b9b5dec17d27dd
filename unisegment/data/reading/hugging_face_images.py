# SPDX-License-Identifier: Apache-2.0
"""A data set of Hugging Face's `datasets` in, annotated images out: from a folder, the Hub or Parquet files."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset
from jaxtyping import Int32, Int64

from unisegment.data.annotated_images import AnnotatedImages, distinct_ids, without_void
from unisegment.data.formats.png_folders import CategoryList
from unisegment.data.reading.annotation_reading import check_target
from unisegment.data.reading.hugging_face_columns import (
    ANNOTATIONS,
    bytes_in,
    choose_columns,
    entries_in,
    find_categories,
    path_in,
    picture_in,
    value_in,
)
from unisegment.data.reading.hugging_face_sources import Rows, open_source, open_split
from unisegment.data.reading.image_reading import read_image
from unisegment.data.reading.label_maps import MapCoding, numbers_of
from unisegment.data.reading.object_drawing import draw_objects
from unisegment.data.reading.packed_shapes import SHAPE, PackedShapes
from unisegment.ops.json_values import read_flag, read_id, read_whole_number, value_of
from unisegment.structures import Category, Sample, SegmentationTarget
from unisegment.types import Size


class HuggingFaceImages(AnnotatedImages):
    """The rows of a data set, in its order.

    Nothing is decoded before it is asked for. Worker processes share the files that the rows are in.

    Args:
        rows: The data set.
        columns: Column of each role, as in `open`; all that are needed.
        categories: The labels; ids are those in the data set.
        name: What messages call the data set.
        void_ids: Ids that are void even if they are those of categories, which are then no labels.

    Raises:
        ValueError: When there are no rows, or ids that the annotation cannot tell apart.
    """

    def __init__(
        self,
        rows: Rows,
        columns: Mapping[str, str],
        categories: list[Category],
        name: str,
        void_ids: Collection[int] = (),
    ) -> None:
        super().__init__(without_void(categories, void_ids))
        self.void_ids = frozenset(void_ids)
        if len(rows) == 0:
            raise ValueError(f"{name} has no rows.")
        self.name = name
        self._columns = dict(columns)
        self._rows: Rows = rows.select_columns(sorted({*columns.values()}))
        if isinstance(self._rows, Dataset):
            self._rows = self._rows.with_format("arrow")
        self.block_bounds: Int64[np.ndarray, " n"] | None = getattr(rows, "block_bounds", None)
        self._annotation = next(role for role in ANNOTATIONS if role in columns)
        self._coding = _coding(self._annotation, self.categories, self.void_ids)

    @classmethod
    def open(
        cls,
        root: str,
        split: str,
        *,
        columns: Mapping[str, str] | None = None,
        categories: CategoryList | None = None,
        streaming: bool = False,
        void_ids: Collection[int] = (),
    ) -> "HuggingFaceImages":
        """Open a split of a data set.

        Roles of columns are `image` and one of

        * `semantic`: a map whose numbers are ids of categories; 0, 255 and 65535 are void unless they are listed,
        * `instance`: a map of 1000 * id + n for the object n of a category, as in `png_instance`,
        * `class_and_instance`: an image whose red is the id of a category and whose green is the number of an object,
          as in transformers' example of instance segmentation; a category 0 called "background" is none,
        * `panoptic`: a map of segment ids, 0 for void, with `segments_info`: a list of dicts with `id`, `category_id`
          and perhaps `iscrowd` (segments without a pixel are left out),
        * `objects`: a list of dicts with `category_id` or `category`, `segmentation` (polygons or run lengths, as
          COCO has them) and perhaps `iscrowd`; objects may overlap,

        and perhaps `image_id`, which is otherwise the number of the row. Maps are images with one channel of 8, 16 or
        32 bits, colours (red + 256 green + 65536 blue), or lists of lists of numbers.

        Args:
            root: What to open, see `open_source`.
            split: "train" or "val", which stands for `validation` or `test` where there is no `val`, or another one.
            columns: Column of each role. Those are guessed that have usual names, such as `image`, and `label` for
                `semantic`.
            categories: What names the categories, or the JSON file that does; see `find_categories`.
            streaming: Read Parquet files where they lie, see `open_source`.
            void_ids: Ids of categories that are no labels: their pixels are void, their objects are left out.

        Raises:
            FileNotFoundError: When there is no such data set.
            ValueError: When it cannot be opened, or lacks a split, a column or the names of its categories.
        """
        source = open_source(root, streaming)
        name = f"{root}[{split}]"
        try:
            rows = open_split(source, split)
            chosen = choose_columns(rows.features, columns or {})
            return cls(rows, chosen, find_categories(rows, chosen, source.find_file, categories), name, void_ids)
        except ValueError as error:
            raise ValueError(f"{root}: {error}") from error

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        """Return one annotated image.

        Raises:
            FileNotFoundError: When the row names a file that is missing.
            OSError: When a file cannot be reached, or a Parquet file is broken.
            ValueError: When the row cannot be read, or its image and annotation do not agree; names the row.
        """
        index = range(len(self))[index]
        row = self._rows[index]
        place = f"{self.name}[{index}]"
        try:
            image = read_image(picture_in(row, self._columns["image"]), reading=self.reading, name=place)
            target = self._target(row, image.shape[:2])
            check_target(target, image.shape[:2], None)
            image_id: int | str = index
            given = value_in(row, self._columns["image_id"]) if "image_id" in self._columns else None
            if given is not None:
                image_id = read_id({"image_id": given}, "image_id")
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{place}: {error}") from error
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error
        return Sample(image, image_id, path_in(row, self._columns["image"]) or place, target=target)

    def stored_image(self, index: int) -> Any:
        """Return the image of a row as it is stored, Pillow's or an array.

        Raises:
            FileNotFoundError: When the row names a file that is missing.
            OSError: When a file cannot be reached, or a Parquet file is broken.
            ValueError: When there is no image, or it cannot be read.
        """
        return picture_in(self._rows[index], self._columns["image"])

    def stored_bytes(self, index: int) -> bytes | None:
        """Return the content of the image file in a row; None where it is an array, or a path."""
        return bytes_in(self._rows[index], self._columns["image"])

    def _target(self, row: pa.Table, size: Size) -> SegmentationTarget:
        column = self._columns[self._annotation]
        if self._annotation == "objects":
            return self._draw(entries_in(row, column), size)
        picture = self.reading.turned(picture_in(row, column))
        if self._annotation == "class_and_instance":
            return self._coding.target(_red_and_green(picture), f"column {column!r}")
        id_map = numbers_of(picture)
        if self._annotation == "panoptic":
            return self._select(entries_in(row, self._columns["segments_info"]), id_map)
        return self._coding.target(id_map, f"column {column!r}")

    def _select(self, segments: Sequence[Mapping[str, Any]], id_map: Any) -> SegmentationTarget:
        """Return the segments of a map that are listed."""
        drawn = distinct_ids(id_map)
        listed = [read_whole_number(segment, "id") for segment in segments]
        unlisted = drawn - {*listed, 0}
        if unlisted or len(set(listed)) < len(listed):
            repeated = sorted(number for number in set(listed) if listed.count(number) > 1)
            raise ValueError(
                f"column {self._columns['segments_info']!r} must list each segment of the map once, by its id. Not "
                f"listed: {sorted(unlisted)[:5]}; listed more than once: {repeated[:5]}."
            )
        seen = [
            (segment, number)
            for segment, number in zip(segments, listed, strict=True)
            if number in drawn and self._category_id(segment) not in self.void_ids
        ]
        return SegmentationTarget(
            labels=torch.tensor([self._label(segment) for segment, _ in seen], dtype=torch.int64),
            id_map=torch.from_numpy(id_map),
            segment_ids=torch.tensor([number for _, number in seen], dtype=torch.int64),
            is_crowd=torch.tensor([read_flag(segment, "iscrowd") for segment, _ in seen], dtype=torch.bool),
        )

    def _draw(self, objects: Sequence[Mapping[str, Any]], size: Size) -> SegmentationTarget:
        kept = (item for item in objects if self._category_id(item) not in self.void_ids)
        drawn = ((self._label(item), read_flag(item, "iscrowd"), _pixels(item, size)) for item in kept)
        return draw_objects(drawn, size)

    def _label(self, segment: Mapping[str, Any]) -> int:
        category = self._category_id(segment)
        if category not in self.label_of:
            raise ValueError(f"the category {category} is not listed, only {list(self.label_of)[:20]}: list it.")
        return self.label_of[category]

    def _category_id(self, segment: Mapping[str, Any]) -> int:
        return read_whole_number(segment, "category_id" if segment.get("category_id") is not None else "category")

    def numbers(self, index: int) -> set[int] | None:
        """Return the numbers in the semantic map of a row."""
        column = self._columns[self._annotation]
        return (
            distinct_ids(numbers_of(picture_in(self._rows[index], column))) if self._annotation == "semantic" else None
        )


def _coding(annotation: str, categories: list[Category], void_ids: Collection[int]) -> MapCoding:
    if annotation == "instance":
        return MapCoding(categories, {0, 255, *void_ids}, 1000)
    if annotation == "class_and_instance":
        return MapCoding(categories, {0, 255, *void_ids}, 256, objects_only=True)
    return MapCoding(categories, {0, 255, 65535, *void_ids})


def _red_and_green(picture: Any) -> Int32[np.ndarray, "h w"]:
    """Return 256 red + green of each pixel."""
    colors = np.asarray(picture)
    if colors.ndim != 3 or colors.shape[2] not in (3, 4) or colors.dtype.kind not in "iu":
        raise ValueError(f"a map of class_and_instance must have colours, got {colors.shape} of {colors.dtype}.")
    return colors[..., 0].astype(np.int32) * 256 + colors[..., 1]


def _pixels(item: Mapping[str, Any], size: Size) -> Int64[np.ndarray, " p"]:
    """Return the pixels of an object, as places in the image read row by row."""
    shape = PackedShapes()
    try:
        shape.append(value_of(item, "segmentation"))
        return shape.pixels(0, size)
    except ValueError as error:
        raise ValueError(f"an object cannot be drawn, `segmentation` must be {SHAPE}: {error}") from error
