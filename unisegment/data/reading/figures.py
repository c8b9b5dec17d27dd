# SPDX-License-Identifier: Apache-2.0
"""The figures of Supervisely's JSON files in, the pixels inside them out.

Coordinates are lines between pixels, as in all polygons here: (0, 0) is the outer corner of the first pixel. Files do
not say whether theirs are, as in the labelling tool, or places of pixels, as in Supervisely's SDK: half a pixel.

Source:
    developer.supervisely.com, Supervisely annotation format, objects.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64

from unisegment.data.reading.encoded_masks import pixels_of_encoded_mask
from unisegment.data.reading.packed_shapes import PackedShapes
from unisegment.ops.json_values import is_number, shown, value_of
from unisegment.types import Size

KIND_OF_SHAPE = {
    "polygon": "bad-polygon",
    "multipolygon": "bad-polygon",
    "rectangle": "bad-polygon",
    "bitmap": "bad-bitmap",
}
"""Kind of the problem where a figure of a shape cannot be drawn. Other shapes (points, lines, graphs) have no area."""


def with_area(figures: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    """Give the figures of a list that have an area, each with its place in the list."""
    return ((place, figure) for place, figure in enumerate(figures) if figure["geometryType"] in KIND_OF_SHAPE)


def pixels_of_figure(figure: Any, size: Size) -> Int64[np.ndarray, " p"]:
    """Return the pixels inside a figure, each once, as places in the image read row by row.

    What of a polygon or rectangle is outside of the image is cut off.

    Args:
        figure: An object of the JSON file, with an area; the pixels of its holes (`interior`) are outside.
        size: Height and width of the image.

    Raises:
        ValueError: When it is not as its shape must be, or far outside of the image, or a bitmap outside at all.
    """
    shape = figure["geometryType"]
    if shape == "bitmap":
        bitmap = value_of(figure, "bitmap")
        text, corner = value_of(bitmap, "data"), value_of(bitmap, "origin")
        return pixels_of_encoded_mask(text, corner, size)
    if shape == "multipolygon":
        parts = _list(value_of(figure, "parts"), "parts")
        return np.unique(np.concatenate([np.zeros(0, np.int64), *(_polygon(part, size) for part in parts)]))
    points = value_of(figure, "points")
    return _rectangle(points, size) if shape == "rectangle" else _polygon(points, size)


def _rectangle(points: Any, size: Size) -> Int64[np.ndarray, " p"]:
    corners = _ring(value_of(points, "exterior"))
    if len(corners) != 4:
        raise ValueError(f"the exterior of a rectangle must be two points, got {len(corners) // 2}")
    (left, right), (top, bottom) = sorted(corners[::2]), sorted(corners[1::2])
    return _filled([[left, top, right, top, right, bottom, left, bottom]], size)


def _polygon(points: Any, size: Size) -> Int64[np.ndarray, " p"]:
    inside = _filled([_ring(value_of(points, "exterior"))], size)
    holes = [_ring(hole) for hole in _list(value_of(points, "interior", []), "interior")]
    return np.setdiff1d(inside, _filled(holes, size)) if holes else inside


def _filled(polygons: list[list[float]], size: Size) -> Int64[np.ndarray, " p"]:
    shapes = PackedShapes()
    shapes.append(polygons)
    return shapes.pixels(0, size)


def _ring(points: Any) -> list[float]:
    """Return the coordinates of points [[x, y], …] one behind the other."""
    for point in _list(points, "a ring of points"):
        if not isinstance(point, list) or len(point) != 2 or not all(map(is_number, point)):
            raise ValueError(f"a point must be two finite numbers [x, y], got {shown(point)}")
    return [float(number) for point in points for number in point]


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{name} must be a list, got {shown(value)}")
    return value
