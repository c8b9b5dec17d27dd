# SPDX-License-Identifier: Apache-2.0
"""Predictions in COCO's result formats, and the archives that its test-dev server takes.

Source: the results format and the guidelines for uploads of cocodataset.org.
"""

import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from unisegment.data.annotated_images import category_entry
from unisegment.data.export.format import ExportedImage, ExportFormat, Parts, save_png, stream_json
from unisegment.files import whole_file
from unisegment.ops.column_runs import extents
from unisegment.ops.masks import ids_to_rgb
from unisegment.ops.rle import encode_segments
from unisegment.structures import Category, PanopticPrediction, SegmentationTarget


class CocoPanopticResults(ExportFormat):
    """`panoptic_{run_name}_results.json` and a PNG file for each image in the folder of that name.

    The JSON file also has `images` and `categories`, so that it stands for itself.
    """

    tasks = ("panoptic",)
    has_image_ids = True
    part_kinds: ClassVar[Mapping[str, type]] = {"image": dict, "panoptic": dict}

    @property
    def name(self) -> str:
        """Name of the JSON file and of the folder."""
        return f"panoptic_{self.run_name}_results"

    def write(self, image: ExportedImage, predictions: Mapping[str, Any]) -> dict[str, Any]:
        """See `ExportFormat`."""
        file_name, found = f"{self.stem(image.file_name)}.png", predictions["panoptic"]
        save_png(self.place(f"{self.name}/{file_name}"), panoptic_colors(found))
        annotation = panoptic_annotation(image.image_id, file_name, found, self.categories)
        return {"image": image.entry(), "panoptic": annotation}

    def finish(self, parts: Parts) -> None:
        """See `ExportFormat`."""
        sections = {
            "images": (part["image"] for part in parts()),
            "annotations": (part["panoptic"] for part in parts()),
            "categories": map(category_entry, self.categories),
        }
        stream_json(self.output / f"{self.name}.json", sections)


class CocoInstanceResults(ExportFormat):
    """`detections_{run_name}_results.json`: a list of objects with masks as run lengths."""

    tasks = ("instance",)
    has_image_ids = True
    part_kinds: ClassVar[Mapping[str, type]] = {"detections": list}

    @property
    def name(self) -> str:
        """Name of the JSON file."""
        return f"detections_{self.run_name}_results"

    def write(self, image: ExportedImage, predictions: Mapping[str, Any]) -> dict[str, Any]:
        """See `ExportFormat`."""
        found = predictions["instance"]
        return {"detections": detections(image.image_id, found.segments_info, found.as_target(), self.categories)}

    def finish(self, parts: Parts) -> None:
        """See `ExportFormat`."""
        stream_json(self.output / f"{self.name}.json", (found for part in parts() for found in part["detections"]))


class CocoTestDev(ExportFormat):
    """Both of the above for test-dev 2017, and `….zip` of each, which is what the server takes."""

    tasks = ("panoptic", "instance")
    has_image_ids = True
    part_kinds: ClassVar[Mapping[str, type]] = {**CocoPanopticResults.part_kinds, **CocoInstanceResults.part_kinds}

    def __init__(self, output: Path, categories: Sequence[Category], run_name: str = "unisegment") -> None:
        super().__init__(output, categories, f"test-dev2017_{run_name}")
        arguments = (output, categories, self.run_name)
        self._panoptic, self._instance = CocoPanopticResults(*arguments), CocoInstanceResults(*arguments)

    def write(self, image: ExportedImage, predictions: Mapping[str, Any]) -> dict[str, Any]:
        """See `ExportFormat`."""
        return self._panoptic.write(image, predictions) | self._instance.write(image, predictions)

    def finish(self, parts: Parts) -> None:
        """See `ExportFormat`."""
        for results in (self._panoptic, self._instance):
            results.finish(parts)
        names = (f"{self._panoptic.name}/{self.stem(part['name'])}.png" for part in parts())
        self._pack(self._panoptic.name, names)
        self._pack(self._instance.name, iter(()))

    def _pack(self, name: str, pictures: Iterator[str]) -> None:
        with whole_file(self.output / f"{name}.zip") as partial, zipfile.ZipFile(partial, "w") as archive:
            self._add(archive, f"{name}.json", zipfile.ZIP_DEFLATED)
            for picture in pictures:
                self._add(archive, picture, zipfile.ZIP_STORED)  # compressed already

    def _add(self, archive: zipfile.ZipFile, name: str, compression: int) -> None:
        # Without the time of the file, so that the same predictions give the same archive.
        entry = zipfile.ZipInfo(name)
        entry.compress_type = compression
        with self.place(name).open("rb") as source, archive.open(entry, "w", force_zip64=True) as packed:
            shutil.copyfileobj(source, packed)


def panoptic_colors(prediction: PanopticPrediction) -> np.ndarray:
    """Return the ids of segments as colours (h w 3), 0 for void."""
    return ids_to_rgb(prediction.segmentation.cpu().numpy())


def panoptic_annotation(
    image_id: int | str, file_name: str, prediction: PanopticPrediction, categories: list[Category]
) -> dict[str, Any]:
    """Return the entry of an image in a panoptic JSON file, with area and box of each segment in pixels."""
    segments = [
        {"id": info["id"], "category_id": categories[info["label_id"]].id, **shape, "score": info["score"]}
        for info, shape in zip(prediction.segments_info, shapes(prediction.as_target()), strict=True)
    ]
    return {"image_id": image_id, "file_name": file_name, "segments_info": segments}


def detections(
    image_id: int | str,
    infos: Sequence[Mapping[str, Any]],
    target: SegmentationTarget,
    categories: Sequence[Category] | None = None,
) -> list[dict[str, Any]]:
    """Return the segments of an image as COCO's result files list them.

    Args:
        image_id: Number or name of the image.
        infos: `segments_info` of the prediction.
        target: The same segments, from `as_target`.
        categories: The category of each label; without, the category's id is the label.
    """
    return [
        {
            "image_id": image_id,
            "category_id": info["label_id"] if categories is None else categories[info["label_id"]].id,
            "segmentation": rle,
            "score": info["score"],
        }
        for info, rle in zip(infos, encode_segments(target), strict=True)
    ]


def shapes(target: SegmentationTarget) -> list[dict[str, Any]]:
    """Return area and box (x, y, width, height) of each segment in pixels, as COCO's annotations list them."""
    areas, boxes, _ = extents(target)
    boxes[:, 2:] -= boxes[:, :2]
    return [{"area": area, "bbox": box, "iscrowd": 0} for area, box in zip(areas.tolist(), boxes.tolist(), strict=True)]
