# SPDX-License-Identifier: Apache-2.0
"""A file in COCO's instance format in, annotated images out.

The format has one JSON file with images, categories and annotations. Each annotation is one object, as polygons or
run lengths, and objects may overlap. ADE20K's instances come in it, too, as the original's script writes them.
"""

from array import array
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unisegment.data.annotated_images import (
    AnnotatedImages,
    category_of_entry,
    check_size,
    long_split_name,
    read_listed_image,
)
from unisegment.data.json_reading import iterate_json_lists
from unisegment.data.packed_shapes import PackedShapes
from unisegment.ops.masks import decode_rle
from unisegment.structures import Sample, SegmentationTarget
from unisegment.types import Size


class CocoInstance(AnnotatedImages):
    """The images of a COCO instance data set, in the order of the file, those without objects included.

    The JSON file is gone through once and kept in arrays, which the worker processes of a data loader share. Images
    are read and masks drawn when they are asked for. Labels are the places of the categories in the order of their
    ids. Categories are things unless they say otherwise (`isthing`).

    Args:
        annotation_file: The JSON file.
        image_dir: Folder of the images.

    Raises:
        FileNotFoundError: When there is no such JSON file.
        ValueError: When it is not in COCO's instance format.
    """

    def __init__(self, annotation_file: str | Path, image_dir: str | Path) -> None:
        self.annotation_file = Path(annotation_file)
        self.image_dir = Path(image_dir)
        collected = _Collected(self.annotation_file)
        super().__init__(sorted(collected.categories, key=lambda category: category.id))
        # Arrays rather than lists: worker processes would copy the memory of every Python object that they touch.
        self._image_ids = np.array(collected.image_ids)
        self._image_files = np.array(collected.image_files, dtype=np.str_)
        self._image_sizes = np.array(collected.image_sizes, dtype=np.int32).reshape(-1, 2)
        self._shapes = collected.shapes
        self._is_crowd = np.array(collected.is_crowd, dtype=np.bool_)
        self._labels = np.array(self._look_up(collected.category_ids, self.label_of, "categories"), dtype=np.int32)
        place_of = {image_id: place for place, image_id in enumerate(collected.image_ids)}
        places = np.array(self._look_up(collected.annotated_ids, place_of, "images"), dtype=np.int64)
        self._order = places.argsort(kind="stable")
        self._bounds = np.searchsorted(places[self._order], np.arange(len(self) + 1))

    @classmethod
    def from_folder(cls, root: str | Path, split: str) -> "CocoInstance":
        """Find the parts of a split by their names.

        Known are COCO's own layout (`annotations/instances_train2017.json` and `train2017/`), the same without the
        year, ADE20K's (`ade20k_instance_train.json` and `images/training/`), a folder for each split with
        `_annotations.coco.json` beside the images, and a folder with a single split (`instances.json` and `images/`),
        which is opened whatever `split` is.

        Args:
            root: The folder of the data set.
            split: Name of the part, such as "train" or "val".

        Raises:
            FileNotFoundError: When none of the layouts is there; lists what was looked for.
        """
        layouts = [
            (f"annotations/instances_{split}2017.json", f"{split}2017"),
            (f"annotations/instances_{split}.json", split),
            (f"ade20k_instance_{split}.json", f"images/{long_split_name(split)}"),
            (f"{split}/_annotations.coco.json", split),
            ("instances.json", "images"),
        ]
        for layout in layouts:
            if all((Path(root) / part).exists() for part in layout):
                return cls(*(Path(root) / part for part in layout))
        wanted = "\n".join("  " + ", ".join(layout) for layout in layouts)
        raise FileNotFoundError(
            f"{root} has no COCO instance data for the split {split!r}. It must have both parts of one of these lines "
            f"(annotations, images):\n{wanted}"
        )

    def __len__(self) -> int:
        return len(self._image_ids)

    def __getitem__(self, index: int) -> Sample:
        """Return one annotated image; objects that cover no pixel are left out.

        The target has an id map if no objects overlap, and masks if some do.

        Raises:
            FileNotFoundError: When the image is missing.
            ValueError: When it cannot be read, has another size than the JSON file says, or when an annotation cannot
                be drawn.
        """
        index = range(len(self))[index]
        image_file = self.image_dir / self._image_files[index]
        size: Size = (int(self._image_sizes[index, 0]), int(self._image_sizes[index, 1]))
        image = read_listed_image(image_file)
        check_size(image_file, image.shape[:2], size, self.annotation_file)
        target = self._target(self._order[slice(*self._bounds[index : index + 2])], size)
        return Sample(image, target, image_id=self._image_ids[index].item(), file_name=str(image_file))

    def _target(self, annotations: Int[np.ndarray, " n"], size: Size) -> SegmentationTarget:
        """Draw objects into one id map; from the first overlap on, into a mask each."""
        id_map = torch.zeros(size, dtype=torch.int32)
        masks: list[Bool[Tensor, "h w"]] = []
        drawn: list[int] = []
        for annotation in annotations.tolist():
            mask = self._mask(annotation, size)
            if not mask.any():
                continue
            if not masks and (id_map.bool() & mask).any():
                masks = [id_map == number for number in range(1, len(drawn) + 1)]
            if masks:
                masks.append(mask)
            drawn.append(annotation)
            id_map.masked_fill_(mask, len(drawn))
        segments: dict[str, Tensor] = {
            "labels": torch.from_numpy(self._labels[drawn]),
            "is_crowd": torch.from_numpy(self._is_crowd[drawn]),
        }
        if masks:
            return SegmentationTarget(masks=torch.stack(masks), **segments)
        return SegmentationTarget(id_map=id_map, segment_ids=torch.arange(1, len(drawn) + 1), **segments)

    def _mask(self, annotation: int, size: Size) -> Bool[Tensor, "h w"]:
        try:
            return decode_rle([self._shapes.run_lengths(annotation, size)])[0]
        except ValueError as error:
            raise ValueError(
                f"{self.annotation_file}: annotations[{annotation}] cannot be drawn: {error} Correct or remove it."
            ) from error

    def _look_up(self, ids: list[Any], place_of: dict[Any, int], kind: str) -> list[int]:
        unknown = {item for item in ids if item not in place_of}
        if unknown:
            raise ValueError(
                f"{self.annotation_file} has annotations of {kind} that it does not list: {sorted(unknown)[:5]}."
            )
        return [place_of[item] for item in ids]


class _Collected:
    """What a file says, before the ids in it are resolved: its lists may come in any order."""

    def __init__(self, file: Path) -> None:
        self.categories: list[Any] = []
        self.image_ids: list[Any] = []
        self.image_files: list[str] = []
        self.image_sizes = array("i")
        self.category_ids: list[Any] = []
        self.annotated_ids: list[Any] = []
        self.is_crowd = bytearray()
        self.shapes = PackedShapes()
        add = {"categories": self._add_category, "images": self._add_image, "annotations": self._add_annotation}
        seen = set()
        place = -1
        key = ""
        for key_of_entry, entry in iterate_json_lists(file):
            place = place + 1 if key_of_entry == key else 0
            key = key_of_entry
            seen.add(key)
            try:
                add.get(key, lambda _: None)(entry)
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                raise ValueError(
                    f"{file} is not in COCO's instance format: {key}[{place}] ({error!r}). A segmentation is a list of "
                    "polygons [[x, y, x, y, …], …] or {size, counts}; a panoptic file will not do."
                ) from error
        if not {"categories", "images"} <= seen:
            raise ValueError(
                f"{file} is not in COCO's instance format: it must list categories and images, but lists "
                f"{sorted(seen)}."
            )

    def _add_category(self, entry: dict[str, Any]) -> None:
        self.categories.append(category_of_entry(entry, is_thing=True))

    def _add_image(self, entry: dict[str, Any]) -> None:
        self.image_sizes.extend((entry["height"], entry["width"]))
        self.image_files.append(entry["file_name"])
        self.image_ids.append(entry["id"])

    def _add_annotation(self, entry: dict[str, Any]) -> None:
        self.shapes.append(entry["segmentation"])
        self.category_ids.append(entry["category_id"])
        self.annotated_ids.append(entry["image_id"])
        self.is_crowd.append(bool(entry.get("iscrowd", 0)))
