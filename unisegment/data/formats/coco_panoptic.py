# SPDX-License-Identifier: Apache-2.0
"""A folder in COCO's panoptic format in, annotated images out.

The format has one JSON file with the images, the categories and the segments of each image, and for each image a PNG
file whose colours are segment ids: red + 256 green + 65536 blue, 0 for void. ADE20K (as the original's script writes
it), Cityscapes (as cityscapesScripts writes it) and Mapillary Vistas 1.2 come in it, too.
"""

from array import array
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int32

from unisegment.data.annotated_images import (
    AnnotatedImages,
    SampleFiles,
    check_size,
    distinct_ids,
    read_listed_image,
    without_void,
)
from unisegment.data.formats.format import Format, Found, Layout
from unisegment.data.problems import Problems
from unisegment.data.reading.coco_lists import CocoLists
from unisegment.data.reading.image_reading import ImageReading
from unisegment.data.reading.packed_columns import PackedIds, PackedTexts, smallest
from unisegment.ops.json_values import INT32, read_each, read_flag, read_id, read_text, read_whole_number, value_of
from unisegment.ops.masks import rgb_to_ids
from unisegment.structures import Sample, SegmentationTarget


class CocoPanoptic(AnnotatedImages):
    """The images of a COCO panoptic data set, in the order of its annotations.

    The JSON file is gone through once and kept in arrays, a few bytes for each segment, which the worker processes of a
    data loader share. Images are read and checked when they are asked for. Labels are the places of the categories in
    the order of their ids.

    Args:
        annotation_file: The JSON file.
        image_dir: Folder of the images.
        panoptic_dir: Folder of the PNG files.
        images_by_city: Images lie in folders that are named as their file names begin, up to the first `_`.
        void_categories: Ids of categories that are no label; pixels of their segments are void.
        hidden_segments: Segments may be listed of which no pixel is to be seen. They are kept, as in the original.

    Raises:
        FileNotFoundError: When there is no such JSON file.
        ValueError: When it is not in COCO's panoptic format.
    """

    def __init__(
        self,
        annotation_file: str | Path,
        image_dir: str | Path,
        panoptic_dir: str | Path,
        *,
        images_by_city: bool = False,
        void_categories: Collection[int] = (),
        hidden_segments: bool = False,
    ) -> None:
        self.annotation_file = Path(annotation_file)
        self.image_dir = Path(image_dir)
        self.panoptic_dir = Path(panoptic_dir)
        self._images_by_city = images_by_city
        self.hidden_segments = hidden_segments
        segments = _Segments()
        listed = CocoLists(
            self.annotation_file,
            segments.add,
            data_format="COCO's panoptic format",
            hint="A detection file will not do.",
        )
        super().__init__(without_void(listed.categories, void_categories))
        self.void_ids = frozenset(void_categories)
        self._images = listed.images
        self._places = smallest(listed.places_of(segments.image_ids))
        self._panoptic_files = segments.files
        self._segment_ids = np.array(segments.ids, dtype=np.int32)
        self._is_crowd = np.frombuffer(segments.is_crowd, dtype=np.bool_)
        self._segment_bounds = smallest(np.array(segments.bounds, dtype=np.int64))
        label_of = dict.fromkeys(void_categories, -1) | self.label_of
        self._labels = smallest(listed.labels_of(segments.category_ids, label_of, "segments"))

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Sample:
        """Return one annotated image.

        Raises:
            FileNotFoundError: When the image or its PNG file is missing.
            ValueError: When one of them cannot be read, or does not agree with the JSON file.
        """
        index = range(len(self))[index]
        image_id, file_name, size = self._images[self._places[index]]
        image_file = self._image_file(file_name)
        panoptic_file = self.panoptic_dir / self._panoptic_files[index]
        image = read_listed_image(image_file, self.reading)
        id_map = rgb_to_ids(read_listed_image(panoptic_file, ImageReading(self.reading.exif)))
        for file, pixels in ((image_file, image), (panoptic_file, id_map)):
            check_size(file, pixels.shape[:2], size, self.annotation_file)
        segments = slice(*self._segment_bounds[index : index + 2])
        self._check_ids(panoptic_file, id_map, self._segment_ids[segments])
        target = SegmentationTarget(
            labels=torch.from_numpy(self._labels[segments].astype(np.int64)),
            id_map=torch.from_numpy(id_map),
            segment_ids=torch.tensor(self._segment_ids[segments]),
            is_crowd=torch.tensor(self._is_crowd[segments]),
        )
        target = target.select(target.labels >= 0)
        return Sample(image, image_id, str(image_file), target=target)

    def files(self, index: int) -> SampleFiles:
        """Return the image and the PNG file, and what the JSON file says about them."""
        index = range(len(self))[index]
        _, name, size = self._images[int(self._places[index])]
        return SampleFiles(
            self._image_file(name),
            self.panoptic_dir / self._panoptic_files[index],
            source=self.annotation_file,
            size=size,
            segment_ids=self._segment_ids[slice(*self._segment_bounds[index : index + 2])].tolist(),
        )

    def labels_in(self, index: int) -> set[int]:
        """Return the labels of which an image has a segment that is no crowd, from the JSON file alone."""
        index = range(len(self))[index]
        segments = slice(*self._segment_bounds[index : index + 2])
        labels = self._labels[segments]
        return {*labels[(labels >= 0) & ~self._is_crowd[segments]].tolist()}

    def _image_file(self, name: str) -> Path:
        folder = self.image_dir / name.split("_")[0] if self._images_by_city else self.image_dir
        return folder / name

    def _check_ids(self, file: Path, id_map: Int32[np.ndarray, "h w"], segment_ids: Int32[np.ndarray, " n"]) -> None:
        drawn, listed = distinct_ids(id_map) - {0}, Counter(segment_ids.tolist())
        all_seen = drawn == listed.keys() or (self.hidden_segments and drawn <= listed.keys())
        if all_seen and listed.total() == len(listed):
            return
        repeated = [number for number, count in listed.items() if count > 1]
        raise ValueError(
            f"{file} must have the segment ids that {self.annotation_file} lists for it, each once, and 0 for void. "
            f"Only in the PNG file: {sorted(drawn - listed.keys())[:5]}; only in the JSON file: "
            f"{sorted(listed.keys() - drawn)[:5]}; listed more than once: {repeated[:5]}."
        )


class _Segments:
    """All annotations of a file, before the ids in them are resolved."""

    def __init__(self) -> None:
        self.image_ids = PackedIds()
        self.files = PackedTexts()
        self.bounds = array("q", [0])
        self.ids = array("i")
        self.category_ids = PackedIds()
        self.is_crowd = bytearray()

    def add(self, entry: Mapping[str, Any]) -> None:
        """Take an entry of `annotations`."""
        read_each(value_of(entry, "segments_info"), "segments_info", self._add_segment)
        self.bounds.append(len(self.ids))
        self.image_ids.append(read_id(entry, "image_id"))
        self.files.append(read_text(entry, "file_name"))

    def _add_segment(self, segment: Mapping[str, Any]) -> None:
        self.ids.append(read_whole_number(segment, "id", *INT32))
        self.category_ids.append(read_whole_number(segment, "category_id"))
        self.is_crowd.append(read_flag(segment, "iscrowd"))


def open_found(found: Found, *, problems: Problems, void_ids: Collection[int] = ()) -> CocoPanoptic:
    """Open what was found of a split; PNG files lie in the folder that is named as the JSON file, unless it says."""
    annotations = found.parts["annotations"]
    panoptic_dir = found.parts.get("segments", annotations.with_suffix(""))
    settings = dict(found.settings)
    void_categories = {*settings.pop("void_categories", ()), *void_ids}
    return CocoPanoptic(annotations, found.parts["images"], panoptic_dir, void_categories=void_categories, **settings)


LAYOUTS = [
    *(
        Layout(
            parts={
                "annotations": f"annotations/panoptic_{name}.json",
                "images": name,
                "segments": f"{folder}panoptic_{name}",
            }
        )
        for name in ("{split}2017", "{split}")
        for folder in ("annotations/", "")
    ),
    Layout(parts={"annotations": "panoptic.json", "images": "images", "segments": "panoptic"}),
]

FORMATS = (
    Format(
        name="coco_panoptic",
        summary="COCO's panoptic format: a JSON file, and PNG files whose colours are segment ids",
        layouts=LAYOUTS,
        open=open_found,
        tasks=("panoptic", "instance", "semantic"),
        labels="the JSON file",
    ),
)
