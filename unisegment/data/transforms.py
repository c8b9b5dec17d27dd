# SPDX-License-Identifier: Apache-2.0
"""Annotated images in, annotated images of another size or orientation out.

Images are (h, w, 3) arrays of uint8, resampled by Pillow as in the original code, or for the jitter by torch, within
one grey level of Pillow; targets are resampled to the nearest pixel. Every random number comes from the generator that
is handed in. Crowd segments are changed like others.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float32, Int64, Shaped, UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from unisegment.data.collate import pad_target
from unisegment.data.transforms_color import ssd_color
from unisegment.ops.masks import segment_areas
from unisegment.structures import Sample, SegmentationTarget
from unisegment.types import Size

_IMAGE_PADDING = 128
"""Mid-grey, before normalisation. Source: detectron2, FixedSizeCrop; Mask2Former, the data set mappers."""

_LONGEST_SIDE = 2**14
"""Pixels of images that are trained on."""
_LARGEST_SCALE = 10

Window: TypeAlias = tuple[slice, slice]
"""Rows and columns of an image."""
_EVERYTHING: Window = (slice(None), slice(None))

Nearest: TypeAlias = Literal["center", "corner"]
"""Where a new pixel looks for its label: at its centre, or at its upper left corner."""


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
    image: UInt8[np.ndarray, "_ _ c"] | Float32[np.ndarray, "_ _ c"],
    size: Size,
    resample: Image.Resampling = Image.Resampling.BILINEAR,
    window: Window = _EVERYTHING,
) -> UInt8[np.ndarray, "h w c"] | Float32[np.ndarray, "h w c"]:
    """Resize with Pillow, which filters before it shrinks (anti-aliasing).

    Args:
        image: Red, green and blue, 0 to 255, or other channels, which may be floats.
        size: Wanted height and width.
        resample: Pillow's filter.
        window: Part of the resized image that is returned. All of it is made: versions of Pillow differ in whether rows
            or columns come first, and so in how they round, and the `box` of its `resize` is kept in single precision.
    """
    if image.dtype == np.uint8 and image.shape[2] == 3:
        return np.asarray(Image.fromarray(image).resize((size[1], size[0]), resample))[window]
    # Pillow has no colours of floats, and takes a fourth channel for transparency.
    planes = [Image.fromarray(plane).resize((size[1], size[0]), resample) for plane in np.moveaxis(image, 2, 0)]
    return np.stack([np.asarray(plane) for plane in planes], axis=2)[window]


def resize_image_fast(
    image: UInt8[np.ndarray, "_ _ 3"], size: Size, window: Window = _EVERYTHING
) -> UInt8[np.ndarray, "h w 3"]:
    """Resize with torch, three times as fast as Pillow's bilinear filter and within one grey level of it.

    Args:
        image: As in `resize_image`.
        size: As there.
        window: As there.
    """
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]  # a copy, as torch warns of what is read-only
    resized = F.interpolate(pixels, size, mode="bilinear", antialias=True)
    return resized[0].permute(1, 2, 0).numpy()[window]


def resize_target(
    target: SegmentationTarget, size: Size, nearest: Nearest = "center", window: Window = _EVERYTHING
) -> SegmentationTarget:
    """Resize to the nearest pixel. Segments that vanish keep their label and id.

    Args:
        target: What is resized.
        size: Wanted height and width.
        nearest: `center` gives a new pixel the value at its centre, as Pillow does; `corner` the value at its upper
            left corner, as torch's `nearest` does.
        window: Part of the resized target that is returned; the rest is not made.
    """
    rows, columns = (
        _nearest(old, new, nearest)[part] for old, new, part in zip(target.size, size, window, strict=True)
    )
    return _map_grid(target, lambda grid: _take(grid, rows, columns))


def _take(
    grid: Shaped[Tensor, "*n _ _"], rows: Int64[np.ndarray, " h"], columns: Int64[np.ndarray, " w"]
) -> Shaped[Tensor, "*n h w"]:
    # numpy is many times as fast as torch's index_select.
    array = grid.numpy()
    if len(rows) < array.shape[-2]:
        return torch.from_numpy(array.take(rows, -2).take(columns, -1))
    return torch.from_numpy(array.take(columns, -1).take(rows, -2))


def _nearest(old_length: int, new_length: int, nearest: Nearest) -> Int64[np.ndarray, " new_length"]:
    # Pillow and torch are asked: where a point lies on a border, the outcome depends on how they add up the steps.
    if nearest == "corner":
        line = torch.arange(old_length, dtype=torch.float64)
        return F.interpolate(line[None, None], new_length, mode="nearest")[0, 0].to(torch.int64).numpy()
    image = Image.fromarray(np.arange(old_length, dtype=np.int32)[None])
    return np.array(image.resize((new_length, 1), Image.Resampling.NEAREST))[0].astype(np.int64)


def _map_grid(target: SegmentationTarget, function: Callable[[Tensor], Tensor]) -> SegmentationTarget:
    if target.masks is not None:
        return replace(target, masks=function(target.masks))
    assert target.id_map is not None
    return replace(target, id_map=function(target.id_map))


def resize(sample: Sample, size: Size, nearest: Nearest = "center", window: Window = _EVERYTHING) -> Sample:
    """Resize an image and its target; see `resize_target` for `nearest` and `window`."""
    image = resize_image(sample.image, size, window=window)
    return replace(sample, image=image, target=resize_target(sample.target, size, nearest, window))


def flip(sample: Sample) -> Sample:
    """Mirror left and right."""
    target = _map_grid(sample.target, lambda grid: grid.flip(-1))
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
) -> Sample:
    """Resize by a random factor, then crop and pad to a fixed size.

    Segments that are cropped away keep their label: the network is told to find nothing for them, as in the original.

    Args:
        sample: Image and target.
        size: Height and width of the result.
        scale_range: Smallest and largest factor. At 1 the image just fits into `size`.
        generator: Where the random factor and the place of the crop come from.
        nearest: See `resize_target`.

    Source:
        detectron2 (Apache-2.0), ResizeScale and FixedSizeCrop.
    """
    old_size = sample.target.size
    factor = generator.uniform(*scale_range)
    scale = min(factor * new / old for new, old in zip(size, old_size, strict=True))
    new_size = max(round(old_size[0] * scale), 1), max(round(old_size[1] * scale), 1)
    # One random number places the window along both axes.
    position = generator.uniform()
    top, left = (round(max(old - new, 0) * position) for old, new in zip(new_size, size, strict=True))
    window = (slice(top, top + size[0]), slice(left, left + size[1]))
    # Here a grey level stays one: no colours are changed afterwards.
    image = resize_image_fast(sample.image, new_size, window)
    return pad(replace(sample, image=image, target=resize_target(sample.target, new_size, nearest, window)), size)


def pad(sample: Sample, size: Size) -> Sample:
    """Extend the image with mid-grey and the target with void, at the bottom and at the right.

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
    image[height:] = _IMAGE_PADDING
    image[:height, width:] = _IMAGE_PADDING
    image[:height, :width] = sample.image
    return replace(sample, image=image, target=target)


@dataclass(frozen=True, kw_only=True)
class TrainTransform:
    """What happens to a sample before training: flip, resize, crop, colours, large scale jitter, padding.

    With a `crop_size`, the flip comes after the colours. So the order is the one of the original in both of its ways:
    flip and jitter (COCO), or resize, crop, colours, flip and padding (ADE20K, Cityscapes, Mapillary Vistas).

    Args:
        flip_prob: Probability of mirroring, in [0, 1].
        shortest_edge: Length of the short side after resizing, in pixels, or a list of lengths, of which one is drawn
            for each image; None leaves the image as it is.
        longest_edge: Limit of the long side, in pixels; None means no limit.
        nearest: How targets are resized. `center` gives a new pixel the label at its centre. `corner` takes it from
            the upper left corner, which shifts labels by half a pixel: the original does so in semantic training.
        crop_size: Height and width of a window that is cut out at random, where the image is larger; None means no
            crop.
        crop_category_max_area: Share of the window's labelled pixels that each category should stay below, in (0, 1];
            up to 10 windows are drawn. 1 takes the first.
        pad_to_crop: Whether images smaller than `crop_size` are padded to it, with mid-grey and void.
        ssd_color: Whether brightness, contrast, saturation and hue change at random, as for SSD.
        jitter_size: Height and width that large scale jitter crops and pads to; None means no jitter.
        jitter_scale: Smallest and largest factor of the jitter.
        drop_empty: Whether segments without a pixel are left out at the end. The original does so in semantic training
            and, looking at polygons, for COCO's instances; otherwise it keeps their labels, to be found nowhere.

    Raises:
        ValueError: When a value is out of range, or has no effect.
    """

    flip_prob: float = 0.5
    shortest_edge: int | tuple[int, ...] | None = None
    longest_edge: int | None = None
    nearest: Nearest = "center"
    crop_size: Size | None = None
    crop_category_max_area: float = 1.0
    pad_to_crop: bool = False
    ssd_color: bool = False
    jitter_size: Size | None = None
    jitter_scale: tuple[float, float] = (0.1, 2.0)
    drop_empty: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.flip_prob <= 1:
            raise ValueError(f"flip_prob must be in [0, 1], got {self.flip_prob}.")
        if not 0 < self.crop_category_max_area <= 1:
            raise ValueError(f"crop_category_max_area must be in (0, 1], got {self.crop_category_max_area}.")
        if not 0 < self.jitter_scale[0] <= self.jitter_scale[1] <= _LARGEST_SCALE:
            raise ValueError(
                f"jitter_scale must be two factors above 0 and up to {_LARGEST_SCALE}, the smaller one first, got "
                f"{self.jitter_scale}."
            )
        self._check_lengths()
        self._check_combination()

    def _check_lengths(self) -> None:
        for name in ("shortest_edge", "longest_edge", "crop_size", "jitter_size"):
            value = getattr(self, name)
            lengths = (value,) if isinstance(value, int) else value
            longest = 2**31 - 1 if name == "longest_edge" else _LONGEST_SIDE  # a large one is no limit
            if lengths is not None and not (lengths and min(lengths) >= 1 and max(lengths) <= longest):
                raise ValueError(f"{name} must be 1 to {longest:,} pixels, got {value}; null switches it off.")

    def _check_combination(self) -> None:
        if self.longest_edge is not None and self.shortest_edge is None:
            raise ValueError(f"longest_edge={self.longest_edge} only limits shortest_edge: set shortest_edge, too.")
        if self.crop_size is None and (self.pad_to_crop or self.crop_category_max_area < 1):
            raise ValueError("pad_to_crop and crop_category_max_area belong to a crop: set crop_size, too.")
        if self.crop_size is not None and self.jitter_size is not None:
            raise ValueError(
                f"jitter_size={self.jitter_size} crops already: leave out either it or crop_size={self.crop_size}."
            )

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        """Return the changed sample; the same generator state gives the same result."""
        if self.crop_size is None:
            sample = self._flip(sample, generator)
        new_size = self._new_size(sample, generator)
        if self.crop_size is not None:
            max_area = self.crop_category_max_area
            sample = random_crop(sample, self.crop_size, max_area, generator, new_size, self.nearest)
        elif new_size is not None:
            sample = resize(sample, new_size, self.nearest)
        if self.ssd_color:
            sample = replace(sample, image=ssd_color(sample.image, generator))
        if self.crop_size is not None:
            sample = self._flip(sample, generator)
            sample = pad(sample, self.crop_size) if self.pad_to_crop else sample
        if self.jitter_size is not None:
            sample = large_scale_jitter(sample, self.jitter_size, self.jitter_scale, generator, self.nearest)
        return drop_empty_segments(sample) if self.drop_empty else sample

    def _flip(self, sample: Sample, generator: np.random.Generator) -> Sample:
        return flip(sample) if generator.uniform() < self.flip_prob else sample

    def _new_size(self, sample: Sample, generator: np.random.Generator) -> Size | None:
        if self.shortest_edge is None:
            return None
        edges = self.shortest_edge
        edge = edges if isinstance(edges, int) else edges[generator.integers(len(edges))]
        return shortest_edge_size(sample.target.size, edge, self.longest_edge)
