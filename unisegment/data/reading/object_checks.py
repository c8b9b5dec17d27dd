# SPDX-License-Identifier: Apache-2.0
"""Doubts about annotations of objects: what training accepts, and somebody should look at."""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

from unisegment.data.problems import Box
from unisegment.data.reading.packed_shapes import PackedShapes, polygon_area
from unisegment.ops.json_values import is_number, shown
from unisegment.ops.rle import run_lengths
from unisegment.types import Size

_EDGE = 1.0
"""Pixels that a polygon may reach out of its image: annotators click on its border."""
_BOX_TOLERANCE, _BOX_SHARE = 2.0, 0.05
"""Pixels, and part of its longer side, that a box may be off."""
_AREA_TOLERANCE, _AREA_FACTOR = 100.0, 2.0
"""Pixels and factor that an area may be off."""
_NOTHING = float("nan")


class ObjectChecks:
    """What a file says of each object besides its shape, to be compared with the shape.

    Args:
        shapes: The shapes, one for each object that is added.
    """

    def __init__(self, shapes: PackedShapes) -> None:
        self._shapes = shapes
        self._count_of: dict[Any, int] = {}
        self._boxes = array("d")
        self._areas = array("d")
        self._hashes: set[int] = set()
        self._repeated: set[int] = set()

    def add(self, entry: Mapping[str, Any], image_id: int | str | None, category_id: int | None) -> None:
        """Add the entry of the next object; an empty one for an object that was refused."""
        number = entry.get("id")
        if number is not None:
            number = number if isinstance(number, int | float | str) else shown(number)
            self._count_of[number] = self._count_of.get(number, 0) + 1
        box: Any = entry.get("bbox")
        area: Any = entry.get("area")
        is_box = isinstance(box, list) and len(box) == 4 and all(map(is_number, box))
        self._boxes.extend(map(float, box) if is_box else [_NOTHING] * 4)
        self._areas.append(area if is_number(area) else _NOTHING)
        if image_id is not None:
            content = hash((image_id, category_id, repr(entry["segmentation"])))
            if content in self._hashes:
                self._repeated.add(len(self._areas) - 1)
            self._hashes.add(content)

    def repeated_ids(self) -> Iterator[tuple[Any, int]]:
        """Give each id that several objects have, and how many."""
        return ((number, count) for number, count in self._count_of.items() if count > 1)

    def compare(self, place: int, size: Size) -> Iterator[tuple[str, str, Box | None]]:
        """Give kind and detail of each doubt about an object whose shape can be drawn, and the box of its polygons.

        Args:
            place: Place of the object.
            size: Height and width of its image.
        """
        polygons = self._shapes.polygons(place)
        box = None
        if any(len(polygon) for polygon in polygons):
            points = np.concatenate(polygons).reshape(-1, 2)
            (x0, y0), (x1, y1) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
            box = (x0, y0, x1, y1)
        if place in self._repeated:
            yield "duplicate-annotation", "an annotation before has the same image, category and shape", box
        doubts = self._compare_runs(place, size) if box is None else self._compare_polygons(place, polygons, box, size)
        for kind, detail in doubts:
            yield kind, detail, box

    def _compare_runs(self, place: int, size: Size) -> Iterator[tuple[str, str]]:
        runs = self._shapes.runs(place)
        area = 0.0 if runs is None else float(run_lengths(runs["counts"], size)[1::2].sum())
        if runs is None:
            yield "empty-annotation", "its segmentation has no points"
        elif area == 0:
            yield "empty-annotation", "its run lengths cover no pixel"
        else:
            yield from self._compare_area(place, area)

    def _compare_polygons(
        self, place: int, polygons: Sequence[Float64[np.ndarray, " n"]], box: Box, size: Size
    ) -> Iterator[tuple[str, str]]:
        yield from _compare_with_image(box, size)
        areas = [polygon_area(polygon.reshape(-1, 2)) for polygon in polygons]
        degenerate = _degenerate(polygons, areas)
        if degenerate is not None:
            yield "degenerate-polygon", degenerate
            return
        yield from self._compare_box(place, box)
        yield from self._compare_area(place, sum(areas))

    def _compare_box(self, place: int, box: Box) -> Iterator[tuple[str, str]]:
        given = self._boxes[4 * place : 4 * place + 4]
        if np.isnan(given).any():
            return
        left, top, width, height = given
        tolerance = max(_BOX_TOLERANCE, _BOX_SHARE * max(box[2] - box[0], box[3] - box[1]))
        errors = np.abs(np.subtract((left, top, left + width, top + height), box))
        if not (errors <= tolerance).all():
            found = [round(number, 2) for number in (box[0], box[1], box[2] - box[0], box[3] - box[1])]
            yield "box-disagrees", f"bbox is {[round(number, 2) for number in given]}, its shape's {found}"

    def _compare_area(self, place: int, area: float) -> Iterator[tuple[str, str]]:
        given = self._areas[place]
        low, high = min(given, area), max(given, area)
        # Not a number, where nothing is given, compares as False.
        if high - low > _AREA_TOLERANCE and high > _AREA_FACTOR * low:
            yield "area-disagrees", f"area is {given:.6g}, its shape's {area:.6g}"


def _compare_with_image(box: Box, size: Size) -> Iterator[tuple[str, str]]:
    (x0, y0, x1, y1), (height, width) = box, size
    if max(-x0, -y0, x1 - width, y1 - height) > _EDGE:
        part = "wholly" if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height else "partly"
        x0, y0, x1, y1 = (round(number, 1) for number in box)
        yield "outside-image", f"{part} outside: x {x0} to {x1} of {width}, y {y0} to {y1} of {height}"


def _degenerate(polygons: Sequence[Float64[np.ndarray, " n"]], areas: Sequence[float]) -> str | None:
    for polygon, area in zip(polygons, areas, strict=True):
        if polygon.size < 6:
            return f"a polygon of {polygon.size // 2} points, {polygon.tolist()}"
        if area == 0:
            return f"a polygon without area, {polygon[:6].tolist()}…"
    return None
