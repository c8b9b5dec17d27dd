# SPDX-License-Identifier: Apache-2.0
"""A folder in COCO's panoptic format in, annotated images out.

The format has one JSON file with the images, the categories and the segments of each image, and for each image a PNG
file whose colours are segment ids: red + 256 green + 65536 blue, 0 for void.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int32, UInt8
from torch.utils.data import Dataset

from unisegment.data.image_reading import read_image
from unisegment.ops.masks import rgb_to_ids
from unisegment.structures import Category, Sample, SegmentationTarget
from unisegment.types import Size

_GREY = (128, 128, 128)


class CocoPanoptic(Dataset[Sample]):
    """The images of a COCO panoptic data set, in the order of its annotations.

    The JSON file is read at once and kept in arrays, a few bytes for each segment, which the worker processes of a
    data loader share. Images are read and checked when they are asked for.

    Args:
        annotation_file: The JSON file.
        image_dir: Folder of the images.
        panoptic_dir: Folder of the PNG files.

    Raises:
        FileNotFoundError: When there is no such JSON file.
        ValueError: When it is not in COCO's panoptic format.
    """

    categories: list[Category]
    """Sorted by id; the place in this list is the label."""
    label_of: dict[int, int]
    """Label of each category id."""

    def __init__(self, annotation_file: str | Path, image_dir: str | Path, panoptic_dir: str | Path) -> None:
        self.annotation_file = Path(annotation_file)
        self.image_dir = Path(image_dir)
        self.panoptic_dir = Path(panoptic_dir)
        content = _read_json(self.annotation_file)
        try:
            self.categories = sorted(map(_category, content["categories"]), key=lambda category: category.id)
            self.label_of = {category.id: label for label, category in enumerate(self.categories)}
            self._index_images(content["images"], content["annotations"])
            self._index_segments(content["annotations"])
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"{self.annotation_file} is not in COCO's panoptic format ({error!r}); a detection file will not do."
            ) from error

    @classmethod
    def from_folder(cls, root: str | Path, split: str) -> "CocoPanoptic":
        """Find the parts of a split by their names.

        Known are COCO's own layout (`annotations/panoptic_train2017.json`, its PNG files in a folder of that name
        beside it or in `root`, and `train2017/`), the same without the year, and a folder with a single split
        (`panoptic.json`, `images/` and `panoptic/`), which is opened whatever `split` is.

        Args:
            root: The folder of the data set.
            split: Name of the part, such as "train" or "val".

        Raises:
            FileNotFoundError: When none of the layouts is there; lists what was looked for.
        """
        layouts = _layouts(split)
        for layout in layouts:
            if all((Path(root) / part).exists() for part in layout):
                return cls(*(Path(root) / part for part in layout))
        wanted = "\n".join("  " + ", ".join(layout) for layout in layouts)
        raise FileNotFoundError(
            f"{root} has no COCO panoptic data for the split {split!r}. It must have all parts of one of these lines "
            f"(annotations, images, segments):\n{wanted}"
        )

    @property
    def id2label(self) -> dict[int, str]:
        """Name of each label."""
        return {label: category.name for label, category in enumerate(self.categories)}

    @property
    def stuff_label_ids(self) -> list[int]:
        """The labels that are stuff."""
        return [label for label, category in enumerate(self.categories) if not category.is_thing]

    def __len__(self) -> int:
        return len(self._image_ids)

    def __getitem__(self, index: int) -> Sample:
        """Return one annotated image.

        Raises:
            FileNotFoundError: When the image or its PNG file is missing.
            ValueError: When one of them cannot be read, or does not agree with the JSON file.
        """
        index = range(len(self))[index]
        image_file = self.image_dir / self._image_files[index]
        panoptic_file = self.panoptic_dir / self._panoptic_files[index]
        image, id_map = _read_image(image_file), rgb_to_ids(_read_image(panoptic_file))
        self._check_sizes(index, {image_file: image.shape[:2], panoptic_file: id_map.shape})
        segments = slice(*self._segment_bounds[index : index + 2])
        self._check_ids(panoptic_file, id_map, self._segment_ids[segments])
        target = SegmentationTarget(
            labels=torch.tensor(self._labels[segments]),
            id_map=torch.from_numpy(id_map),
            segment_ids=torch.tensor(self._segment_ids[segments]),
            is_crowd=torch.tensor(self._is_crowd[segments]),
        )
        return Sample(image, target, image_id=self._image_ids[index].item(), file_name=str(image_file))

    def _index_images(self, images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> None:
        image_of = {image["id"]: image for image in images}
        unknown = [annotation["image_id"] for annotation in annotations if annotation["image_id"] not in image_of]
        if unknown:
            raise ValueError(f"{self.annotation_file} annotates images that it does not list: ids {unknown[:5]}.")
        annotated = [image_of[annotation["image_id"]] for annotation in annotations]
        # Arrays rather than lists: worker processes would copy the memory of every Python object that they touch.
        self._image_ids = np.array([image["id"] for image in annotated])
        self._image_files = np.array([image["file_name"] for image in annotated], dtype=np.str_)
        self._image_sizes = np.array([(image["height"], image["width"]) for image in annotated], dtype=np.int32)
        self._panoptic_files = np.array([annotation["file_name"] for annotation in annotations], dtype=np.str_)

    def _index_segments(self, annotations: list[dict[str, Any]]) -> None:
        segments = [segment for annotation in annotations for segment in annotation["segments_info"]]
        unknown = {segment["category_id"] for segment in segments} - self.label_of.keys()
        if unknown:
            raise ValueError(f"{self.annotation_file} has segments of categories that it does not list: {unknown}.")
        self._segment_ids = np.array([segment["id"] for segment in segments], dtype=np.int32)
        self._labels = np.array([self.label_of[segment["category_id"]] for segment in segments], dtype=np.int32)
        self._is_crowd = np.array([segment.get("iscrowd", 0) for segment in segments], dtype=np.bool_)
        self._segment_bounds = np.cumsum([0] + [len(annotation["segments_info"]) for annotation in annotations])

    def _check_sizes(self, index: int, sizes: dict[Path, Size]) -> None:
        expected = tuple(self._image_sizes[index])
        for file, size in sizes.items():
            if size != expected:
                raise ValueError(
                    f"{file} is {size[0]}x{size[1]} (height x width, upright), but {self.annotation_file} says "
                    f"{expected[0]}x{expected[1]}: resize one of them, or correct the annotation."
                )

    def _check_ids(self, file: Path, id_map: Int32[np.ndarray, "h w"], segment_ids: Int32[np.ndarray, " n"]) -> None:
        drawn, listed = _distinct(id_map) - {0}, Counter(segment_ids.tolist())
        if drawn == listed.keys() and listed.total() == len(listed):
            return
        repeated = [number for number, count in listed.items() if count > 1]
        raise ValueError(
            f"{file} must have the segment ids that {self.annotation_file} lists for it, each once, and 0 for void. "
            f"Only in the PNG file: {sorted(drawn - listed.keys())[:5]}; only in the JSON file: "
            f"{sorted(listed.keys() - drawn)[:5]}; listed more than once: {repeated[:5]}."
        )


def _distinct(id_map: Int32[np.ndarray, "h w"]) -> set[int]:
    # Only pixels that differ from the one before are looked at, which is a few per cent of them.
    pixels = id_map.ravel()
    return {*pixels[:1].tolist(), *pixels[1:][pixels[1:] != pixels[:-1]].tolist()}


def _layouts(split: str) -> list[tuple[str, str, str]]:
    named = [
        (f"annotations/panoptic_{name}.json", name, f"{folder}panoptic_{name}")
        for name in (f"{split}2017", split)
        for folder in ("annotations/", "")
    ]
    return [*named, ("panoptic.json", "images", "panoptic")]


def _read_json(file: Path) -> Any:
    if not file.is_file():
        raise FileNotFoundError(f"{file}: there is no such annotation file.")
    try:
        return json.loads(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file} is not valid JSON ({error}); fetch it again.") from error


def _category(entry: dict[str, Any]) -> Category:
    return Category(entry["id"], entry["name"], bool(entry["isthing"]), tuple(entry.get("color", _GREY)))


def _read_image(file: Path) -> UInt8[np.ndarray, "h w 3"]:
    if not file.is_file():
        raise FileNotFoundError(f"{file}: there is no such file, but the annotations name it.")
    return read_image(file)
