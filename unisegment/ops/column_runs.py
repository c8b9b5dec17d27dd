# SPDX-License-Identifier: Apache-2.0
"""Segments in; the runs of their pixels down the columns, and areas, boxes and centroids out.

A few per cent of an image's pixels begin a run, so what is made of runs takes little time and memory.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64, Integer

from unisegment.ops.masks import segment_index_maps
from unisegment.structures import SegmentationTarget


class ColumnRuns(NamedTuple):
    """Pixels of a segment, column by column from the left, each column from the top.

    Args:
        columns: Column of each run.
        tops: Row of its first pixel.
        bottoms: Row behind its last pixel.
    """

    columns: Int64[np.ndarray, " r"]
    tops: Int64[np.ndarray, " r"]
    bottoms: Int64[np.ndarray, " r"]


class Extents(NamedTuple):
    """How large segments are, and where.

    Args:
        areas: Pixels of each.
        boxes: (x0, y0, x1, y1) in pixels; x1 and y1 lie behind the last pixel. Zeros for an empty segment.
        centroids: (x, y), the mean of its pixels' centres, which lie at halves: that of the pixel in the corner is
            (0.5, 0.5). NaN for an empty segment.
    """

    areas: Int64[np.ndarray, " n"]
    boxes: Int64[np.ndarray, "n 4"]
    centroids: Float64[np.ndarray, "n 2"]


def runs_of_mask(mask: Bool[np.ndarray, "h w"]) -> ColumnRuns:
    """Return the runs of one mask; what takes time is its box, not the image."""
    rows, columns = box_of_mask(mask)
    runs, _ = _runs(mask[rows, columns].view(np.int8) - 1)
    return ColumnRuns(runs.columns + columns.start, runs.tops + rows.start, runs.bottoms + rows.start)


def runs_of_segments(target: SegmentationTarget) -> Iterator[ColumnRuns]:
    """Give the runs of each segment of a target in the memory of the processor."""
    if target.masks is not None:
        yield from map(runs_of_mask, target.masks.numpy())
        return
    # A segment is in one of the maps.
    found, owners_of_maps = zip(*(_runs(index_map.numpy()) for index_map in segment_index_maps(target)), strict=True)
    runs = ColumnRuns(*map(np.concatenate, zip(*found, strict=True)))
    owners = np.concatenate(owners_of_maps)
    order = owners.argsort(kind="stable")
    ends = np.bincount(owners, minlength=len(target)).cumsum()
    for start, end in pairwise([0, *ends.tolist()]):
        yield ColumnRuns(*(numbers[order[start:end]] for numbers in runs))


def box_of_mask(mask: Bool[np.ndarray, "h w"]) -> tuple[slice, slice]:
    """Return the rows and columns of the smallest box around a mask, both empty where it is."""
    sides = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    rows, columns = (slice(side[0], side[-1] + 1) if len(side) else slice(0, 0) for side in sides)
    return rows, columns


def extents(target: SegmentationTarget) -> Extents:
    """Return areas, boxes and centroids of the segments of a target in the memory of the processor."""
    found = Extents(
        np.zeros(len(target), np.int64), np.zeros((len(target), 4), np.int64), np.full((len(target), 2), np.nan)
    )
    for index, (columns, tops, bottoms) in enumerate(runs_of_segments(target)):
        if len(columns) == 0:
            continue
        lengths = bottoms - tops
        found.areas[index] = area = lengths.sum()
        found.boxes[index] = columns[0], tops.min(), columns[-1] + 1, bottoms.max()
        # Whole numbers until the division, so that the order of the pixels makes no difference.
        twice = lengths @ (2 * columns + 1), lengths @ (tops + bottoms)
        found.centroids[index] = np.array(twice) / (2 * area)
    return found


def _runs(index_map: Integer[np.ndarray, "h w"]) -> tuple[ColumnRuns, Int64[np.ndarray, " r"]]:
    """Return the runs of all segments, and the segment of each: its number in the map, where void is -1."""
    height = index_map.shape[0]
    pixels = np.ascontiguousarray(index_map.T)
    begins = np.ones(pixels.shape, dtype=np.bool_)
    np.not_equal(pixels[:, 1:], pixels[:, :-1], out=begins[:, 1:])
    starts = np.flatnonzero(begins)
    lengths = np.diff(starts, append=pixels.size)
    owners = pixels.ravel()[starts].astype(np.int64)
    is_inside = owners >= 0
    columns, tops = np.divmod(starts[is_inside], max(height, 1))
    return ColumnRuns(columns, tops, tops + lengths[is_inside]), owners[is_inside]
