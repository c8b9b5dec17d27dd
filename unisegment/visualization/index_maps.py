# SPDX-License-Identifier: Apache-2.0
"""Segments in, one map out that tells at each pixel of a picture which segment is seen there."""

from functools import reduce

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from PIL import Image
from scipy.ndimage import find_objects, gaussian_filter

from unisegment.ops.masks import segment_areas, segment_index_map, segment_index_maps
from unisegment.structures import SegmentationTarget
from unisegment.types import Size

_MARGIN = 3
_MOST_BOXES = 50
"""How often boxes of segments may cover an image; in noise, where they cover it oftener, there is nothing smooth."""
_SOFT, _SOFTER = 0.5, 1.0
"""Standard deviation in pixels of the blur that rounds the steps of an outline. The second loses single pixels."""


def visible_segments(target: SegmentationTarget) -> Int64[np.ndarray, "h w"]:
    """Return the index of the segment that is on top at each pixel, -1 for void."""
    if target.masks is None and target.layers is None:
        return segment_index_map(target).numpy()
    # Segments may overlap: small ones come last, so that they are not hidden.
    order = segment_areas(target).argsort(descending=True, stable=True)
    # The last rank is that of void, whose index is -1 in both directions.
    order, ranks = torch.cat([order, order.new_tensor([-1])]), torch.cat([order.argsort(), order.new_tensor([-1])])
    tops = (ranks[index_map] for index_map in segment_index_maps(target))
    return order[reduce(torch.maximum, tops)].numpy()


def resize_map(index_map: Int64[np.ndarray, "_ _"], size: Size) -> Int64[np.ndarray, "h w"]:
    """Return a map at another size; enlarged, its borders are smooth lines and not steps of pixels."""
    boxes = find_objects(index_map + 2)
    is_noise = sum(_area(box) for box in boxes if box is not None) > _MOST_BOXES * index_map.size
    if size[0] <= index_map.shape[0] or size[1] <= index_map.shape[1] or is_noise:
        rows, columns = (
            (2 * np.arange(new) + 1) * old // (2 * new) for old, new in zip(index_map.shape, size, strict=True)
        )
        return index_map[rows[:, None], columns]
    enlarged = np.full(size, -1, dtype=np.int64)
    strongest = np.zeros(size, dtype=np.float32)
    for place, box in enumerate(boxes):
        if box is None:
            continue
        source, goal = zip(*map(_window, box, index_map.shape, size), strict=True)
        mask = _soft_mask(index_map[source] == place - 1, is_much_larger=size[0] >= 2 * index_map.shape[0])
        strength = _enlarge(mask, source, goal, index_map.shape, size)
        wins = strength > strongest[goal]
        enlarged[goal][wins] = place - 1
        strongest[goal][wins] = strength[wins]
    return enlarged


def _area(box: tuple[slice, slice]) -> int:
    return (box[0].stop - box[0].start) * (box[1].stop - box[1].start)


def _soft_mask(mask: Bool[np.ndarray, "h w"], is_much_larger: bool) -> Float32[np.ndarray, "h w"]:
    """Return how strong a segment is around its outline; the strongest has the pixel."""
    exact = mask.astype(np.float32)
    if not is_much_larger:
        return gaussian_filter(exact, _SOFT, truncate=3)
    softer = gaussian_filter(exact, _SOFTER, truncate=3)
    if np.count_nonzero((softer > 0.5) != mask) < 0.1 * np.count_nonzero(mask):
        return softer
    # So thin or small that this would lose much of it, which neighbours must not take either.
    return 2 * gaussian_filter(exact, _SOFT, truncate=3)


def _window(side: slice, old: int, new: int) -> tuple[slice, slice]:
    """Return a side of a box with a margin, among the pixels of the map and among those of the picture."""
    start, stop = max(side.start - _MARGIN, 0), min(side.stop + _MARGIN, old)
    return slice(start, stop), slice(-(-start * new // old), stop * new // old)


def _enlarge(mask: np.ndarray, source: tuple[slice, ...], goal: tuple[slice, ...], old: Size, new: Size) -> np.ndarray:
    top, bottom, left, right = (
        edge * old[axis] / new[axis] - source[axis].start
        for axis in (0, 1)
        for edge in (goal[axis].start, goal[axis].stop)
    )
    size = (goal[1].stop - goal[1].start, goal[0].stop - goal[0].start)
    return np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.BILINEAR, box=(left, top, right, bottom)))
