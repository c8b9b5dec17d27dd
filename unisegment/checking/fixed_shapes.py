# SPDX-License-Identifier: Apache-2.0
"""One `segmentation` of a COCO annotation in, one that training can draw out, and what was changed."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from unisegment.data.reading.packed_shapes import SHAPE, polygon_area, polygon_numbers, run_lengths_in
from unisegment.ops.json_values import shown
from unisegment.ops.rle import run_lengths
from unisegment.types import Size

_DECIMALS = 3
"""Of corners that are made; those that were there keep their numbers."""
_FARTHEST = 1e9
"""Pixels; what is further away, or not finite, is no coordinate."""


class FixedShape(NamedTuple):
    """What became of a shape."""

    segmentation: Any
    """None where nothing is left of it."""
    changes: list[tuple[str, str]]
    """Kind of each problem that was fixed, and what was done."""
    box: list[float] | None = None
    """Left, top, width and height of polygons that were changed, and their area; None where the shape is as it was."""
    area: float | None = None


def fix_shape(segmentation: Any, size: Size) -> FixedShape:
    """Return a shape without what cannot be drawn in an image of a height and width.

    Polygons are cut off at the edge of the image; coordinates that are not finite, the last of an odd number of them,
    and polygons without area are left out. Run lengths that are broken, empty or of another size are left out whole.
    """
    if isinstance(segmentation, dict):
        return _fix_run_lengths(segmentation, size)
    if not isinstance(segmentation, list):
        return FixedShape(None, [("wrong-structure", f"left out: its shape is {shown(segmentation)} and not {SHAPE}")])
    kept: list[Any] = []
    changes: list[tuple[str, str]] = []
    for polygon in segmentation:
        fixed, change = _fix_polygon(polygon, size)
        kept += [] if fixed is None else [fixed]
        changes += [] if change is None else [change]
    if not kept:
        return FixedShape(None, [*changes, ("empty-annotation", "left out: nothing is left to draw")])
    if not changes:
        return FixedShape(segmentation, [])
    points = [np.reshape(polygon, (-1, 2)).astype(np.float64) for polygon in kept]
    low, high = np.concatenate(points).min(axis=0), np.concatenate(points).max(axis=0)
    box = [round(number, _DECIMALS) for number in (*low.tolist(), *(high - low).tolist())]
    return FixedShape(kept, changes, box, round(sum(map(polygon_area, points)), _DECIMALS))


def clip_polygon(points: Float64[np.ndarray, "n 2"], size: Size) -> Float64[np.ndarray, "m 2"]:
    """Return the part of a polygon that lies in an image, as one ring; parts of it may be joined along the edge.

    Args:
        points: Corners (x, y) in pixels.
        size: Height and width of the image.

    Source: Sutherland and Hodgman, Reentrant polygon clipping, 1974.
    """
    height, width = size
    for axis, edge, sign in ((0, 0, 1), (0, width, -1), (1, 0, 1), (1, height, -1)):
        within = sign * (points[:, axis] - edge)
        following, within_following = np.roll(points, -1, axis=0), np.roll(within, -1)
        crosses = (within >= 0) != (within_following >= 0)
        shares = within / np.where(crosses, within - within_following, 1)
        crossings = points + shares[:, None] * (following - points)
        crossings[:, axis] = edge
        # Behind each corner comes where the edge of the image is crossed on the way to the next.
        points = np.stack([points, crossings], axis=1)[np.stack([within >= 0, crosses], axis=1)]
    return points


def _fix_polygon(polygon: Any, size: Size) -> tuple[Any, tuple[str, str] | None]:
    """Return a polygon, or None where nothing is left of it, and what was changed."""
    try:
        numbers = polygon_numbers(polygon)
    except ValueError as error:
        return None, ("bad-polygon", f"a polygon was left out: {error}")
    points = numbers[: len(numbers) // 2 * 2].reshape(-1, 2)
    points = points[(np.abs(points) < _FARTHEST).all(axis=1)]
    change = None
    if points.size < numbers.size:
        change = ("bad-polygon", f"{numbers.size - points.size} of {numbers.size} coordinates were left out")
    if len(points) < 3 or polygon_area(points) == 0:
        return None, change or ("degenerate-polygon", f"a polygon of {len(points)} points without area was left out")
    clipped = points
    if (points < 0).any() or (points > (size[1], size[0])).any():
        clipped = clip_polygon(points, size).round(_DECIMALS)
        if len(clipped) < 3 or polygon_area(clipped) == 0:
            return None, ("outside-image", f"a polygon of {len(points)} points outside of the image was left out")
        change = ("outside-image", f"a polygon was cut off: {_reach(points)} became {_reach(clipped)}")
    return polygon if change is None else clipped.reshape(-1).tolist(), change


def _fix_run_lengths(segmentation: dict[str, Any], size: Size) -> FixedShape:
    try:
        of, counts = run_lengths_in(segmentation)
        area = int(run_lengths(counts, of)[1::2].sum())
    except ValueError as error:
        return FixedShape(None, [("bad-run-lengths", f"left out: {error}")])
    if of != size:
        says = f"left out: its run lengths are {of[0]}x{of[1]}, the image is {size[0]}x{size[1]} (height x width)"
        return FixedShape(None, [("wrong-run-length-size", says)])
    if area == 0:
        return FixedShape(None, [("empty-annotation", "left out: its run lengths cover no pixel")])
    return FixedShape(segmentation, [])


def _reach(points: Float64[np.ndarray, "n 2"]) -> str:
    (x0, y0), (x1, y1) = points.min(axis=0).round(2).tolist(), points.max(axis=0).round(2).tolist()
    return f"x {x0:g} to {x1:g}, y {y0:g} to {y1:g}"
