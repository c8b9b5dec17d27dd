# SPDX-License-Identifier: Apache-2.0
"""The forms of a mask: segment ids as colours, boxes, and one map of all segments of a target.

Masks, maps and targets enter; the same content leaves in another form. Axes: n segment, h w pixel grid of the image.
"""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Bool, Int, Int32, Int64, Integer, UInt8
from torch import Tensor

from unisegment.structures import SegmentationTarget

NUM_COLORS = 2**24
"""Segment ids that fit into the three bytes of a colour: 0 to 2**24 - 1."""


def rgb_to_ids(colors: UInt8[np.ndarray, "h w 3"]) -> Int32[np.ndarray, "h w"]:
    """Return the segment id that each colour stands for: red + 256 green + 65536 blue.

    Args:
        colors: Red, green and blue of each pixel, as in the PNG files of COCO panoptic data sets.

    Raises:
        ValueError: When the array is not (height, width, 3) of uint8.
    """
    if colors.ndim != 3 or colors.shape[-1] != 3 or colors.dtype != np.uint8:
        raise ValueError(f"colors must be (height, width, 3) of uint8, got {colors.shape} of {colors.dtype}.")
    ids = colors[..., 2].astype(np.int32)
    for channel in (1, 0):
        ids <<= 8
        ids |= colors[..., channel]
    return ids


def ids_to_rgb(ids: Integer[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Return the colour that stands for each segment id: the inverse of `rgb_to_ids`.

    Raises:
        ValueError: When an id does not fit into three bytes.
    """
    if ids.size and not 0 <= ids.min() <= ids.max() < NUM_COLORS:
        raise ValueError(
            f"ids must be from 0 to {NUM_COLORS - 1} to fit into a colour, got {ids.min()} to {ids.max()}; "
            "renumber the segments."
        )
    return np.stack([ids >> shift & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8)


def boxes_from_masks(masks: Bool[Tensor, "n h w"]) -> Int64[Tensor, "n 4"]:
    """Return the smallest box around each mask.

    Returns:
        (x0, y0, x1, y1) in pixels; x1 and y1 lie behind the last pixel, so x1 - x0 is the width. Zeros for an empty
        mask.
    """
    x0, x1 = _first_and_behind_last(masks.any(dim=1))
    y0, y1 = _first_and_behind_last(masks.any(dim=2))
    return torch.stack([x0, y0, x1, y1], dim=1)


def segment_index_map(target: SegmentationTarget) -> Int64[Tensor, "h w"]:
    """Return for each pixel the place of its segment in the target's lists, -1 where it is void.

    Raises:
        ValueError: When segments overlap, as one pixel can then not be given to one segment.
    """
    first, *others = segment_index_maps(target)
    for found in others:
        both = (first >= 0) & (found >= 0)
        if both.any():
            raise ValueError(
                f"segments {int(first[both].max())} and {int(found[both].max())} of a SegmentationTarget overlap, but "
                "here each pixel must belong to one segment; give an id_map, or masks that do not overlap."
            )
        first = torch.maximum(first, found)
    return first


def segment_index_maps(target: SegmentationTarget) -> Iterator[Int64[Tensor, "h w"]]:
    """Give what `segment_index_map` returns, for segments that overlap: in one map none do.

    The first map of a target without segments is all void. One map exists at a time.
    """
    if target.masks is not None or len(target) == 0:
        yield torch.full(target.size, -1, dtype=torch.int64, device=target.labels.device)
        for index in range(len(target)):
            yield torch.where(target.mask(index), index, -1)
        return
    assert target.id_map is not None
    assert target.segment_ids is not None
    ids, places = target.segment_ids.sort()
    for id_map in target.id_map.view(-1, *target.size):
        if id_map.device == torch.device("cpu"):
            values, lengths = pixel_runs(id_map.numpy().ravel())
            found = _places_of(torch.from_numpy(values), ids, places).numpy()
            yield torch.from_numpy(np.repeat(found, lengths)).view(target.size)
        else:
            yield _places_of(id_map, ids, places)


def _places_of(
    values: Int[Tensor, " *s"], ids: Int64[Tensor, " n"], places: Int64[Tensor, " n"]
) -> Int64[Tensor, " *s"]:
    """Return for each value the place of its id, -1 where there is none; `ids` are sorted."""
    nearest = torch.searchsorted(ids, values.to(torch.int64)).clamp_(max=len(ids) - 1)
    return torch.where(ids[nearest] == values, places[nearest], -1)


def segment_areas(target: SegmentationTarget) -> Int64[Tensor, " n"]:
    """Return the pixels of each segment of a target in the memory of the processor."""
    if target.masks is not None:
        return torch.tensor([np.count_nonzero(mask) for mask in target.masks.numpy()], dtype=torch.int64)
    assert target.id_map is not None
    assert target.segment_ids is not None
    values, lengths = pixel_runs(target.id_map.numpy().ravel())
    ids, places = np.unique(values, return_inverse=True)
    areas = dict(zip(ids.tolist(), np.bincount(places, lengths).tolist(), strict=True))
    return torch.tensor([areas.get(number, 0) for number in target.segment_ids.tolist()], dtype=torch.int64)


def pixel_runs(pixels: Integer[np.ndarray, " p"]) -> tuple[Integer[np.ndarray, " r"], Int64[np.ndarray, " r"]]:
    """Return the value and the length of each run of equal pixels: in maps of segments a few per cent of the pixels."""
    starts = np.append(0, np.flatnonzero(pixels[1:] != pixels[:-1]) + 1)[: len(pixels)]
    return pixels[starts], np.diff(starts, append=len(pixels))


def _first_and_behind_last(occupied: Bool[Tensor, "n s"]) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " n"]]:
    numbers = occupied.to(torch.uint8)
    # argmax returns the first of equal values, so 0 where nothing is occupied.
    first = numbers.argmax(dim=1)
    behind_last = occupied.shape[1] - numbers.flip(1).argmax(dim=1)
    return first, behind_last * occupied.any(dim=1)
