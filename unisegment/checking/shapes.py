# SPDX-License-Identifier: Apache-2.0
"""One `segmentation` of a COCO annotation in, what is wrong with it and what it measures out; no mask is drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from unisegment.data.reading.packed_shapes import SHAPE, polygon_numbers, run_lengths_in
from unisegment.ops.json_values import shown
from unisegment.ops.rle import run_lengths
from unisegment.types import Size

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels."""


@dataclass(frozen=True)
class Shape:
    """What can be said of a shape without its image.

    Args:
        box: Smallest box around its polygons; None of run lengths and where there is no polygon with points.
        area: Pixels; None where it is unknown. Polygons that overlap count twice.
        size: Height and width that run lengths say they have; None of polygons.
        problem: Kind of finding and its detail, if something is wrong.
    """

    box: Box | None = None
    area: float | None = None
    size: Size | None = None
    problem: tuple[str, str] | None = None


def inspect_shape(segmentation: Any) -> Shape:
    """Return what a shape measures and what is wrong with it.

    Raises:
        ValueError: When it is neither a list of polygons nor run lengths.
    """
    if isinstance(segmentation, dict):
        return _run_lengths(segmentation)
    if not isinstance(segmentation, list):
        raise ValueError(f"segmentation must be {SHAPE}, got {shown(segmentation)}")
    return _polygons([polygon_numbers(polygon) for polygon in segmentation])


def _polygons(arrays: Sequence[Float64[np.ndarray, " n"]]) -> Shape:
    if not any(array.size for array in arrays):
        return Shape(problem=("empty-annotation", "its segmentation has no points"))
    for array in arrays:
        if array.size % 2 or not np.isfinite(array).all():
            detail = f"a polygon of {array.size} coordinates, {array[:6].tolist()}…"
            return Shape(problem=("bad-polygon", f"{detail}; expected an even number of finite ones"))
    points = np.concatenate(arrays).reshape(-1, 2)
    (x0, y0), (x1, y1) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    areas = [_polygon_area(array.reshape(-1, 2)) for array in arrays]
    problem = None
    for array, area in zip(arrays, areas, strict=True):
        if array.size < 6:
            problem = ("degenerate-polygon", f"a polygon of {array.size // 2} points, {array.tolist()}")
        elif area == 0:
            problem = ("degenerate-polygon", f"a polygon without area, {array[:6].tolist()}…")
    return Shape((x0, y0, x1, y1), sum(areas), problem=problem)


def _polygon_area(points: Float64[np.ndarray, "n 2"]) -> float:
    # The shoelace formula, from the first point, so that large coordinates lose nothing.
    x, y = (points - points[:1]).T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def _run_lengths(segmentation: dict[str, Any]) -> Shape:
    size, counts = run_lengths_in(segmentation)
    try:
        area = int(run_lengths(counts, size)[1::2].sum())
    except ValueError as error:
        return Shape(size=size, problem=("bad-run-lengths", str(error)))
    return Shape(area=area, size=size, problem=None if area else ("empty-annotation", "its run lengths cover no pixel"))
