# SPDX-License-Identifier: Apache-2.0
"""Annotated images in, annotated images of another size or orientation out.

Images are (h, w, 3) arrays of uint8, resampled by Pillow as in the original code; targets are resampled to the
nearest pixel. Every random number comes from the generator that is handed in.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from PIL import Image
from torch import Tensor

from unisegment.data.collate import pad_target
from unisegment.structures import Sample, SegmentationTarget
from unisegment.types import Size

_IMAGE_PADDING = 128
"""Mid-grey, before normalisation. Source: detectron2, FixedSizeCrop."""


def shortest_edge_size(size: Size, shortest_edge: int, longest_edge: int | None) -> Size:
    """Return `size` scaled so that its short side is `shortest_edge` and its long side at most `longest_edge`.

    Args:
        size: Height and width in pixels.
        shortest_edge: Wanted length of the short side in pixels.
        longest_edge: Limit of the long side in pixels, which goes before `shortest_edge`; None means no limit.

    Source:
        detectron2 (Apache-2.0), ResizeShortestEdge: half a pixel is rounded up.
    """
    short = min(size)
    # The short side is taken as it is: multiplied, it could miss a half by a rounding error.
    height, width = (shortest_edge if side == short else side * (shortest_edge / short) for side in size)
    if longest_edge is not None and max(height, width) > longest_edge:
        shrink = longest_edge / max(height, width)
        height, width = height * shrink, width * shrink
    return max(int(height + 0.5), 1), max(int(width + 0.5), 1)


def resize_image(
    image: UInt8[np.ndarray, "_ _ 3"], size: Size, resample: Image.Resampling = Image.Resampling.BILINEAR
) -> UInt8[np.ndarray, "h w 3"]:
    """Resize with Pillow, which filters before it shrinks (anti-aliasing).

    Args:
        image: Red, green and blue, 0 to 255.
        size: Wanted height and width.
        resample: Pillow's filter.
    """
    height, width = size
    return np.asarray(Image.fromarray(image).resize((width, height), resample))


def resize_target(target: SegmentationTarget, size: Size) -> SegmentationTarget:
    """Resize to the nearest pixel: a new pixel takes the value at its centre, as in Pillow.

    Segments that vanish keep their label and id.
    """
    rows, columns = (_nearest(old, new) for old, new in zip(target.size, size, strict=True))
    return _map_grid(target, lambda grid: grid.index_select(-2, rows).index_select(-1, columns))


def _nearest(old_length: int, new_length: int) -> Int64[Tensor, " new_length"]:
    # Pillow itself is asked: where a centre lies on a border, the outcome depends on how it adds up the steps.
    line = Image.fromarray(np.arange(old_length, dtype=np.int32)[None])
    return torch.from_numpy(np.array(line.resize((new_length, 1), Image.Resampling.NEAREST))[0].astype(np.int64))


def _map_grid(target: SegmentationTarget, function: Callable[[Tensor], Tensor]) -> SegmentationTarget:
    if target.masks is not None:
        return replace(target, masks=function(target.masks))
    assert target.id_map is not None
    return replace(target, id_map=function(target.id_map))


def resize(sample: Sample, size: Size) -> Sample:
    """Resize an image and its target."""
    return replace(sample, image=resize_image(sample.image, size), target=resize_target(sample.target, size))


def flip(sample: Sample) -> Sample:
    """Mirror left and right."""
    target = _map_grid(sample.target, lambda grid: grid.flip(-1))
    return replace(sample, image=np.ascontiguousarray(sample.image[:, ::-1]), target=target)


def large_scale_jitter(
    sample: Sample, size: Size, scale_range: tuple[float, float], generator: np.random.Generator
) -> Sample:
    """Resize by a random factor, then crop and pad to a fixed size.

    Segments that are cropped away keep their label: the network is told to find nothing for them, as in the original.

    Args:
        sample: Image and target.
        size: Height and width of the result.
        scale_range: Smallest and largest factor. At 1 the image just fits into `size`.
        generator: Where the random factor and the place of the crop come from.

    Source:
        detectron2 (Apache-2.0), ResizeScale and FixedSizeCrop: one random number places the crop along both axes.
    """
    old_size = sample.target.size
    factor = generator.uniform(*scale_range)
    scale = min(factor * new / old for new, old in zip(size, old_size, strict=True))
    sample = resize(sample, (max(round(old_size[0] * scale), 1), max(round(old_size[1] * scale), 1)))
    position = generator.uniform()
    top, left = (round(max(old - new, 0) * position) for old, new in zip(sample.target.size, size, strict=True))
    return _pad(_crop(sample, top, left, size), size)


def _crop(sample: Sample, top: int, left: int, size: Size) -> Sample:
    window = (..., slice(top, top + size[0]), slice(left, left + size[1]))
    return replace(
        sample, image=sample.image[window[1:]], target=_map_grid(sample.target, lambda grid: grid[window].contiguous())
    )


def _pad(sample: Sample, size: Size) -> Sample:
    height, width = sample.target.size
    padding = ((0, size[0] - height), (0, size[1] - width), (0, 0))
    image = np.pad(sample.image, padding, constant_values=_IMAGE_PADDING)
    return replace(sample, image=image, target=pad_target(sample.target, size))


@dataclass(frozen=True, kw_only=True)
class TrainTransform:
    """What happens to a sample before training: flip, then resize, then large scale jitter.

    Args:
        flip_prob: Probability of mirroring, in [0, 1].
        shortest_edge: Length of the short side after resizing, in pixels; None leaves the image as it is.
        longest_edge: Limit of the long side, in pixels; None means no limit.
        jitter_size: Height and width that large scale jitter crops and pads to; None means no jitter.
        jitter_scale: Smallest and largest factor of the jitter.

    Raises:
        ValueError: When a value is out of range, or has no effect.
    """

    flip_prob: float = 0.5
    shortest_edge: int | None = None
    longest_edge: int | None = None
    jitter_size: Size | None = None
    jitter_scale: tuple[float, float] = (0.1, 2.0)

    def __post_init__(self) -> None:
        if not 0 <= self.flip_prob <= 1:
            raise ValueError(f"flip_prob must be in [0, 1], got {self.flip_prob}.")
        if self.longest_edge is not None and self.shortest_edge is None:
            raise ValueError(f"longest_edge={self.longest_edge} only limits shortest_edge: set shortest_edge, too.")
        if not 0 < self.jitter_scale[0] <= self.jitter_scale[1]:
            raise ValueError(
                f"jitter_scale must be two factors above 0, the smaller one first, got {self.jitter_scale}."
            )

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        """Return the changed sample; the same generator state gives the same result."""
        if generator.uniform() < self.flip_prob:
            sample = flip(sample)
        if self.shortest_edge is not None:
            size = shortest_edge_size(sample.target.size, self.shortest_edge, self.longest_edge)
            sample = resize(sample, size)
        if self.jitter_size is not None:
            sample = large_scale_jitter(sample, self.jitter_size, self.jitter_scale, generator)
        return sample
