# SPDX-License-Identifier: Apache-2.0
"""A folder in COCO's panoptic format in, annotated images out.

The format has one JSON file with the images, the categories and the segments of each image, and for each image a PNG
file whose colours are segment ids: red + 256 green + 65536 blue, 0 for void. ADE20K (as the original's script writes
it), Cityscapes (as cityscapesScripts writes it) and Mapillary Vistas 1.2 come in it, too, and what CVAT exports as COCO
Panoptic.

Source: for the layout of exports, CVAT (https://docs.cvat.ai/docs/dataset_management/formats/format-coco/,
https://open-edge-platform.github.io/datumaro/latest/docs/data-formats/formats/coco.html).
"""

from array import array
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
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
from unisegment.data.reading.image_reading import ImageReading
from unisegment.data.reading.packed_columns import PackedIds, PackedTexts, smallest
from unisegment.data.reading.panoptic_maps import map_problems
from unisegment.ops.json_values import read_each, read_flag, read_id, read_text, read_whole_number, value_of
from unisegment.ops.masks import NUM_COLORS, rgb_to_ids
from unisegment.structures import Sample, SegmentationTarget

_HINT = "This must be COCO's panoptic format: a detection file will not do."
_SHOWN = 5


class CocoPanoptic(AnnotatedImages):
    """The images of a COCO panoptic data set, in the order of its annotations.

    The JSON file is gone through once and kept in arrays, a few bytes for each segment, which the worker processes of a
    data loader share. Images are read and checked when they are asked for. Labels are the places of the categories in
    the order of their ids.

    Args:
        annotation_file: The JSON file.
        image_dir: Folder of the images; see `ImageFinder` for what the names of files mean.
        panoptic_dir: Folder of the PNG files.
        void_categories: Ids of categories that are no label; pixels of their segments are void.
        hidden_segments: Segments may be listed of which no pixel is to be seen. They are kept, as in the original.
        problems: Where to tell what is wrong; None raises at the first error. Images with an annotation that cannot be
            used are left out; where all problems are wanted, they are refused when they are asked for.

    Raises:
        DataError: When the JSON file is not there, or is not in COCO's panoptic format.
        ValueError: When all categories are void.
    """

    tells_at_opening = True

    def __init__(
        self,
        annotation_file: str | Path,
        image_dir: str | Path,
        panoptic_dir: str | Path,
        *,
        void_categories: Collection[int] = (),
        hidden_segments: bool = False,
        problems: Problems | None = None,
    ) -> None:
        self.annotation_file = Path(annotation_file)
        self.image_dir = Path(image_dir)
        self.panoptic_dir = Path(panoptic_dir)
        self.hidden_segments = hidden_segments
        lists = CocoLists(self.annotation_file, problems or Problems(), _HINT)
        segments = _Segments(lists)
        lists.read(segments.add)
        super().__init__(without_void(lists.categories(segments.category_ids.distinct()), void_categories))
        self.void_ids = frozenset(void_categories)
        self._images = lists.images
        self._map_files = segments.files
        self._segment_ids = smallest(np.array(segments.ids, dtype=np.int64))
        self._bounds = smallest(np.array(segments.bounds, dtype=np.int64))
        self._is_crowd = np.frombuffer(segments.is_crowd, dtype=np.bool_)
        image_places = lists.places_of(segments.image_ids)
        labels, unknown = lists.labels_of(segments.category_ids, self.label_of, void_categories)
        self._labels = smallest(labels)
        self._image_finder = ImageFinder(self.image_dir, self._images.files)
        self._map_finder = ImageFinder(self.panoptic_dir, self._map_files)
        for segment in unknown:
            annotation = int(np.searchsorted(self._bounds, segment, side="right")) - 1
            place, number = image_places[annotation], segments.category_ids[segment]
            if place != NO_LABEL:
                detail = f"{self._name(annotation)}: a segment is of the category {number}, which is not listed."
                lists.refuse(place, "unknown-category", detail, self._image_finder.find(self._images.files[place]))
        if lists.problems.thorough:
            self._check(lists, image_places)
        is_usable = image_places >= 0
        if not lists.problems.thorough:
            is_usable &= ~np.isin(image_places, [*lists.refused])
        # Of annotations, those that are samples; and of all annotations, the images.
        self._annotations = smallest(np.flatnonzero(is_usable))
        self._places = smallest(image_places)
        self._refused = lists.refused

    def __len__(self) -> int:
        return len(self._annotations)

    def __getitem__(self, index: int) -> Sample:
        """Return one annotated image.

        Raises:
            FileNotFoundError: When the image or its PNG file is missing.
            ValueError: When one of them cannot be read, or does not agree with the JSON file.
        """
        annotation = int(self._annotations[index])
        place = int(self._places[annotation])
        if place in self._refused:
            raise self._refused[place].error()
        image_id, file_name, size = self._images[place]
        image_file = self._image_finder.find(file_name)
        map_file = self._map_finder.find(self._map_files[annotation])
        image = read_listed_image(image_file, self.reading)
        id_map = rgb_to_ids(read_listed_image(map_file, ImageReading(self.reading.exif), "missing-label-map"))
        for file, pixels in ((image_file, image), (map_file, id_map)):
            check_size(file, pixels.shape[:2], size, self.annotation_file)
        segments = slice(*self._bounds[annotation : annotation + 2])
        segment_ids = self._segment_ids[segments].tolist()
        for problem in (
            *self._listing_problems(annotation),
            *map_problems(map_file, id_map, segment_ids, self.annotation_file, self.hidden_segments),
        ):
            raise problem.error()
        target = SegmentationTarget(
            labels=torch.from_numpy(self._labels[segments].astype(np.int64)),
            id_map=torch.from_numpy(id_map),
            segment_ids=torch.tensor(segment_ids, dtype=torch.int32),
            is_crowd=torch.tensor(self._is_crowd[segments]),
        )
        target = target.select(target.labels >= 0)
        return Sample(image, image_id, str(image_file), target=target)

    def files(self, index: int) -> SampleFiles:
        """Return the image and the PNG file of a sample, their size and the segment ids."""
        annotation = int(self._annotations[index])
        _, file_name, size = self._images[int(self._places[annotation])]
        return SampleFiles(
            self._image_finder.find(file_name),
            self._map_finder.find(self._map_files[annotation]),
            source=self.annotation_file,
            size=size,
            segment_ids=self._segment_ids[slice(*self._bounds[annotation : annotation + 2])].tolist(),
        )

    def labels_in(self, index: int) -> set[int]:
        """Return the labels of which an image has a segment that is no crowd, from the JSON file alone."""
        annotation = int(self._annotations[index])
        segments = slice(*self._bounds[annotation : annotation + 2])
        labels = self._labels[segments]
        return {*labels[(labels >= 0) & ~self._is_crowd[segments]].tolist()}

    def _name(self, annotation: int) -> str:
        return f"annotations[{annotation}] of {self._map_files[annotation]}"

    def _listing_problems(self, annotation: int) -> list[Problem]:
        """Return what is wrong with the ids that are listed for an image, whatever its PNG file holds."""
        numbers = self._segment_ids[slice(*self._bounds[annotation : annotation + 2])].tolist()
        problems = []
        too_large = [number for number in numbers if not 0 < number < NUM_COLORS]
        if too_large:
            detail = f"it lists the ids {too_large[:_SHOWN]}; PNG files hold 1 to {NUM_COLORS - 1}, and 0 is void."
            problems.append(("id-too-large", detail))
        if len(set(numbers)) < len(numbers):
            repeated = [number for number, count in Counter(numbers).items() if count > 1]
            problems.append(("duplicate-segment-id", f"it lists the ids {repeated[:_SHOWN]} more than once."))
        name = self._name(annotation)
        return [Problem(kind, str(self.annotation_file), f"{name}: {detail}") for kind, detail in problems]

    def _check(self, lists: CocoLists, image_places: Int64[np.ndarray, " n"]) -> None:
        """Tell what is wrong with listed ids, which training sees beside the PNG files, and what is doubtful."""
        annotations_of: dict[int, list[str]] = {}
        for annotation, place in enumerate(image_places.tolist()):
            if place != NO_LABEL:
                lists.problems.extend(self._listing_problems(annotation))
                annotations_of.setdefault(place, []).append(self._map_files[annotation])
        for place, files in annotations_of.items():
            if len(files) > 1:
                detail = f"{self._images.files[place]} is annotated {len(files)} times: {', '.join(files[:_SHOWN])}"
                lists.add_problem("duplicate-annotation", detail)
        for file_name in lists.unannotated(image_places):
            lists.add_problem("unannotated-image", f"{file_name} is left out")
        for finder, kind in ((self._image_finder, "unlisted-image"), (self._map_finder, "unlisted-label-map")):
            for file in finder.unlisted():
                lists.problems.add(kind, file, "nothing refers to it")


class _Segments:
    """All annotations of a file, those that are refused included, before the ids in them are resolved."""

    def __init__(self, lists: CocoLists) -> None:
        self.image_ids = PackedIds()
        self.files = PackedTexts()
        self.bounds = array("q", [0])
        self.ids = array("q")
        self.category_ids = PackedIds()
        self.is_crowd = bytearray()
        self._refuse = lists.refuse_entry
        self._kind = ""
        self._segments: list[tuple[int, int, bool]] = []

    def add(self, place: int, entry: Mapping[str, Any]) -> None:
        """Take an entry of `annotations`."""
        image_id, file_name = None, ""
        self._segments.clear()
        self._kind = "wrong-structure"
        try:
            image_id = read_id(entry, "image_id")
            file_name = read_text(entry, "file_name")
            read_each(value_of(entry, "segments_info"), "segments_info", self._add_segment)
        except ValueError as error:
            self._refuse(self._kind, image_id, f"annotations[{place}]: {error}")
            self._segments.clear()
            image_id = None
        for number, category_id, is_crowd in self._segments:
            self.ids.append(number)
            self.category_ids.append(category_id)
            self.is_crowd.append(is_crowd)
        self.bounds.append(len(self.ids))
        self.image_ids.append(image_id)
        self.files.append(file_name)

    def _add_segment(self, segment: Mapping[str, Any]) -> None:
        number, category_id = read_whole_number(segment, "id"), read_whole_number(segment, "category_id")
        self._kind = "odd-iscrowd"
        self._segments.append((number, category_id, read_flag(segment, "iscrowd")))
        self._kind = "wrong-structure"


def open_found(found: Found, *, problems: Problems, void_ids: Collection[int] = ()) -> CocoPanoptic:
    """Open what was found of a split; PNG files lie in the folder that is named as the JSON file, unless it says."""
    annotations = found.parts["annotations"]
    panoptic_dir = found.parts.get("segments", annotations.with_suffix(""))
    settings = dict(found.settings)
    void_categories = {*settings.pop("void_categories", ()), *void_ids}
    return CocoPanoptic(
        annotations,
        found.parts["images"],
        panoptic_dir,
        void_categories=void_categories,
        problems=problems,
        **settings,
    )


LAYOUTS = [
    Layout(parts={"annotations": annotations, "images": images, "segments": segments})
    for annotations, images, segments in (
        *(
            (f"annotations/panoptic_{name}.json", images, f"{folder}panoptic_{name}")
            for name, images in (
                ("{split}2017", "{split}2017"),
                ("{split}", "{split}"),
                ("{split}", "images/{split}"),  # CVAT, as the next
                ("default", "images/default"),
            )
            for folder in ("annotations/", "")
        ),
        ("panoptic.json", "images", "panoptic"),
    )
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
