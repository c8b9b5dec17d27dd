# SPDX-License-Identifier: Apache-2.0
"""Class and mask logits of square windows of an image in, the scores of all its pixels out.

The image is cut along its long side into squares as long as its short side. They overlap evenly, and where they do,
scores are averaged; the averaged scores are resized. Axes: n window, q query, k class (the last logit is "no object"),
h w mask grid of a window or, where said, the wanted size.

Source:
    EoMT (arXiv:2503.19108), lightning_module.py, window_imgs_semantic and revert_window_logits_semantic.
"""

from collections.abc import Sequence
from math import ceil

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from unisegment.ops.transfers import send
from unisegment.postprocessing.resize import Frame, RowsBetween, blend_rows, interpolate, rows_between
from unisegment.postprocessing.semantic import ClassScores, class_scores
from unisegment.types import Size, Window


def square_windows(size: Size) -> list[Window]:
    """Return the windows of an image, from the top or from the left.

    Args:
        size: Its height and width.
    """
    side, length = min(size), max(size)
    count = ceil(length / side)
    starts = [number * (length - side) // max(count - 1, 1) for number in range(count)]
    parts, whole = [slice(start, start + side) for start in starts], slice(0, side)
    return [(part, whole) if size[0] > size[1] else (whole, part) for part in parts]


def window_scores(
    class_logits: Float[Tensor, "n q k"],
    mask_logits: Float[Tensor, "n q h w"],
    windows: Sequence[Window],
    frame: Frame,
) -> ClassScores:
    """Return the scores that the queries of all windows give to the pixels of their image.

    Args:
        class_logits: Logits of the classes and, last, of "no object".
        mask_logits: Logits on the mask grid of each window.
        windows: Where each of them lies in the image.
        frame: Size of the image that was cut, and of the result.
    """
    (height, width), (wanted_height, wanted_width), stride = frame
    sizes = [(rows.stop - rows.start, columns.stop - columns.start) for rows, columns in windows]
    parts = [
        class_scores(of_window, masks, Frame(size, size, stride))
        for of_window, masks, size in zip(class_logits, mask_logits, sizes, strict=True)
    ]
    num_classes, device = parts[0].num_classes, mask_logits.device
    between = rows_between(height, wanted_height, torch.device("cpu"))

    def of_rows(rows: slice) -> Float32[Tensor, "k _ w_wanted"]:
        upper, lower, weight = between.of(rows)
        seen = slice(int(upper[0]), int(lower[-1]) + 1)
        mean = _mean(parts, windows, seen, width)
        own = RowsBetween(*(send(part, device) for part in (upper - seen.start, lower - seen.start, weight)))
        return interpolate(blend_rows(mean, own), (rows.stop - rows.start, wanted_width))

    rows_of_one = ceil(height / wanted_height) + 1
    row_elements = rows_of_one * (parts[0].row_elements + num_classes * width) + num_classes * wanted_width
    return ClassScores(frame.target_size, num_classes, row_elements, device, of_rows)


def _mean(
    parts: Sequence[ClassScores], windows: Sequence[Window], rows: slice, width: int
) -> Float32[Tensor, "k _ width"]:
    """Return the mean of the windows' scores in some rows of the image that was cut."""
    scores = torch.zeros(parts[0].num_classes, rows.stop - rows.start, width, device=parts[0].device)
    counts = torch.zeros_like(scores[0])
    for part, (own_rows, columns) in zip(parts, windows, strict=True):
        first, end = max(rows.start, own_rows.start), min(rows.stop, own_rows.stop)
        if first < end:
            place = slice(first - rows.start, end - rows.start), columns
            scores[:, *place] += part.of_rows(slice(first - own_rows.start, end - own_rows.start))
            counts[place] += 1
    return scores.div_(counts)
