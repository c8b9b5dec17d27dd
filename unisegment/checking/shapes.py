# SPDX-License-Identifier: Apache-2.0
"""One `segmentation` of a COCO annotation in, what is wrong with it and what it measures out; no mask is drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

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
        KeyError, TypeError, ValueError: When it is neither a list of polygons nor run lengths.
    """
    return _run_lengths(segmentation) if isinstance(segmentation, Mapping) else _polygons(segmentation)


def _polygons(polygons: Sequence[Sequence[float]]) -> Shape:
    arrays = [np.array(polygon, dtype=np.float64) for polygon in polygons]
    if any(array.ndim != 1 for array in arrays):
        raise TypeError("a polygon must be a list of numbers")
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


def _run_lengths(segmentation: Mapping[str, Any]) -> Shape:
    height, width = (int(length) for length in segmentation["size"])
    counts = segmentation["counts"]
    runs = _uncompress(counts) if isinstance(counts, str) else np.array(counts, dtype=np.int64).reshape(-1)
    if runs is None or (runs < 0).any() or runs.sum() != height * width:
        found = "are no run lengths of COCO's" if runs is None else f"are {len(runs)} runs of {runs.sum()} pixels"
        detail = f"its counts {found}; expected {height}x{width} = {height * width} pixels"
        return Shape(size=(height, width), problem=("bad-run-lengths", detail))
    area = int(runs[1::2].sum())
    problem = None if area else ("empty-annotation", "its run lengths cover no pixel")
    return Shape(area=area, size=(height, width), problem=problem)


def _uncompress(text: str) -> Int64[np.ndarray, " n"] | None:
    """Return run lengths, or None where a text is none.

    Source: the format of pycocotools (BSD-2-Clause): five bits a character, the lowest first, a sixth that says that
    the number goes on, and from the fourth number on the difference to the second last.
    """
    characters = np.frombuffer(text.encode("ascii", "replace"), dtype=np.uint8).astype(np.int64) - 48
    if len(characters) == 0 or characters.min() < 0 or characters.max() > 63 or characters[-1] & 32:
        return None
    is_last = characters & 32 == 0
    starts = np.concatenate([[0], np.flatnonzero(is_last)[:-1] + 1])
    place = np.arange(len(characters)) - np.repeat(starts, np.diff(np.append(starts, len(characters))))
    if place.max() > 6:  # more than 32 bits
        return None
    numbers = np.add.reduceat((characters & 31) << 5 * place, starts)
    last = np.flatnonzero(is_last)
    numbers -= np.where(characters[last] & 16 != 0, np.int64(1) << 5 * (place[last] + 1), 0)
    numbers[1::2] = numbers[1::2].cumsum()
    numbers[2::2] = numbers[2::2].cumsum()
    return numbers
