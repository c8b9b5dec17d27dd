# SPDX-License-Identifier: Apache-2.0
"""The forms of a mask: segment ids as colours, run lengths, boxes, and one map of all segments of a target.

Masks, maps and targets enter; the same content leaves in another form. Axes: n segment, h w pixel grid of the image.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int32, Int64, Integer, UInt8
from pycocotools import mask as coco_mask
from torch import Tensor

from unisegment.structures import SegmentationTarget
from unisegment.types import Size

NUM_COLORS = 2**24
"""Segment ids that fit into the three bytes of a colour: 0 to 2**24 - 1."""
_MOST_SYMBOLS = 7
"""Symbols that a run length of 32 bits may take."""


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


def encode_rle(masks: Bool[Tensor, "n h w"]) -> list[dict[str, Any]]:
    """Return each mask as run lengths in COCO's compressed form.

    Returns:
        One dict a mask: `size`, [height, width], and `counts`, a str, so that it can be written as JSON.

    Source: the format of pycocotools (column by column, BSD-2-Clause).
    """
    return [_encode_one(mask) for mask in masks.cpu().numpy()]


def decode_rle(rles: Sequence[dict[str, Any]]) -> Bool[Tensor, "n h w"]:
    """Return the masks of run lengths as `encode_rle` makes them, all of one size.

    Raises:
        ValueError: When there are none, since the size is then unknown, when their sizes differ, or when run lengths
            do not add up to the size.
    """
    sizes = {tuple(rle["size"]) for rle in rles}
    if len(sizes) != 1:
        raise ValueError(f"rles must be one or more masks of one (height, width), got sizes {sorted(sizes)}.")
    (size,) = sizes
    masks = torch.zeros((len(rles), *size), dtype=torch.bool)
    for mask, rle in zip(masks, rles, strict=True):
        mask.view(-1)[torch.from_numpy(pixels_of_rle(rle))] = True
    return masks


def pixels_of_rle(rle: Mapping[str, Any]) -> Int64[np.ndarray, " p"]:
    """Return the pixels inside a mask of run lengths, as places in the image read row by row.

    The time grows with the area of the mask, not with that of the image.

    Args:
        rle: `size`, [height, width], and `counts`, as for `run_lengths`.

    Raises:
        ValueError: When the run lengths do not add up to the size.

    Source: the format of pycocotools (BSD-2-Clause).
    """
    height, width = rle["size"]
    lengths = run_lengths(rle["counts"], (height, width))
    # Runs go down the columns, and on at the top of the next one: they are cut there.
    borders = np.cumsum(lengths)
    starts, ends = borders[:-1:2], borders[1::2]
    starts, ends = starts[starts < ends], ends[starts < ends]
    columns = starts // height
    pieces = (ends - 1) // height + 1 - columns
    columns = _count_up(columns, pieces)
    starts = np.maximum(starts.repeat(pieces), columns * height)
    lengths = np.minimum(ends.repeat(pieces), (columns + 1) * height) - starts
    # From one pixel of a run to the next it is a row. In place: there may be as many as the image has.
    firsts = (starts - columns * height - np.cumsum(lengths) + lengths) * width + columns
    pixels = np.arange(lengths.sum())
    pixels *= width
    pixels += firsts.repeat(lengths)
    return pixels


def run_lengths(counts: str | bytes | Integer[np.ndarray, " r"], size: Size) -> Int64[np.ndarray, " r"]:
    """Return the lengths of runs outside and inside in turn, the first outside.

    Args:
        counts: Run lengths in COCO's compressed form, or as numbers.
        size: Height and width of the image.

    Raises:
        ValueError: When they are in another form, or do not add up to the size.

    Source: the format of pycocotools (BSD-2-Clause).
    """
    numbers = counts.astype(np.int64) if isinstance(counts, np.ndarray) else _uncompressed(counts)
    area = size[0] * size[1]
    if numbers.min(initial=0) < 0 or numbers.max(initial=0) > area or numbers.sum() != area:
        raise ValueError(f"the run lengths (RLE) do not add up to {size[0]}x{size[1]} pixels (height x width).")
    return numbers


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
        nearest = torch.searchsorted(ids, id_map.to(torch.int64)).clamp_(max=len(ids) - 1)
        yield torch.where(ids[nearest] == id_map, places[nearest], -1)


def segment_areas(target: SegmentationTarget) -> Int64[Tensor, " n"]:
    """Return the pixels of each segment of a target in the memory of the processor."""
    if target.masks is not None:
        return torch.tensor([np.count_nonzero(mask) for mask in target.masks.numpy()], dtype=torch.int64)
    assert target.id_map is not None
    assert target.segment_ids is not None
    # Runs of equal pixels are looked up, which are a few per cent of the pixels.
    pixels = target.id_map.numpy().ravel()
    starts = np.flatnonzero(np.diff(pixels, prepend=pixels[:1] - 1))
    lengths = np.diff(starts, append=len(pixels))
    ids, places = np.unique(pixels[starts], return_inverse=True)
    areas = dict(zip(ids.tolist(), np.bincount(places, lengths).tolist(), strict=True))
    return torch.tensor([areas.get(number, 0) for number in target.segment_ids.tolist()], dtype=torch.int64)


def _encode_one(mask: Bool[np.ndarray, "h w"]) -> dict[str, Any]:
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(length) for length in rle["size"]], "counts": rle["counts"].decode("ascii")}


def _uncompressed(counts: str | bytes) -> Int64[np.ndarray, " r"]:
    # Each symbol holds five bits of a number, the lowest first, and a sixth that says whether more follow.
    content = counts.encode("utf-8", "replace") if isinstance(counts, str) else counts
    symbols = np.frombuffer(content, dtype=np.uint8).astype(np.int64) - 48
    lasts = np.flatnonzero(symbols & 32 == 0)
    num_symbols = np.diff(lasts, prepend=-1)
    if symbols.min(initial=0) < 0 or symbols.max(initial=0) > 63 or num_symbols.sum() != len(symbols):
        raise ValueError(f"the run lengths (RLE) are not in COCO's compressed form, got {counts[:20]!r}.")
    if num_symbols.max(initial=0) > _MOST_SYMBOLS:
        raise ValueError(f"the run lengths (RLE) hold numbers of more than {5 * _MOST_SYMBOLS} bits.")
    firsts = lasts + 1 - num_symbols
    shifts = 5 * _count_up(np.zeros_like(firsts), num_symbols)
    numbers = np.add.reduceat((symbols & 31) << shifts, firsts) if len(firsts) else firsts
    # The highest bit is the sign.
    numbers -= (symbols[lasts] >> 4 & 1) << 5 * num_symbols
    # From the fourth on, a number is what a run is longer than the one before the last.
    for first in (1, 2):
        numbers[first::2] = np.cumsum(numbers[first::2])
    return numbers


def _count_up(firsts: Int64[np.ndarray, " r"], counts: Int64[np.ndarray, " r"]) -> Int64[np.ndarray, " p"]:
    """Return for each run the numbers from its first on, as many as it counts, one run behind the other."""
    ends = np.cumsum(counts)
    return np.arange(counts.sum()) + (firsts - ends + counts).repeat(counts)


def _first_and_behind_last(occupied: Bool[Tensor, "n s"]) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " n"]]:
    numbers = occupied.to(torch.uint8)
    # argmax returns the first of equal values, so 0 where nothing is occupied.
    first = numbers.argmax(dim=1)
    behind_last = occupied.shape[1] - numbers.flip(1).argmax(dim=1)
    return first, behind_last * occupied.any(dim=1)
