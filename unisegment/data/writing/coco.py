# SPDX-License-Identifier: Apache-2.0
"""Data sets in COCO's instance and panoptic formats, as pycocotools, panopticapi and others read them."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from unisegment.data.annotated_images import category_entry
from unisegment.data.export.coco import shapes
from unisegment.data.export.format import Parts, save_png, stream_json
from unisegment.data.writing.data_set_writer import DataSetWriter, WrittenImage, numbered_map
from unisegment.ops.masks import NUM_COLORS, ids_to_rgb
from unisegment.ops.rle import encode_segments
from unisegment.structures import SegmentationTarget


class _CocoWriter(DataSetWriter):
    """What both formats share: a JSON file for each split, with its images and categories.

    Ids of images are kept where all of a split are different whole numbers; else they are numbered from 1.
    """

    image_folder = "{split}"

    def finish(self, split: str, parts: Parts) -> None:
        """See `DataSetWriter`."""
        ids = [part["image"]["id"] for part in parts()]
        if not all(isinstance(number, int) for number in ids) or len(set(ids)) < len(ids):
            ids = list(range(1, len(ids) + 1))
        sections = {
            "images": ({**part["image"], "id": number} for number, part in zip(ids, parts(), strict=True)),
            "annotations": self.annotations(zip(ids, parts(), strict=True)),
            "categories": (category_entry(item) | {"color": list(item.color)} for item in self.categories),
        }
        stream_json(self.place(self.places["annotations"].format(split=split)), sections)

    def annotations(self, parts: Iterator[tuple[int, dict[str, Any]]]) -> Iterator[dict[str, Any]]:
        """Give the annotations of images, each with its id and what `write` returned."""
        raise NotImplementedError

    def _segments(self, target: SegmentationTarget) -> list[dict[str, Any]]:
        """Return what both formats say of a segment: category, area and box in pixels, and whether it is a crowd."""
        return [
            {"category_id": self.categories[label].id, **shape, "iscrowd": is_crowd}
            for label, shape, is_crowd in zip(
                target.labels.tolist(), shapes(target), target.is_crowd.int().tolist(), strict=True
            )
        ]


def _entry(image: WrittenImage) -> dict[str, Any]:
    height, width = image.size
    return {"id": image.image_id, "file_name": image.file_name, "height": height, "width": width}


class CocoInstanceWriter(_CocoWriter):
    """`annotations/instances_{split}.json`, with objects as run lengths, which are exact, and images in `{split}/`."""

    holds_stuff = False
    holds_overlaps = True
    places: ClassVar[Mapping[str, str]] = {"annotations": "annotations/instances_{split}.json"}
    part_kinds: ClassVar[Mapping[str, type]] = {"image": dict, "objects": list}

    def write(self, split: str, image: WrittenImage, target: SegmentationTarget) -> dict[str, Any]:
        """See `DataSetWriter`."""
        objects = [
            {**segment, "segmentation": rle}
            for segment, rle in zip(self._segments(target), encode_segments(target), strict=True)
        ]
        return {"image": _entry(image), "objects": objects}

    def annotations(self, parts: Iterator[tuple[int, dict[str, Any]]]) -> Iterator[dict[str, Any]]:
        """See `_CocoWriter`; annotations are numbered from 1."""
        found = ({"image_id": image_id, **item} for image_id, part in parts for item in part["objects"])
        return ({"id": number, **annotation} for number, annotation in enumerate(found, start=1))


class CocoPanopticWriter(_CocoWriter):
    """`annotations/panoptic_{split}.json`, a PNG file for each image in the folder of that name, images in `{split}/`.

    Segment ids are kept where they are colours.
    """

    places: ClassVar[Mapping[str, str]] = {
        "annotations": "annotations/panoptic_{split}.json",
        "segments": "annotations/panoptic_{split}",
    }
    part_kinds: ClassVar[Mapping[str, type]] = {"image": dict, "panoptic": dict}

    def write(self, split: str, image: WrittenImage, target: SegmentationTarget) -> dict[str, Any]:
        """See `DataSetWriter`."""
        assert target.segment_ids is not None
        ids = target.segment_ids.tolist()
        if not all(0 < number < NUM_COLORS for number in ids):
            ids = list(range(1, len(ids) + 1))
        name = f"{image.stem}.png"
        file = self.place(f"{self.places['segments'].format(split=split)}/{name}")
        save_png(file, ids_to_rgb(numbered_map(target, ids, void=0)))
        segments = [{"id": number, **segment} for number, segment in zip(ids, self._segments(target), strict=True)]
        return {"image": _entry(image), "panoptic": {"file_name": name, "segments_info": segments}}

    def annotations(self, parts: Iterator[tuple[int, dict[str, Any]]]) -> Iterator[dict[str, Any]]:
        """See `_CocoWriter`."""
        return ({"image_id": image_id, **part["panoptic"]} for image_id, part in parts)
