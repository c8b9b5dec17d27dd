# SPDX-License-Identifier: Apache-2.0
"""Segments in; for each one a single polygon out, or one for each of its pieces, for formats that hold no holes.

Rings are joined by bridges: there and back on the same line, between corners that are near each other. A bridge has no
width, so to fill the polygon by the even-odd rule gives back the pixels, holes and pieces included.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.spatial import cKDTree

from unisegment.ops.polygons import Polygon, Ring, polygons_of_segments
from unisegment.structures import SegmentationTarget


def outlines_of_segments(target: SegmentationTarget) -> Iterator[list[Ring]]:
    """Give for each segment the outline of each of its pieces: holes are joined to what is around them."""
    for polygons in polygons_of_segments(target):
        yield [joined(polygon) for polygon in polygons]


def joined(rings: Sequence[Ring] | Polygon) -> Ring:
    """Return one ring that goes around all: each of them is joined to those before it."""
    whole, *others = rings
    for ring in others:
        distances, nearest = cKDTree(ring).query(whole)
        corner = int(np.argmin(distances))
        start = int(nearest[corner])
        around = np.concatenate([ring[start:], ring[: start + 1]])
        whole = np.concatenate([whole[: corner + 1], around, whole[corner:]])
    return whole
