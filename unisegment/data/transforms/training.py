# SPDX-License-Identifier: Apache-2.0
"""What a recipe says about random changes of training images, as one function of a sample and a generator."""

from dataclasses import dataclass, replace

import numpy as np

from unisegment.data.transforms.color import ssd_color
from unisegment.data.transforms.cropping import drop_empty_segments, flip, large_scale_jitter, pad, random_crop
from unisegment.data.transforms.resizing import Nearest, resize, shortest_edge_size
from unisegment.structures import Sample
from unisegment.types import Size

_LONGEST_SIDE = 2**14
"""Pixels of images that are trained on."""
_LARGEST_SCALE = 10


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
