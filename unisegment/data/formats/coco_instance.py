# SPDX-License-Identifier: Apache-2.0
"""A file in COCO's instance format in, annotated images out.

The format has one JSON file with images, categories and annotations. Each annotation is one object, as polygons or
run lengths, and objects may overlap. ADE20K's instances come in it, too, as the original's script writes them, and
what annotation tools export as COCO.

Source: the layouts of exports are those of CVAT (https://docs.cvat.ai/docs/dataset_management/formats/format-coco/,
https://open-edge-platform.github.io/datumaro/latest/docs/data-formats/formats/coco.html), Label Studio
(https://labelstud.io/guide/export), Roboflow (https://roboflow.com/formats/coco-json) and FiftyOne
(https://docs.voxel51.com/user_guide/export_datasets.html).
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
from unisegment.data.problems import Problem, Problems
from unisegment.data.reading.coco_lists import NO_LABEL, CocoLists
from unisegment.data.reading.image_finding import ImageFinder
from unisegment.data.reading.object_checks import ObjectChecks
from unisegment.data.reading.object_drawing import draw_objects
from unisegment.data.reading.packed_columns import PackedIds, smallest
from unisegment.data.reading.packed_shapes import PackedShapes, ShapeError
from unisegment.ops.json_values import read_flag, read_id, read_whole_number, value_of
from unisegment.structures import Sample
from unisegment.types import Size

_HINT = "This must be COCO's instance format: a panoptic file, or one with boxes alone, will not do."


class CocoInstance(AnnotatedImages):
    """The images of a COCO instance data set, in the order of the file, those without objects included.

    The JSON file is gone through once and kept in arrays, which the worker processes of a data loader share. Images
    are read and masks drawn when they are asked for. Labels are the places of the categories in the order of their
    ids. Categories are things unless they say otherwise (`isthing`). Of Roboflow's categories, the one that is only the
    `supercategory` of the others, and has no objects, is left out.

    Args:
        annotation_file: The JSON file.
        image_dir: Folder of the images; see `ImageFinder` for what the names of files mean.
        void_categories: Ids of categories that are no label; their objects are left out.
        problems: Where to tell what is wrong; None raises at the first error. Images with an annotation that cannot be
            used are left out; where all problems are wanted, they are refused when they are asked for.

    Raises:
        DataError: When the JSON file is not there, or is not in COCO's instance format.
        ValueError: When all categories are void.
    """

    tells_at_opening = True

    def __init__(
        self,
        annotation_file: str | Path,
        image_dir: str | Path,
        *,
        void_categories: Collection[int] = (),
        problems: Problems | None = None,
    ) -> None:
        self.annotation_file = Path(annotation_file)
        self.image_dir = Path(image_dir)
        lists = CocoLists(self.annotation_file, problems or Problems(), _HINT, is_thing=True)
        objects = _Objects(lists)
        lists.read(objects.add, optional=["annotations"])
        objects.shapes.close()
        super().__init__(without_void(lists.categories(objects.category_ids.distinct()), void_categories))
        self.void_ids = frozenset(void_categories)
        self._images, self._shapes = lists.images, objects.shapes
        self._is_crowd = np.frombuffer(objects.is_crowd, dtype=np.bool_)
        image_places = lists.places_of(objects.image_ids)
        labels, unknown = lists.labels_of(objects.category_ids, self.label_of, void_categories)
        self._finder = ImageFinder(self.image_dir, self._images.files)
        for annotation in unknown:
            place, number = image_places[annotation], objects.category_ids[annotation]
            if place != NO_LABEL:
                detail = f"{self._name(annotation, place)}: its category {number} is not listed."
                lists.refuse(place, "unknown-category", detail, self._file(place))
        if objects.checks is not None:
            self._check(lists, objects.checks, image_places)
        self._places = lists.usable()
        self._refused = lists.refused
        # Of annotations, those that are used, image by image.
        order = image_places.argsort(kind="stable")
        order = order[(labels[order] >= 0) & (image_places[order] >= 0)]
        self._bounds = smallest(np.searchsorted(image_places[order], np.arange(len(self._images) + 1)))
        self._order, self._labels = smallest(order), smallest(labels)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Sample:
        """Return one annotated image; objects that cover no pixel are left out.

        The target has one id map if no objects overlap, and several layers if some do.

        Raises:
            FileNotFoundError: When the image is missing.
            ValueError: When it cannot be read, has another size than the JSON file says, or when an annotation cannot
                be used.
        """
        place = int(self._places[index])
        if place in self._refused:
            raise self._refused[place].error()
        image_id, _, size = self._images[place]
        image_file = self._file(place)
        image = read_listed_image(image_file, self.reading)
        check_size(image_file, image.shape[:2], size, self.annotation_file)
        objects = (
            (int(self._labels[row]), bool(self._is_crowd[row]), self._pixels(row, place, size))
            for row in self._annotations(place).tolist()
        )
        target = draw_objects(objects, size)
        return Sample(image, image_id, str(image_file), target=target)

    def files(self, index: int) -> SampleFiles:
        """Return the image of a sample, its size and how many objects it has."""
        place = int(self._places[index])
        _, file_name, size = self._images[place]
        number = len(self._annotations(place))
        return SampleFiles(self._finder.find(file_name), source=self.annotation_file, size=size, num_annotations=number)

    def labels_in(self, index: int) -> set[int]:
        """Return the labels of which an image has an object that is no crowd, from the JSON file alone."""
        annotations = self._annotations(int(self._places[index]))
        return {*self._labels[annotations[~self._is_crowd[annotations]]].tolist()}

    def _annotations(self, place: int) -> Any:
        return self._order[slice(*self._bounds[place : place + 2])]

    def _file(self, place: int) -> Path:
        return self._finder.find(self._images.files[place])

    def _name(self, annotation: int, place: int) -> str:
        return f"annotations[{annotation}] of {self._images.files[place]}"

    def _pixels(self, annotation: int, place: int, size: Size) -> Int64[np.ndarray, " p"]:
        try:
            return self._shapes.pixels(annotation, size)
        except ShapeError as error:
            raise self._undrawable(annotation, place, error).error() from error

    def _undrawable(self, annotation: int, place: int, error: ShapeError) -> Problem:
        detail = f"{self._name(annotation, place)} cannot be drawn: {error} Correct or remove it."
        return Problem(error.kind, str(self.annotation_file), detail, str(self._file(place)))

    def _check(self, lists: CocoLists, checks: ObjectChecks, image_places: Int64[np.ndarray, " n"]) -> None:
        """Tell what is wrong with shapes, which training sees when it draws them, and what is doubtful."""
        for number, count in checks.repeated_ids():
            lists.add_problem("duplicate-annotation-id", f"{count} annotations have the id {number}")
        for annotation, place in enumerate(image_places.tolist()):
            if place == NO_LABEL:
                continue
            size = self._images[place].size
            try:
                self._shapes.check(annotation, size)
            except ShapeError as error:
                # That no image has such a size is found elsewhere.
                if min(size) > 0 or error.kind == "wrong-run-length-size":
                    lists.problems.extend([self._undrawable(annotation, place, error)])
                continue
            for kind, detail, box in checks.compare(annotation, size):
                detail = f"{self._name(annotation, place)}: {detail}"
                lists.problems.add(kind, self.annotation_file, detail, self._file(place), box)
        for file_name in lists.unannotated(image_places):
            lists.add_problem("unannotated-image", f"{file_name}: taken for an image in which there is nothing")
        for file in self._finder.unlisted():
            lists.problems.add("unlisted-image", file, "nothing refers to it")


class _Objects:
    """All annotations of a file, those that are refused included, before the ids in them are resolved."""

    def __init__(self, lists: CocoLists) -> None:
        self.shapes = PackedShapes()
        self.checks = ObjectChecks(self.shapes) if lists.problems.thorough else None
        self.category_ids = PackedIds()
        self.image_ids = PackedIds()
        self.is_crowd = bytearray()
        self._refuse = lists.refuse_entry

    def add(self, place: int, entry: Mapping[str, Any]) -> None:
        """Take an entry of `annotations`."""
        image_id, category_id, is_crowd = None, None, False
        kind = "wrong-structure"
        try:
            image_id = read_id(entry, "image_id")
            category_id = read_whole_number(entry, "category_id")
            kind = "odd-iscrowd"
            is_crowd = read_flag(entry, "iscrowd")
            kind = "wrong-structure"
            self.shapes.append(value_of(entry, "segmentation"))
        except ValueError as error:
            self._refuse(kind, image_id, f"annotations[{place}]: {error}")
            self.shapes.append([])
            image_id, category_id = None, None
        self.category_ids.append(category_id)
        self.image_ids.append(image_id)
        self.is_crowd.append(is_crowd)
        if self.checks is not None:
            self.checks.add({} if image_id is None else entry, image_id, category_id)


def open_found(found: Found, *, problems: Problems, void_ids: Collection[int] = ()) -> CocoInstance:
    """Open what was found of a split."""
    return CocoInstance(found.parts["annotations"], found.parts["images"], void_categories=void_ids, problems=problems)


_SPLIT, _ALL = "annotations/instances_{split}.json", "annotations/instances_default.json"
"""CVAT calls what belongs to no split "default"."""

LAYOUTS = [
    Layout(parts={"annotations": annotations, "images": images})
    for annotations, images in (
        ("annotations/instances_{split}2017.json", "{split}2017"),
        (_SPLIT, "{split}"),
        (_SPLIT, "images/{split}"),
        (_SPLIT, "images"),
        ("{split}/_annotations.coco.json", "{split}"),  # Roboflow
        ("{split}/labels.json", "{split}/data"),  # FiftyOne
        (_ALL, "images/default"),
        (_ALL, "images"),
        ("labels.json", "data"),
        ("result.json", "images"),  # Label Studio
        ("instances.json", "images"),
    )
]

FORMATS = (
    Format(
        name="coco_instance",
        summary="COCO's instances: a JSON file with polygons or run lengths; objects may overlap",
        layouts=LAYOUTS,
        open=open_found,
        tasks=("instance",),
        labels="the JSON file",
    ),
)
