# SPDX-License-Identifier: Apache-2.0
"""A file in COCO's instance format in, annotated images out.

The format has one JSON file with images, categories and annotations. Each annotation is one object, as polygons or
run lengths, and objects may overlap. ADE20K's instances come in it, too, as the original's script writes them.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from unisegment.data.annotated_images import (
    AnnotatedImages,
    SampleFiles,
    check_size,
    read_listed_image,
    without_void,
)
from unisegment.data.formats.format import Format, Found, Layout
from unisegment.data.problems import Problems
from unisegment.data.reading.coco_lists import CocoLists
from unisegment.data.reading.object_drawing import draw_objects
from unisegment.data.reading.packed_columns import PackedIds, smallest
from unisegment.data.reading.packed_shapes import PackedShapes
from unisegment.ops.json_values import read_flag, read_id, read_whole_number, value_of
from unisegment.structures import Sample
from unisegment.types import Size


class CocoInstance(AnnotatedImages):
    """The images of a COCO instance data set, in the order of the file, those without objects included.

    The JSON file is gone through once and kept in arrays, which the worker processes of a data loader share. Images
    are read and masks drawn when they are asked for. Labels are the places of the categories in the order of their
    ids. Categories are things unless they say otherwise (`isthing`).

    Args:
        annotation_file: The JSON file.
        image_dir: Folder of the images.
        void_categories: Ids of categories that are no label; their objects are left out.

    Raises:
        FileNotFoundError: When there is no such JSON file.
        ValueError: When it is not in COCO's instance format.
    """

    def __init__(
        self, annotation_file: str | Path, image_dir: str | Path, *, void_categories: Collection[int] = ()
    ) -> None:
        self.annotation_file = Path(annotation_file)
        self.image_dir = Path(image_dir)
        objects = _Objects()
        listed = CocoLists(
            self.annotation_file,
            objects.add,
            data_format="COCO's instance format",
            hint="A panoptic file, or one with boxes alone, will not do.",
            optional=["annotations"],
            is_thing=True,
        )
        super().__init__(without_void(listed.categories, void_categories))
        self.void_ids = frozenset(void_categories)
        self._images = listed.images
        self._shapes = objects.shapes
        self._shapes.close()
        self._is_crowd = np.frombuffer(objects.is_crowd, dtype=np.bool_)
        label_of = dict.fromkeys(void_categories, -1) | self.label_of
        self._labels = smallest(listed.labels_of(objects.category_ids, label_of, "annotations"))
        places = listed.places_of(objects.image_ids)
        order = places.argsort(kind="stable")
        order = order[self._labels[order] >= 0]
        self._bounds = smallest(np.searchsorted(places[order], np.arange(len(self) + 1)))
        self._order = smallest(order)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Sample:
        """Return one annotated image; objects that cover no pixel are left out.

        The target has one id map if no objects overlap, and several layers if some do.

        Raises:
            FileNotFoundError: When the image is missing.
            ValueError: When it cannot be read, has another size than the JSON file says, or when an annotation cannot
                be drawn.
        """
        index = range(len(self))[index]
        image_id, file_name, size = self._images[index]
        image_file = self.image_dir / file_name
        image = read_listed_image(image_file, self.reading)
        check_size(image_file, image.shape[:2], size, self.annotation_file)
        annotations = self._order[slice(*self._bounds[index : index + 2])].tolist()
        objects = (
            (int(self._labels[place]), bool(self._is_crowd[place]), self._pixels(place, size)) for place in annotations
        )
        target = draw_objects(objects, size)
        return Sample(image, image_id, str(image_file), target=target)

    def files(self, index: int) -> SampleFiles:
        """Return the image, and what the JSON file says about it."""
        index = range(len(self))[index]
        _, name, size = self._images[index]
        number = int(self._bounds[index + 1]) - int(self._bounds[index])
        return SampleFiles(self.image_dir / name, source=self.annotation_file, size=size, num_annotations=number)

    def labels_in(self, index: int) -> set[int]:
        """Return the labels of which an image has an object that is no crowd, from the JSON file alone."""
        index = range(len(self))[index]
        annotations = self._order[slice(*self._bounds[index : index + 2])]
        return {*self._labels[annotations[~self._is_crowd[annotations]]].tolist()}

    def _pixels(self, annotation: int, size: Size) -> Int64[np.ndarray, " p"]:
        try:
            return self._shapes.pixels(annotation, size)
        except ValueError as error:
            raise ValueError(
                f"{self.annotation_file}: annotations[{annotation}] cannot be drawn: {error} Correct or remove it."
            ) from error


class _Objects:
    """All annotations of a file, before the ids in them are resolved."""

    def __init__(self) -> None:
        self.shapes = PackedShapes()
        self.category_ids = PackedIds()
        self.image_ids = PackedIds()
        self.is_crowd = bytearray()

    def add(self, entry: Mapping[str, Any]) -> None:
        """Take an entry of `annotations`."""
        self.shapes.append(value_of(entry, "segmentation"))
        self.category_ids.append(read_whole_number(entry, "category_id"))
        self.image_ids.append(read_id(entry, "image_id"))
        self.is_crowd.append(read_flag(entry, "iscrowd"))


def open_found(found: Found, *, problems: Problems, void_ids: Collection[int] = ()) -> CocoInstance:
    """Open what was found of a split."""
    return CocoInstance(found.parts["annotations"], found.parts["images"], void_categories=void_ids)


FORMATS = (
    Format(
        name="coco_instance",
        summary="COCO's instances: a JSON file with polygons or run lengths; objects may overlap",
        layouts=[
            Layout(parts={"annotations": "annotations/instances_{split}2017.json", "images": "{split}2017"}),
            Layout(parts={"annotations": "annotations/instances_{split}.json", "images": "{split}"}),
            Layout(parts={"annotations": "{split}/_annotations.coco.json", "images": "{split}"}),
            Layout(parts={"annotations": "instances.json", "images": "images"}),
        ],
        open=open_found,
        tasks=("instance",),
        labels="the JSON file",
    ),
)
