# SPDX-License-Identifier: Apache-2.0
"""COCO's run lengths (RLE) of masks: written, read, and turned into pixels.

Axes: n segment, h w pixel grid of the image, p pixel, r run.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int64, Integer
from pycocotools import mask as coco_mask
from torch import Tensor

from unisegment.ops.column_runs import ColumnRuns, runs_of_mask, runs_of_segments
from unisegment.structures import SegmentationTarget
from unisegment.types import Size

_MOST_SYMBOLS = 7
"""Symbols that a run length of 32 bits may take."""


def encode_rle(masks: Bool[Tensor, "n h w"]) -> list[dict[str, Any]]:
    """Return each mask as run lengths in COCO's compressed form.

    Returns:
        One dict a mask: `size`, [height, width], and `counts`, a str, so that it can be written as JSON.

    Source: the format of pycocotools (column by column, BSD-2-Clause).
    """
    return [_encode(runs_of_mask(mask), mask.shape) for mask in masks.cpu().numpy()]


def encode_segments(target: SegmentationTarget) -> list[dict[str, Any]]:
    """Return each segment of a target in the memory of the processor as `encode_rle` does."""
    return [_encode(runs, target.size) for runs in runs_of_segments(target)]


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


def _encode(runs: ColumnRuns, size: Size) -> dict[str, Any]:
    height, width = (int(length) for length in size)
    starts, ends = runs.columns * height + runs.tops, runs.columns * height + runs.bottoms
    # A run that goes on at the top of the next column is one.
    goes_on = ends[:-1] == starts[1:]
    starts, ends = np.delete(starts, np.flatnonzero(goes_on) + 1), np.delete(ends, np.flatnonzero(goes_on))
    counts = np.diff(np.stack([starts, ends], axis=1).ravel(), prepend=0)
    rest = height * width - (ends[-1] if len(ends) else 0)
    # Counts are of pixels outside and inside in turn, the first outside.
    if rest or len(counts) == 0:
        counts = np.append(counts, rest)
    rle = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return {"size": [height, width], "counts": rle["counts"].decode("ascii")}


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
