# SPDX-License-Identifier: Apache-2.0
"""Segments in; the polygons around them out, whose corners are corners of pixels, so that they are exact.

Borders are traced on all segments of a map together. An edge is a straight piece of a border, as long as it goes; it
has its segment on the right hand, so that outer rings go clockwise in the picture, and holes the other way.
"""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Int64, Integer, Shaped

from unisegment.ops.column_runs import box_of_mask
from unisegment.ops.masks import segment_index_maps
from unisegment.structures import SegmentationTarget
from unisegment.types import Size

Ring: TypeAlias = Int64[np.ndarray, "p 2"]
"""Corners (x, y) in pixels, of which the last one is joined to the first. (0, 0) is the outer corner of the first pixel
of the image, (width, height) that of the last."""
Polygon: TypeAlias = list[Ring]
"""The outer ring, clockwise in the picture, and then the holes in it, anticlockwise."""


def polygons_of_segments(target: SegmentationTarget, tolerance: float = 0.0) -> list[list[Polygon]]:
    """Return the polygons of each segment of a target in the memory of the processor.

    Each group of pixels that touch along edges is one polygon; pixels that touch at a corner belong to two. To fill
    outer rings and leave out holes, or to fill all rings by the even-odd rule, gives back the mask.

    Args:
        target: Segments, which may overlap.
        tolerance: Pixels that a border may be moved by to need fewer corners. 0 is exact, 1 makes stairs straight. Each
            ring is simplified by itself: neighbours may then overlap a little or leave gaps.

    Returns:
        The polygons of one segment after the other; none for an empty segment.

    Raises:
        ValueError: When `tolerance` is below 0.
    """
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be 0 pixels or more, got {tolerance}.")
    if target.masks is None:
        of_maps = (_trace(index_map.numpy(), len(target)) for index_map in segment_index_maps(target))
        # A segment is in one of the maps.
        polygons = [[*chain.from_iterable(parts)] for parts in zip(*of_maps, strict=True)]
    else:
        polygons = [_trace_mask(mask) for mask in target.masks.numpy()]
    if tolerance == 0:
        return polygons
    return [[[simplify(ring, tolerance) for ring in polygon] for polygon in group] for group in polygons]


def simplify(ring: Shaped[np.ndarray, "p 2"], tolerance: float) -> Shaped[np.ndarray, "q 2"]:
    """Return some corners of a ring, so that no corner left out is further than `tolerance` from the new border.

    A ring that would have less than three corners stays as it is.

    Source: Douglas and Peucker, Algorithms for the reduction of the number of points, 1973.
    """
    points = ring.astype(np.float64) @ [1, 1j]
    closed = np.append(points, points[0])
    middle = int(np.abs(closed - closed[0]).argmax())
    kept, pieces = {0, middle}, [(0, middle), (middle, len(ring))]
    while pieces:
        first, last = pieces.pop()
        if last - first < 2:
            continue
        ways, line = closed[first + 1 : last] - closed[first], closed[last] - closed[first]
        shares = (ways * line.conjugate()).real / max(abs(line) ** 2, 1e-9)
        distances = np.abs(ways - np.minimum(np.maximum(shares, 0), 1) * line)
        farthest = int(distances.argmax())
        if distances[farthest] > tolerance:
            corner = first + 1 + farthest
            kept.add(corner)
            pieces += [(first, corner), (corner, last)]
    return ring[sorted(kept)] if len(kept) > 2 else ring


def _trace_mask(mask: Bool[np.ndarray, "h w"]) -> list[Polygon]:
    rows, columns = box_of_mask(mask)
    (polygons,) = _trace(mask[rows, columns].view(np.int8) - 1, 1)
    corner = np.array([columns.start, rows.start])
    return [[ring + corner for ring in polygon] for polygon in polygons]


def _trace(index_map: Integer[np.ndarray, "h w"], num_segments: int) -> list[list[Polygon]]:
    """Return the polygons of each segment of a map of their numbers, where void is -1."""
    if not (index_map >= 0).any():
        return [[] for _ in range(num_segments)]
    height, width = index_map.shape
    padded = np.pad(index_map, 1, constant_values=-1)
    lower, upper = _borders(padded)
    right, left = (borders.transposed((width, height)) for borders in _borders(np.ascontiguousarray(padded.T)))
    # With the segment on the right hand, upper borders lead east and lower ones west, right south and left north.
    level, upright = _edges(upper, lower), _edges(right, left)
    # Where two pixels touch at a corner alone, two borders pass. Both turn right there, each around its own pixel.
    after_level = _matched(2 * level.heads + level.is_back, 2 * upright.tails + upright.is_back)
    after_upright = _matched(2 * upright.heads + upright.is_back, 2 * level.tails + ~level.is_back)
    order, ends = _cycles(after_upright[after_level].tolist())
    corners = np.stack([level.tails[order], level.heads[order]], axis=1)
    rows, columns = corners // (width + 1) % (height + 1), corners % (width + 1)

    ring_of_level = np.empty_like(order)
    ring_of_level[order] = np.arange(len(ends)).repeat(np.diff(ends, prepend=0))
    neighbors = _rings_above(
        lower, ring_of_level[level.is_back], left, ring_of_level[after_upright[upright.is_back]], width
    )
    areas = np.add.reduceat(rows[:, 0] * (columns[:, 0] - columns[:, 1]), np.append(0, ends[:-1]))
    outer_rings = np.where(areas > 0, np.arange(len(ends)), neighbors)
    while (areas[outer_rings] < 0).any():
        outer_rings = outer_rings[outer_rings]

    segments = corners[ends - 1, 0] // ((height + 1) * (width + 1))
    rings = np.split(np.stack([columns.ravel(), rows.ravel()], axis=1), 2 * ends[:-1])
    return _grouped(rings, outer_rings.tolist(), segments.tolist(), num_segments)


def _grouped(
    rings: Sequence[Ring], outer_rings: Sequence[int], segments: Sequence[int], num_segments: int
) -> list[list[Polygon]]:
    """Return the polygons of each segment.

    Args:
        rings: An outer ring comes before its holes, as it begins above them.
        outer_rings: Place of the outer ring of each hole; of an outer ring its own.
        segments: Segment of each ring.
        num_segments: Number of segments.
    """
    polygons: list[list[Polygon]] = [[] for _ in range(num_segments)]
    polygon_of: dict[int, Polygon] = {}
    for place, (ring, outer_ring) in enumerate(zip(rings, outer_rings, strict=True)):
        if outer_ring == place:
            polygon_of[place] = []
            polygons[segments[place]].append(polygon_of[place])
        polygon_of[outer_ring].append(ring)
    return polygons


class _Borders(NamedTuple):
    """Straight pieces of the borders on one side of segments, each as long as it goes, in order.

    A corner of a pixel has a number: (segment * (h + 1) + y) * (w + 1) + x.

    Args:
        starts: The corner where each piece begins, from the left or from above.
        ends: The corner where it ends.
        units: The corner where the part of each pixel begins.
        of_units: The piece that each of these parts belongs to.
    """

    starts: Int64[np.ndarray, " e"]
    ends: Int64[np.ndarray, " e"]
    units: Int64[np.ndarray, " u"]
    of_units: Int64[np.ndarray, " u"]

    def transposed(self, size: Size) -> "_Borders":
        """Return them with the numbers of corners that the transposed map has; `size` is that of this map."""
        starts, ends, units = (_turn(corners, size) for corners in (self.starts, self.ends, self.units))
        return _Borders(starts, ends, units, self.of_units)


class _Edges(NamedTuple):
    """Borders from tail to head; those that lead back, west or north, come last."""

    tails: Int64[np.ndarray, " e"]
    heads: Int64[np.ndarray, " e"]
    is_back: Bool[np.ndarray, " e"]


def _borders(padded: Integer[np.ndarray, "_ _"]) -> tuple[_Borders, _Borders]:
    """Return the lower and the upper borders of the segments of a map that has void around it."""
    height, width = (length - 2 for length in padded.shape)
    above, below = padded[:-1, 1:-1], padded[1:, 1:-1]
    rows, columns = np.divmod(np.flatnonzero(above != below), max(width, 1))
    places = rows * (width + 1) + columns
    lower, upper = (
        _pieces(segments * ((height + 1) * (width + 1)) + places, segments >= 0)
        for segments in (side[rows, columns].astype(np.int64) for side in (above, below))
    )
    return lower, upper


def _pieces(units: Int64[np.ndarray, " v"], is_border: Bool[np.ndarray, " v"]) -> _Borders:
    units = np.sort(units[is_border])
    is_start = np.diff(units, prepend=-2) != 1
    starts = np.flatnonzero(is_start)
    ends = np.append(starts[1:], len(units)) - 1
    return _Borders(units[starts], units[ends] + 1, units, is_start.cumsum() - 1)


def _turn(corners: Int64[np.ndarray, " e"], size: Size) -> Int64[np.ndarray, " e"]:
    height, width = size
    lines, x = np.divmod(corners, width + 1)
    segments, y = np.divmod(lines, height + 1)
    return (segments * (width + 1) + x) * (height + 1) + y


def _edges(forth: _Borders, back: _Borders) -> _Edges:
    tails, heads = np.concatenate([forth.starts, back.ends]), np.concatenate([forth.ends, back.starts])
    return _Edges(tails, heads, np.arange(len(tails)) >= len(forth.starts))


def _matched(keys: Int64[np.ndarray, " e"], others: Int64[np.ndarray, " e"]) -> Int64[np.ndarray, " e"]:
    """Return the place of each key among the same keys in another order."""
    places = np.empty_like(keys)
    places[keys.argsort()] = others.argsort()
    return places


def _cycles(successors: Sequence[int]) -> tuple[Int64[np.ndarray, " e"], Int64[np.ndarray, " r"]]:
    """Return all places, cycle by cycle, and where each cycle ends."""
    is_new, order, ends = bytearray(b"\1") * len(successors), [], []
    for place in range(len(successors)):
        if is_new[place]:
            while is_new[place]:
                is_new[place] = 0
                order.append(place)
                place = successors[place]
            ends.append(len(order))
    return np.array(order), np.array(ends)


def _rings_above(
    lower: _Borders,
    ring_of_lower: Int64[np.ndarray, " e"],
    left: _Borders,
    ring_of_left: Int64[np.ndarray, " f"],
    width: int,
) -> Int64[np.ndarray, " r"]:
    """Return for each ring another one of the same polygon that begins above, if it is a hole.

    In the row above a hole's highest border there are pixels of its segment, and what bounds these on the left is
    either the outer ring or a hole that begins higher.
    """
    _, highest = np.unique(ring_of_lower, return_index=True)
    order = left.units.argsort()
    nearest = np.searchsorted(left.units, lower.starts[highest] - (width + 1), side="right", sorter=order) - 1
    return ring_of_left[left.of_units[order[nearest]]]
