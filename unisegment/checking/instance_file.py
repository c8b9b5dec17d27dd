# SPDX-License-Identifier: Apache-2.0
"""A file in COCO's instance format in, everything that is wrong with it out, and the files that it names.

Other than the reader, which stops at what it cannot use, this goes on and names all of it. A few numbers are kept of
each annotation, never its shape.
"""

from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from unisegment.checking.entries import Entries
from unisegment.checking.entry_lists import CategoryList, ImageList, check_flag, read_lists, repeated
from unisegment.checking.shapes import Box, inspect_shape
from unisegment.data.problems import CollectedProblems
from unisegment.data.reading.packed_shapes import check_polygon
from unisegment.ops.json_values import is_number, read_id, read_whole_number, shown, value_of
from unisegment.types import Size

_EDGE = 1.0
"""Pixels that a polygon may reach out of its image: annotators click on its border."""
_BOX_TOLERANCE, _BOX_SHARE = 2.0, 0.05
"""Pixels, and part of its longer side, that a box may be off."""
_AREA_TOLERANCE, _AREA_FACTOR = 100.0, 2.0
"""Pixels and factor that an area may be off."""
_NO_BOX: Box = (float("nan"),) * 4


def check_instance_file(file: Path, image_dir: Path, findings: CollectedProblems) -> Entries:
    """Note what is wrong with a file, and return which images it lists."""
    scan = _Scan(file, findings)
    readers = {"categories": scan.categories.add, "images": scan.images.add, "annotations": scan.add_annotation}
    with np.errstate(all="ignore"):  # coordinates may be anything
        read_lists(file, readers, ("categories", "images"), findings)
        return scan.finish(image_dir)


class _Scan:
    def __init__(self, file: Path, findings: CollectedProblems) -> None:
        self.file = file
        self.findings = findings
        self.categories = CategoryList(file, findings)
        self.images = ImageList(file, findings)
        self._places = array("q")
        self._ids: list[Any] = []
        self._image_ids: list[Any] = []
        self._category_ids: list[Any] = []
        self._boxes = array("d")
        self._run_sizes = array("q")
        self._hashes = array("q")

    def add_annotation(self, place: int, entry: Mapping[str, Any]) -> None:
        """Take one entry of `annotations`."""
        image_id, category_id = read_id(entry, "image_id"), read_whole_number(entry, "category_id")
        shape = inspect_shape(value_of(entry, "segmentation"))
        self._places.append(place)
        number = entry.get("id")
        self._ids.append(number if number is None or isinstance(number, int | float | str) else shown(number))
        self._image_ids.append(image_id)
        self._category_ids.append(category_id)
        self._boxes.extend(shape.box or _NO_BOX)
        self._run_sizes.extend(shape.size or (0, 0))
        self._hashes.append(hash((image_id, category_id, repr(entry["segmentation"]))))
        name = f"annotations[{place}] (id {shown(number)}, image {image_id})"
        if shape.problem is not None:
            kind, detail = shape.problem
            self.findings.add(kind, self.file, f"{name}: {detail}")
        check_flag(entry, "iscrowd", name, self.file, self.findings)
        if shape.problem is None and shape.box is not None:
            self._compare_box(name, entry.get("bbox"), shape.box)
        if shape.problem is None and shape.area is not None:
            self._compare_area(name, entry.get("area"), shape.area)

    def finish(self, image_dir: Path) -> Entries:
        """Note what only shows when everything is known."""
        place_of = self.images.finish()
        for number, places in repeated([number for number in self._ids if number is not None]).items():
            detail = f"{len(places)} annotations have the id {number}"
            self.findings.add("duplicate-annotation-id", self.file, detail)
        images = np.array([place_of.get(number, -1) for number in self._image_ids], dtype=np.int64)
        self._check_unknown(images)
        self._check_sizes(images)
        self._check_repeated_shapes(images)
        counts = np.bincount(images[images >= 0], minlength=len(self.images.ids))
        for place in np.flatnonzero(counts == 0).tolist():
            detail = f"{self.images.files[place]}: taken for an image in which there is nothing"
            self.findings.add("unannotated-image", self.file, detail)
        return Entries(
            image_dir=image_dir,
            images=np.array(self.images.files, dtype=np.str_),
            source=self.file,
            sizes=np.array(self.images.sizes, dtype=np.int32).reshape(-1, 2),
            num_annotations=counts,
        )

    def _compare_box(self, name: str, given: Any, box: Box) -> None:
        if not isinstance(given, list) or len(given) != 4 or not all(map(is_number, given)):
            return
        left, top, width, height = given
        tolerance = max(_BOX_TOLERANCE, _BOX_SHARE * max(box[2] - box[0], box[3] - box[1]))
        errors = np.abs(np.subtract((left, top, left + width, top + height), box))
        if not (errors <= tolerance).all():
            found = [round(number, 2) for number in (box[0], box[1], box[2] - box[0], box[3] - box[1])]
            self.findings.add("box-disagrees", self.file, f"{name}: bbox is {given}, its shape's {found}")

    def _compare_area(self, name: str, given: Any, area: float) -> None:
        if not is_number(given):
            return
        low, high = sorted((given, area))
        if not (high - low <= _AREA_TOLERANCE or high <= _AREA_FACTOR * low):
            self.findings.add("area-disagrees", self.file, f"{name}: area is {given}, its shape's {area:.6g}")

    def _check_unknown(self, images: Int64[np.ndarray, " n"]) -> None:
        for place in np.flatnonzero(images < 0).tolist():
            self.findings.add("unknown-image", self.file, f"{self._name(place)}: no image has the id of this one")
        for place, number in enumerate(self._category_ids):
            if number not in self.categories.names:
                self.findings.add("unknown-category", self.file, f"{self._name(place)}: there is no category {number}")

    def _check_sizes(self, images: Int64[np.ndarray, " n"]) -> None:
        sizes = np.array([*self.images.sizes, (0, 0)], dtype=np.int64)[images]
        runs = np.array(self._run_sizes, dtype=np.int64).reshape(-1, 2)
        is_wrong = (images >= 0) & runs.any(axis=1) & (runs != sizes).any(axis=1)
        for place in np.flatnonzero(is_wrong).tolist():
            detail = f"its size is {runs[place].tolist()}, that of the image {sizes[place].tolist()} (height, width)"
            self.findings.add("wrong-run-length-size", self.file, f"{self._name(place, images)}: {detail}")
        boxes = np.array(self._boxes, dtype=np.float64).reshape(-1, 4)
        beyond = np.maximum(-boxes[:, :2], boxes[:, 2:] - sizes[:, ::-1])
        # Not a number, where there is no box, compares as False.
        for place in np.flatnonzero((images >= 0) & (beyond > _EDGE).any(axis=1)).tolist():
            x0, y0, x1, y1 = boxes[place].round(1).tolist()
            height, width = sizes[place].tolist()
            too_far = _too_far(boxes[place], (height, width))
            if too_far:
                self.findings.add("bad-polygon", self.file, f"{self._name(place, images)}: {too_far}")
                continue
            part = "wholly" if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height else "partly"
            detail = f"{part} outside: x {x0} to {x1} of {width}, y {y0} to {y1} of {height}"
            self.findings.add("outside-image", self.file, f"{self._name(place, images)}: {detail}")

    def _check_repeated_shapes(self, images: Int64[np.ndarray, " n"]) -> None:
        hashes = np.array(self._hashes, dtype=np.int64)
        order = hashes.argsort(kind="stable")
        for place in np.sort(order[1:][hashes[order[1:]] == hashes[order[:-1]]]).tolist():
            detail = "an annotation before has the same image, category and shape"
            self.findings.add("duplicate-annotation", self.file, f"{self._name(place, images)}: {detail}")

    def _name(self, place: int, images: Int64[np.ndarray, " n"] | None = None) -> str:
        image = f"image {self._image_ids[place]}" if images is None else self.images.files[images[place]]
        return f"annotations[{self._places[place]}] (id {self._ids[place]}, {image})"


def _too_far(box: Float64[np.ndarray, "4"], size: Size) -> str | None:
    """Say why a polygon with this box cannot be drawn, if so; that no image has such a size is found elsewhere."""
    try:
        check_polygon(box, size)
    except ValueError as error:
        return str(error) if min(size) > 0 else None
    return None
