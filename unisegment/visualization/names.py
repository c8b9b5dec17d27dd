# SPDX-License-Identifier: Apache-2.0
"""A picture and the segments on it in, the name of each segment that has room for it written on the picture out."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int64, UInt8
from PIL import Image, ImageDraw
from scipy.ndimage import distance_transform_cdt, find_objects

from unisegment.types import Size
from unisegment.visualization.colors import Color, plate_color
from unisegment.visualization.fonts import Lettering, letter_size

_INK, _PLATE_OPACITY = (255, 255, 255), 225
"""White letters; the plates under them let through so little that they are read on any ground."""
_COVER, _LEAST_COVER = 0.92, 0.7
"""Part of a name's plate that must lie on its segment, and of the smallest plate that is tried."""
_FINEST_GRID = 400
"""Places for names that are looked at along the long side."""


def write_names(
    picture: Image.Image,
    index_map: Int64[np.ndarray, "h w"],
    names: list[str],
    scores: Sequence[float | None],
    colors: UInt8[np.ndarray, "n 3"],
    lettering: Lettering,
    text_scale: float = 1,
) -> None:
    """Write the names of segments, and their scores where there are any, on the segments.

    Args:
        picture: What is written on.
        index_map: Index of the segment that each pixel of the picture belongs to, -1 for none.
        names: Name of each segment.
        scores: Score of each segment.
        colors: Colour of each segment.
        lettering: The fonts.
        text_scale: How much larger than usual names are.
    """
    # Places are looked for on every `step`th pixel: a finer grid shows no difference and takes much longer.
    step = -(-max(picture.size) // _FINEST_GRID)
    # What the last places would stand for is cut off, so that the border cuts no plate.
    index_map = index_map[::step, ::step][: picture.height // step, : picture.width // step]
    if index_map.size == 0:
        return
    is_free = np.ones(index_map.shape, dtype=np.bool_)
    areas = np.bincount(index_map[index_map >= 0], minlength=len(names))
    boxes = find_objects(index_map + 1, max_label=len(names))
    canvas = ImageDraw.Draw(picture, "RGBA")
    usual = letter_size(picture.size)
    large, small = round(usual * text_scale), usual * 4 // 5
    # Small segments go first: large ones have other places left.
    for index in areas.argsort(kind="stable").tolist():
        with_score = names[index] if scores[index] is None else f"{names[index]} {scores[index]:.2f}"
        tries = [(with_score, large, _COVER), (names[index], large, _COVER), (names[index], small, _LEAST_COVER)]
        for text, size, least in dict.fromkeys(tries):
            height, width = (-(-length // step) for length in _plate_size(text, size, lettering))
            if not text or boxes[index] is None or areas[index] < least * height * width:
                continue
            window = _widened(boxes[index], (height, width))
            corner = _place(index_map[window] == index, is_free[window], (height, width), least)
            if corner is not None:
                top, left = window[0].start + corner[0], window[1].start + corner[1]
                is_free[top : top + height, left : left + width] = False
                plate = plate_color(tuple(colors[index].tolist()))
                _write_plate(canvas, text, size, lettering, (left * step, top * step), plate)
                break


def _write_plate(
    canvas: ImageDraw.ImageDraw, text: str, size: int, lettering: Lettering, corner: tuple[int, int], plate: Color
) -> None:
    left, top = corner
    height, width = _plate_size(text, size, lettering)
    box = (left, top, left + width - 1, top + height - 1)
    canvas.rounded_rectangle(box, radius=height // 4, fill=(*plate, _PLATE_OPACITY))
    canvas.text((left + width / 2, top + height / 2), text, fill=_INK, font=lettering.font(text, size), anchor="mm")


def _plate_size(text: str, size: int, lettering: Lettering) -> Size:
    return round(1.35 * size), round(lettering.font(text, size).getlength(text) + 0.7 * size)


def _widened(box: tuple[slice, slice], plate: Size) -> tuple[slice, slice]:
    # A plate may reach over the edge of its segment.
    rows, columns = (
        slice(max(side.start - length, 0), side.stop + length) for side, length in zip(box, plate, strict=True)
    )
    return rows, columns


def _place(
    mask: Bool[np.ndarray, "h w"], is_free: Bool[np.ndarray, "h w"], size: Size, least: float
) -> tuple[int, int] | None:
    """Return top and left of a rectangle of this size of which at least a part lies on the mask, and all is free."""
    height, width = size
    if height > mask.shape[0] or width > mask.shape[1]:
        return None
    # One taken pixel outweighs all others.
    weights = np.where(is_free, mask, -height * width).astype(np.int64)
    sums = np.pad(weights.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    cover = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    if cover.max() < least * height * width:
        return None
    # Of the best places, one that is far from all others, and in the middle of those.
    depth = distance_transform_cdt(np.pad(cover >= 0.98 * cover.max(), 1))[1:-1, 1:-1]
    places = np.argwhere(depth >= 0.9 * depth.max())
    top, left = places[((places - places.mean(axis=0)) ** 2).sum(axis=1).argmin()]
    return int(top), int(left)
