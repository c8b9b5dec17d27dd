# SPDX-License-Identifier: Apache-2.0
"""Annotated images in, the same mirrored, cut out at random, or padded out."""

from dataclasses import replace

import numpy as np
import torch

from unisegment.data.collate import pad_target
from unisegment.data.transforms.resizing import Nearest, map_grid, resize_image, resize_image_fast, resize_target
from unisegment.ops.masks import segment_areas
from unisegment.structures import Sample, SegmentationTarget
from unisegment.types import Size

MID_GREY = 128
"""What images are padded with, before normalisation. Source: detectron2, FixedSizeCrop; Mask2Former's mappers."""


def flip(sample: Sample) -> Sample:
    """Mirror left and right."""
    target = map_grid(sample.target, lambda grid: grid.flip(-1))
    return replace(sample, image=np.ascontiguousarray(sample.image[:, ::-1]), target=target)


def random_crop(
    sample: Sample,
    size: Size,
    category_max_area: float,
    generator: np.random.Generator,
    new_size: Size | None = None,
    nearest: Nearest = "center",
) -> Sample:
    """Cut out a window at a random place, or the whole length of a side that is no longer than the window.

    Args:
        sample: Image and target.
        size: Height and width of the window.
        category_max_area: Share of the labelled pixels that each category must stay below. Up to ten windows are drawn
            until one does so and holds two categories; the last is taken as it is. 1 takes the first.
        generator: Where the place comes from: a row, then a column, for every try.
        new_size: Size that the sample is resized to first; None leaves it as it is.
        nearest: See `resize_target`.

    Source:
        detectron2 (Apache-2.0), RandomCrop and RandomCrop_CategoryAreaConstraint.
    """
    new_size = new_size or sample.target.size
    for _ in range(10):
        top, left = (int(generator.integers(max(new - old, 0) + 1)) for new, old in zip(new_size, size, strict=True))
        window = (slice(top, top + size[0]), slice(left, left + size[1]))
        target = resize_target(sample.target, new_size, nearest, window)
        if category_max_area >= 1 or _is_mixed(target, category_max_area):
            break
    return replace(sample, image=resize_image(sample.image, new_size, window=window), target=target)


def _is_mixed(target: SegmentationTarget, category_max_area: float) -> bool:
    areas = torch.bincount(target.labels, weights=segment_areas(target).double())
    return bool((areas > 0).sum() > 1 and areas.max() < areas.sum() * category_max_area)


def drop_empty_segments(sample: Sample) -> Sample:
    """Leave out the segments that have no pixel."""
    return replace(sample, target=sample.target.select(segment_areas(sample.target) > 0))


def large_scale_jitter(
    sample: Sample,
    size: Size,
    scale_range: tuple[float, float],
    generator: np.random.Generator,
    nearest: Nearest = "center",
    window_size: Size | None = None,
    pad_value: int = MID_GREY,
) -> Sample:
    """Resize by a random factor, then crop and pad to a fixed size.

    Segments that are cropped away keep their label: the network is told to find nothing for them, as in the original.

    Args:
        sample: Image and target.
        size: Height and width of the result, unless there is a `window_size`.
        scale_range: Smallest and largest factor. At 1 the image just fits into `size`.
        generator: Where the random factor and the place of the crop come from.
        nearest: See `resize_target`.
        window_size: Height and width of the result, of an image that is resized as if it were `size`.
        pad_value: See `pad`.

    Source:
        detectron2 (Apache-2.0), ResizeScale and FixedSizeCrop.
    """
    old_size = sample.target.size
    factor = generator.uniform(*scale_range)
    scale = min(factor * new / old for new, old in zip(size, old_size, strict=True))
    new_size = max(round(old_size[0] * scale), 1), max(round(old_size[1] * scale), 1)
    size = window_size or size
    # One random number places the window along both axes.
    position = generator.uniform()
    top, left = (round(max(old - new, 0) * position) for old, new in zip(new_size, size, strict=True))
    window = (slice(top, top + size[0]), slice(left, left + size[1]))
    # Here a grey level stays one: no colours are changed afterwards.
    image = resize_image_fast(sample.image, new_size, window)
    target = resize_target(sample.target, new_size, nearest, window)
    return pad(replace(sample, image=image, target=target), size, pad_value)


def pad(sample: Sample, size: Size, value: int = MID_GREY) -> Sample:
    """Extend the image with a grey and the target with void, at the bottom and at the right.

    Args:
        sample: Image and target.
        size: Height and width of the result.
        value: The grey, from 0 to 255.

    Raises:
        ValueError: When the sample is larger than `size`.

    Source:
        Mask2Former (MIT), the data set mappers, there called SIZE_DIVISIBILITY.
    """
    target = pad_target(sample.target, size)
    height, width = sample.target.size
    if (height, width) == size:
        return sample
    # In the same order in memory: torch resizes to one plane for each colour, which are quick to normalise, too.
    image = np.empty_like(sample.image, shape=(*size, 3))
    image[height:] = value
    image[:height, width:] = value
    image[:height, :width] = sample.image
    return replace(sample, image=image, target=target)
