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
    check_size,
    distinct_ids,
    find_layout,
    long_split_name,
    read_listed_image,
    without_void,
)
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
        self._hidden_segments = hidden_segments
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

    @classmethod
    def from_folder(cls, root: str | Path, split: str, void_ids: Collection[int] = ()) -> "CocoPanoptic":
        """Find the parts of a split by their names.

        Known are COCO's own layout (`annotations/panoptic_train2017.json`, its PNG files in a folder of that name
        beside it or in `root`, and `train2017/`), the same without the year, a folder with a single split
        (`panoptic.json`, `images/` and `panoptic/`), which is opened whatever `split` is, and those of ADE20K
        (`ade20k_panoptic_train.json`), Cityscapes (`gtFine/cityscapes_panoptic_train.json`) and Mapillary Vistas
        (`training/panoptic/panoptic_2018.json`).

        Args:
            root: The folder of the data set.
            split: Name of the part, such as "train" or "val".
            void_ids: Ids of further `void_categories`.

        Raises:
            FileNotFoundError: When none of the layouts is there; lists what was looked for.
        """
        files, settings = panoptic_files(root, split, void_ids)
        return cls(*files, **settings)

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
        all_seen = drawn == listed.keys() or (self._hidden_segments and drawn <= listed.keys())
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


def panoptic_files(
    root: str | Path, split: str, void_ids: Collection[int] = ()
) -> tuple[tuple[Path, Path, Path], dict[str, Any]]:
    """Return the JSON file, the folder of the images, that of the PNG files, and the keywords that go with them.

    See `CocoPanoptic.from_folder`.
    """
    layouts = panoptic_layouts(split)
    parts = find_layout(root, layouts, f"COCO panoptic data for the split {split!r} (annotations, images, segments)")
    annotations, images, maps = (Path(root) / part for part in parts)
    settings = layouts[parts]
    return (annotations, images, maps), settings | {
        "void_categories": {*settings.get("void_categories", ()), *void_ids}
    }


def panoptic_layouts(split: str) -> dict[tuple[str, ...], dict[str, Any]]:
    """Return the settings that go with each layout: annotations, images and PNG files."""
    coco = [
        (f"annotations/panoptic_{name}.json", name, f"{folder}panoptic_{name}")
        for name in (f"{split}2017", split)
        for folder in ("annotations/", "")
    ]
    long_name = long_split_name(split)
    ade20k = (f"ade20k_panoptic_{split}.json", f"images/{long_name}", f"ade20k_panoptic_{split}")
    cityscapes = f"gtFine/cityscapes_panoptic_{split}"
    mapillary = [
        (f"{folder}/panoptic_2018.json", f"{long_name}/images", folder)
        for folder in (f"{long_name}/panoptic", f"{long_name}/v1.2/panoptic")
    ]
    return {
        **{parts: {} for parts in [*coco, ("panoptic.json", "images", "panoptic")]},
        # The script that writes it lists stuff before it paints things over it.
        ade20k: {"hidden_segments": True},
        (f"{cityscapes}.json", f"leftImg8bit/{split}", cityscapes): {"images_by_city": True},
        # The last category is "Unlabeled".
        **{parts: {"void_categories": {66}} for parts in mapillary},
    }
